//! A post that is not seen is not one that was deleted: no acknowledged view is dropped for that, and none is gone
//! without a trace.

mod other_table;
mod row_level_security;
mod wider_ids;

use std::collections::HashSet;

use fred::interfaces::StreamsInterface;
use serde_json::json;
use testkit::{SOON, eventually, http::Client, posts::ledger_viewers, tokens};
use view_syncd::drain::Urgency;

use crate::support::{SECRET, World, drain_deferred, ready};

async fn verdict(client: &Client, viewer: &str, post: &str) -> String {
    let token = tokens::hs256(SECRET, viewer);
    let answer = client.post_json("/posts/view", Some(&token), &json!({ "postId": post })).await;
    if answer.status != 200 {
        return answer.status.to_string();
    }
    let body = answer.json();
    format!("{} {}", body["status"].as_str().unwrap(), body["viewsCount"])
}

#[tokio::test]
async fn a_post_that_is_being_deleted_or_gets_another_id_is_waited_for() {
    let world = World::new().await;
    for post in ["7", "8", "9"] {
        world.post(post).await;
    }
    let mut synchronizer = world.synchronizer(&[]).await;
    let application = world.database.client().await;
    application
        .batch_execute(
            "begin; delete from posts where id = 7; update posts set id = 18 where id = 8; delete from posts where id = 9",
        )
        .await
        .unwrap();
    for post in ["7", "8", "9"] {
        world.record(post, &["1", "2"]).await;
    }
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    synchronizer.cycle().await.unwrap();
    assert_eq!((world.outbox_length().await, world.dead().await.len()), (3, 0));
    assert!(world.exists("post:7:views".into()).await);
    application.batch_execute("rollback; begin; delete from posts where id = 9; commit").await.unwrap();
    drain_deferred(&mut synchronizer).await;
    for post in ["7", "8"] {
        world.assert_views(post, 2).await;
    }
    assert_eq!(world.dead().await.len(), 2);
}

#[tokio::test]
async fn letters_of_posts_that_do_not_exist_are_bounded() {
    let world = World::new().await;
    world.post("7").await;
    let viewers: Vec<String> = (1..=1_000).map(|viewer| viewer.to_string()).collect();
    for post in 10_001..=10_101 {
        let post = post.to_string();
        world.add_entry(viewers.iter().map(|viewer| (post.as_str(), viewer.as_str())).collect()).await;
    }
    // None of these is dropped, however many there are.
    world.record("7", &["not-a-number", "1"]).await;
    world.add_entry(vec![("10001", "not-a-number")]).await;
    let daemon = world.daemon().env("SYNC_LINGER", "10ms").env("SYNC_BATCH_SIZE", "10000").env("LOG_LEVEL", "debug").start();
    daemon.wait_for_line("this view-syncd leads").await;
    eventually("the outbox is empty", 3 * SOON, async || world.outbox_length().await == 0).await;
    let length: i64 = world.redis.xlen("views:dead").await.unwrap();
    assert!((100_000..=100_002).contains(&length), "{length} letters");
    let dropped = daemon.lines_with("are dropped: ");
    assert!(!dropped.is_empty() && dropped.iter().all(|line| line.contains("WARN")), "{dropped:?}");
    let reasons: HashSet<String> = world.dead().await.into_iter().map(|[_, _, reason]| reason).collect();
    assert!(reasons.contains("the viewer's id does not fit the column's type"), "{reasons:?}");
    world.assert_views("7", 1).await;
    // The ids for those who look closely, and one line a batch for the others.
    let lines = daemon.lines_with("no such post");
    let (summaries, details): (Vec<&String>, Vec<&String>) = lines.iter().partition(|line| line.contains("WARN"));
    assert!(summaries.len() <= 15, "{summaries:?}");
    assert!(details.iter().all(|line| line.contains("DEBUG")));
}

#[tokio::test]
async fn a_post_that_is_not_committed_yet_loses_no_view() {
    let world = World::new().await;
    let application = world.database.client().await;
    application.batch_execute("begin; insert into posts values (7, 999999, 0)").await.unwrap();
    // Without a database, view-ingest takes views of any post.
    let alone = testkit::process::Daemon::builder(testkit::process::sibling_binary("view-ingest"))
        .env("REDIS_URL", world.server.url())
        .env("JWT_SECRET", SECRET)
        .env("VIEW_INGEST_LISTEN", "127.0.0.1:0")
        .env("VIEW_INGEST_ADMIN_LISTEN", "127.0.0.1:0");
    let (_ingest, client) = ready(alone).await;
    assert_eq!(verdict(&client, "1", "7").await, "counted 1");
    assert_eq!(verdict(&client, "2", "7").await, "counted 2");
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    application.batch_execute("commit").await.unwrap();
    assert_eq!(verdict(&client, "3", "7").await.split(' ').next(), Some("counted"));
    synchronizer.cycle().await.unwrap();
    synchronizer.cycle().await.unwrap();
    let retry = world.command("dead").arg("retry").start();
    assert_eq!(retry.wait_exit().await.code(), Some(0), "{:?}", retry.output());
    assert_eq!(ledger_viewers(&world.sql, "7").await, ["1", "2", "3"]);
    synchronizer.cycle().await.unwrap();
    world.assert_views("7", 3).await;
}

#[tokio::test]
async fn what_others_have_written_to_the_set_of_a_post_that_is_gone_is_kept() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    let foreign: Vec<String> = (100..3_100).map(|viewer| viewer.to_string()).collect();
    world.add_by_hand("7", &foreign.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // A set without a hash, as of a service that wrote nothing else; and one with something that is no viewer.
    world.add_by_hand("8", &["5", "two words"]).await;
    world.posts.delete_post(&world.sql, "7").await;
    synchronizer.cycle().await.unwrap();
    for post in ["7", "8"] {
        assert!(!world.exists(format!("post:{post}:views")).await);
        assert!(!world.exists(format!("{{post:{post}:views}}:meta")).await);
    }
    let dead: HashSet<[String; 2]> = world.dead().await.into_iter().map(|[post, viewer, _]| [post, viewer]).collect();
    for viewer in &foreign {
        assert!(dead.contains(&["7".to_owned(), viewer.clone()]), "{viewer} is lost");
    }
    assert!(dead.contains(&["8".to_owned(), "5".to_owned()]));
    assert!(dead.contains(&["8".to_owned(), "two words".to_owned()]));
    // The next scan has nothing left to tell.
    synchronizer.cycle().await.unwrap();
    assert_eq!(world.dead().await.len(), dead.len());
}
