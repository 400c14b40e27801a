//! The application changes its posts: authors, counts, rows that are deleted, created anew, or restored from a backup.
//! After the next scan everybody is told what PostgreSQL has.

use std::collections::HashSet;

use fred::interfaces::{HashesInterface, KeysInterface, LuaInterface, SetsInterface};
use serde_json::json;
use testkit::{
    SOON, eventually,
    http::Client,
    postgres,
    posts::{IdType, PostsTable, ledger_viewers},
    process::Daemon,
    redis::RedisServer,
    tokens,
};
use view_syncd::drain::Urgency;

use crate::{
    crowd::{Crowd, Habit, LOAD},
    support::{SECRET, World, drain_deferred},
};

async fn verdict(client: &Client, viewer: &str, post: &str) -> String {
    let token = tokens::hs256(SECRET, viewer);
    let answer = client.post_json("/posts/view", Some(&token), &json!({ "postId": post })).await;
    if answer.status != 200 {
        return answer.status.to_string();
    }
    let body = answer.json();
    format!("{} {}", body["status"].as_str().unwrap(), body["viewsCount"])
}

async fn members(world: &World, post: &str) -> HashSet<String> {
    let members: Vec<String> = world.redis.smembers(format!("post:{post}:views")).await.unwrap();
    members.into_iter().collect()
}

fn viewers(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|viewer| viewer.to_string()).collect()
}

fn texts(viewers: &[String]) -> Vec<&str> {
    viewers.iter().map(String::as_str).collect()
}

/// One more cycle of a daemon.
async fn cycle(daemon: &Daemon) {
    // One that is under way now does not count: it may have been where the change is already.
    let before = daemon.lines_with("Starting views synchronization").len() - daemon.lines_with("Sync failed").len();
    daemon.signal("HUP");
    daemon.wait_for_nth_line(before + 1, "Sync completed").await;
}

#[tokio::test]
async fn whose_post_it_is_is_known_after_a_scan() {
    let world = World::new().await;
    world.posts.insert_post(&world.sql, "7", "50").await;
    let daemon = world.daemon().env("SYNC_LINGER", "10ms").start();
    let (_ingest, client) = world.ingest().await;
    assert_eq!(verdict(&client, "50", "7").await, "own 0");
    assert_eq!(verdict(&client, "51", "7").await, "counted 1");
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;

    world.sql.batch_execute("update posts set author_id = 51 where id = 7").await.unwrap();
    cycle(&daemon).await;
    assert_eq!(world.author("7").await.as_deref(), Some("51"));
    assert_eq!(verdict(&client, "51", "7").await, "own 1");
    assert_eq!(verdict(&client, "50", "7").await, "counted 2");
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;

    world.sql.batch_execute("update posts set author_id = null where id = 7").await.unwrap();
    cycle(&daemon).await;
    assert_eq!(verdict(&client, "51", "7").await, "duplicate 2");
    world.sql.batch_execute("update posts set author_id = 52 where id = 7").await.unwrap();
    cycle(&daemon).await;
    assert_eq!(verdict(&client, "52", "7").await, "own 2");
    world.assert_views("7", 2).await;
}

#[tokio::test]
async fn an_author_that_is_stored_in_another_spelling_is_own_after_a_scan() {
    let database = postgres::shared().await.database().await;
    let world = World::with_stores(RedisServer::start().await, database, PostsTable::with_ids(IdType::Text)).await;
    world.posts.insert_post(&world.sql, "p", "nobody").await;
    let daemon = world.daemon().env("SYNC_LINGER", "10ms").start();
    let (_ingest, client) = world.ingest().await;
    assert_eq!(verdict(&client, "anna", "p").await, "counted 1");
    let author = "0000000a-0000-4000-8000-00000000000b";
    for spelling in [author.to_uppercase(), author.replace('-', ""), author.to_uppercase().replace('-', "")] {
        world.sql.batch_execute(&format!("update posts set author_id = '{spelling}'")).await.unwrap();
        cycle(&daemon).await;
        assert_eq!(world.author("p").await.as_deref(), Some(author), "{spelling}");
        assert_eq!(verdict(&client, author, "p").await, "own 1", "{spelling}");
        assert_eq!(verdict(&client, &author.to_uppercase(), "p").await, "own 1", "{spelling}");
    }
}

#[tokio::test]
async fn of_a_post_that_was_created_anew_nobody_is_a_duplicate() {
    let world = World::new().await;
    world.post("7").await;
    let all = viewers(1..=3_000);
    world.record("7", &texts(&all)).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    world.assert_views("7", 3_000).await;
    world.posts.delete_post(&world.sql, "7").await;
    world.post("7").await;
    synchronizer.cycle().await.unwrap();
    assert_eq!(members(&world, "7").await.len(), 0);
    world.assert_views("7", 0).await;
    assert_eq!(world.meta("7").await[1], 0, "`recorded` is the size of the set");
    let (_ingest, client) = world.ingest().await;
    assert_eq!(verdict(&client, "1", "7").await, "counted 1");
    synchronizer.cycle().await.unwrap();
    synchronizer.cycle().await.unwrap();
    world.assert_views("7", 1).await;
    assert_eq!(members(&world, "7").await, HashSet::from(["1".to_owned()]));
}

#[tokio::test]
async fn new_views_do_not_hide_that_a_post_was_created_anew() {
    for new in [1_u32, 3, 5, 8] {
        let world = World::new().await;
        world.post("7").await;
        let old = viewers(1..=3);
        world.record("7", &texts(&old)).await;
        let mut synchronizer = world.synchronizer(&[]).await;
        synchronizer.cycle().await.unwrap();
        world.posts.delete_post(&world.sql, "7").await;
        world.post("7").await;
        let new = viewers(101..=100 + new);
        for viewer in &new {
            world.record("7", &[viewer]).await;
            synchronizer.drain(Urgency::AtOnce).await.unwrap();
        }
        world.assert_views("7", new.len() as i64).await;
        synchronizer.cycle().await.unwrap();
        world.assert_views("7", new.len() as i64).await;
        assert_eq!(members(&world, "7").await, new.iter().cloned().collect());
    }
}

#[tokio::test]
async fn views_that_wait_are_neither_lost_nor_doubled_when_a_post_is_created_anew() {
    let world = World::new().await;
    world.post("7").await;
    let old = viewers(1..=3_000);
    world.record("7", &texts(&old)).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    world.posts.delete_post(&world.sql, "7").await;
    world.post("7").await;
    // Somebody locks the new row, so that these wait in the outbox during the scan.
    let locker = world.database.client().await;
    locker.batch_execute("begin; select from posts where id = 7 for update").await.unwrap();
    let waiting = viewers(10_001..=10_050);
    world.record("7", &texts(&waiting)).await;
    // One of the old viewers views again from a process that does not know him: he waits, too.
    world.add_entry(vec![("7", "5")]).await;
    synchronizer.cycle().await.unwrap();
    let mut expected: HashSet<String> = waiting.iter().cloned().collect();
    expected.insert("5".to_owned());
    assert_eq!(members(&world, "7").await, expected);
    assert_eq!(world.outbox_length().await, 2);
    locker.batch_execute("commit").await.unwrap();
    drain_deferred(&mut synchronizer).await;
    synchronizer.cycle().await.unwrap();
    synchronizer.cycle().await.unwrap();
    world.assert_views("7", 51).await;
    assert_eq!(members(&world, "7").await, expected);
}

#[tokio::test]
async fn a_ledger_that_was_restored_from_a_backup_is_the_truth() {
    let world = World::new().await;
    for post in ["7", "8", "9"] {
        world.post(post).await;
    }
    let all = viewers(1..=3_000);
    world.record("7", &texts(&all)).await;
    world.record("8", &["1", "2", "3"]).await;
    world.record("9", &["1"]).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    world
        .sql
        .batch_execute(
            "delete from post_views where user_id > 2000 or post_id = 8 and user_id = 2;
             update posts set views_count = (select count(*) from post_views where post_id = id)",
        )
        .await
        .unwrap();
    synchronizer.cycle().await.unwrap();
    world.assert_views("7", 2_000).await;
    world.assert_views("8", 2).await;
    world.assert_views("9", 1).await;
    assert_eq!(members(&world, "7").await, viewers(1..=2_000).into_iter().collect());
    assert_eq!(members(&world, "8").await, HashSet::from(["1".to_owned(), "3".to_owned()]));
    let (_ingest, client) = world.ingest().await;
    assert_eq!(verdict(&client, "2", "8").await, "counted 3");
    assert_eq!(verdict(&client, "1", "8").await, "duplicate 3");
    assert_eq!(verdict(&client, "2500", "7").await, "counted 2001");
    synchronizer.cycle().await.unwrap();
    world.assert_views("7", 2_001).await;
    world.assert_views("8", 3).await;
}

#[tokio::test]
async fn a_backup_that_is_restored_while_views_are_drained_loses_none_of_them() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &texts(&viewers(1..=100))).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    // Half of what is new is drained before the scan, and the count is higher than ever by then.
    let restore = "delete from post_views where user_id > 50; update posts set views_count = 50";
    world.record("7", &texts(&viewers(101..=160))).await;
    world.sql.batch_execute(restore).await.unwrap();
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    world.record("7", &texts(&viewers(161..=200))).await;
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    assert_eq!(world.stored("7").await, 150);
    assert_eq!(world.live("7").await, 150);
    synchronizer.cycle().await.unwrap();
    world.assert_views("7", 150).await;
    let expected: HashSet<String> = viewers(1..=50).into_iter().chain(viewers(101..=200)).collect();
    assert_eq!(members(&world, "7").await, expected);
}

/// A whole database is restored: thousands of sets are compared with the ledger, and new views go on reaching it.
#[tokio::test]
async fn views_go_on_while_the_ledger_of_many_posts_is_restored() {
    const POSTS: i64 = 4_000;
    let world = World::new().await;
    world.post("7").await;
    let posts = format!("insert into posts select post, 999999, 1 from generate_series(1001, {}) post", 1_000 + POSTS);
    world.sql.batch_execute(&format!("{posts}; insert into post_views select id, 1 from posts where id > 1000")).await.unwrap();
    // The restored ledger lacks the second viewer of each.
    let script = "for post = 1001, 1000 + ARGV[1] do
        redis.call('SADD', 'post:' .. post .. ':views', '1', '2')
        redis.call('HSET', '{post:' .. post .. ':views}:meta', 'author', '999999', 'persisted', '2', 'recorded', '2', 'acked', '2')
      end";
    let () = world.redis.eval(script, Vec::<String>::new(), vec![POSTS]).await.unwrap();
    let daemon = world.daemon().env("SYNC_LINGER", "10ms").start();
    let mut viewer = 0;
    let first = "{post:1001:views}:meta";
    let is_restored = async || world.redis.hget::<i64, _, _>(first, "persisted").await.unwrap() == 1;
    eventually("the scan has begun", SOON, async || is_restored().await).await;
    while daemon.lines_with("Sync completed").is_empty() {
        viewer += 1;
        world.record("7", &[&viewer.to_string()]).await;
        let over = async || !daemon.lines_with("Sync completed").is_empty();
        let is_stored = async || world.posts.views_count(&world.sql, "7").await == viewer;
        eventually("the view is stored", SOON, async || is_stored().await || over().await).await;
    }
    println!("{viewer} views were stored meanwhile");
    assert!(viewer > 3, "{viewer} views were stored meanwhile");
    for post in [1_001, 1_000 + POSTS] {
        let post = post.to_string();
        assert_eq!(members(&world, &post).await, HashSet::from(["1".to_owned()]));
        world.assert_views(&post, 1).await;
    }
}

#[tokio::test]
async fn a_count_that_the_application_lowers_takes_nobody_out_of_the_set() {
    let world = World::new().await;
    world.post("7").await;
    let all = viewers(1..=3_000);
    world.record("7", &texts(&all)).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    for count in [10, 0, 5_000, 4_999] {
        world.sql.batch_execute(&format!("update posts set views_count = {count}")).await.unwrap();
        synchronizer.cycle().await.unwrap();
        assert_eq!(world.live("7").await, count);
        assert_eq!(members(&world, "7").await.len(), 3_000);
        assert_eq!(world.meta("7").await[1], 3_000);
        // Said once: the next scan has nothing to compare.
        synchronizer.cycle().await.unwrap();
        assert_eq!(world.live("7").await, count);
        assert!(!world.has_fallen("7").await);
    }
    world.record("7", &["9999"]).await;
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    assert_eq!(world.live("7").await, 5_000);
}

#[tokio::test]
async fn a_lowered_count_and_waiting_views_go_together() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1", "2", "3"]).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    world.record("7", &["4", "5"]).await;
    world.sql.batch_execute("update posts set views_count = 1").await.unwrap();
    assert_eq!(world.live("7").await, 5);
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    assert_eq!(world.live("7").await, 3, "one that is left, and two new ones");
    synchronizer.cycle().await.unwrap();
    assert_eq!(world.live("7").await, 3);
    assert_eq!(members(&world, "7").await.len(), 5);
}

#[tokio::test]
async fn a_post_that_was_deleted_under_waiting_views_and_created_anew_begins_anew() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1", "2"]).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    world.record("7", &["3"]).await;
    world.posts.delete_post(&world.sql, "7").await;
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    assert!(!world.exists("post:7:views".into()).await && !world.exists("{post:7:views}:meta".into()).await);
    world.post("7").await;
    let (_ingest, client) = world.ingest().await;
    for (number, viewer) in ["3", "1", "2"].iter().enumerate() {
        assert_eq!(verdict(&client, viewer, "7").await, format!("counted {}", number + 1));
    }
    for _ in 0..2 {
        synchronizer.cycle().await.unwrap();
    }
    assert_eq!(ledger_viewers(&world.sql, "7").await, ["1", "2", "3"]);
    world.assert_views("7", 3).await;
}

#[tokio::test]
async fn posts_that_are_deleted_and_created_anew_under_load_are_in_order_after_two_scans() {
    let world = World::new().await;
    for post in ["7", "8"] {
        world.post(post).await;
    }
    let syncd = world.daemon().env("SYNC_LINGER", "10ms").env("SYNC_BATCH_SIZE", "100").env("SYNC_INTERVAL", "1s").start();
    let (ingest, client) = world.ingest().await;
    let address = ingest.wait_for_listening("public").await;
    let crowd = Crowd::start(&[address], &["7", "8"], 8, Habit::Once);
    let until = tokio::time::Instant::now() + LOAD;
    while tokio::time::Instant::now() < until {
        for post in ["7", "8"] {
            let stored = async || world.posts.views_count(&world.sql, post).await;
            let before = stored().await;
            eventually("views go on", SOON, async || stored().await > before + 20).await;
        }
        let anew = "begin; delete from posts where id = 7; insert into posts values (7, 999999, 0); commit";
        world.sql.batch_execute(anew).await.unwrap();
    }
    // Gone for a while, in which a scan and views fall.
    world.posts.delete_post(&world.sql, "7").await;
    cycle(&syncd).await;
    let stored = world.posts.views_count(&world.sql, "8").await;
    eventually("views go on", SOON, async || world.posts.views_count(&world.sql, "8").await > stored + 50).await;
    world.post("7").await;
    let seen = crowd.stop().await;
    println!("{} answers, {} failures, {:?}", seen.answers, seen.failures, seen.posts);
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    for _ in 0..2 {
        cycle(&syncd).await;
    }
    for post in ["7", "8"] {
        let stored = world.stored(post).await;
        world.assert_views(post, stored).await;
        let ledger: HashSet<String> = ledger_viewers(&world.sql, post).await.into_iter().collect();
        let strangers: Vec<String> = members(&world, post).await.difference(&ledger).cloned().collect();
        assert!(strangers.is_empty(), "the ledger lacks of post {post}: {strangers:?}");
    }
    // That it was not there is forgotten after a while.
    eventually("it is a post again", SOON, async || verdict(&client, "1", "7").await.starts_with("counted")).await;
    let ttl: i64 = world.redis.ttl("{post:7:views}:meta").await.unwrap();
    assert!(ttl > 0);
}
