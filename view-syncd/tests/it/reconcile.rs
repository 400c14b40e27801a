//! `view-syncd reconcile`: each kind of drift is found and mended, and on a healthy, busy system there is none.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use fred::interfaces::{HashesInterface, KeysInterface, LuaInterface, SetsInterface};
use serde_json::Value;
use testkit::{
    eventually, postgres,
    posts::{IdType, PostsTable},
    redis::RedisServer,
};
use views_core::ids::PostId;

use crate::support::World;

const SECONDS: Duration = Duration::from_secs(20);

/// The status of a command, and what it prints.
async fn run(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let (status, text, _) = world.run(args, &[]).await;
    (status, text)
}

/// The same in JSON.
async fn json(world: &World, args: &[&str]) -> (Option<i32>, Value) {
    let (status, text) = run(world, &[args, &["--json"]].concat()).await;
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

/// The differences that were told, as kind and post.
fn differences(told: &Value) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    told["differences"].as_array().unwrap().iter().map(|one| (text(&one["kind"]), text(&one["post"]))).collect()
}

/// A world with posts, of which each has the viewers 5, 6 and 7, in order everywhere.
async fn world(posts: u32) -> World {
    let world = World::new().await;
    for post in 1..=posts {
        world.post(&post.to_string()).await;
    }
    assert!(world.command("migrate").start().wait_exit().await.success());
    for post in 1..=posts {
        world.record(&post.to_string(), &["5", "6", "7"]).await;
    }
    assert!(world.command("sync").start().wait_exit().await.success());
    world
}

impl World {
    async fn execute(&self, statement: &str) {
        self.sql.batch_execute(statement).await.unwrap();
    }

    async fn set_field(&self, post: &str, field: &str, value: &str) {
        let () = self.redis.hset(self.keys.meta(&PostId::parse(post).unwrap()), (field, value)).await.unwrap();
    }

    async fn members(&self, post: &str) -> BTreeSet<String> {
        let members: Vec<String> = self.redis.smembers(self.keys.views(&PostId::parse(post).unwrap())).await.unwrap();
        members.into_iter().collect()
    }

    async fn base_of(&self, post: i64) -> i64 {
        self.sql.query_one("select base from post_views_base where post_id = $1", &[&post]).await.unwrap().get(0)
    }
}

#[tokio::test]
async fn each_kind_of_drift_is_found_and_mended_and_nothing_else_is() {
    let world = world(16).await;
    assert_eq!(run(&world, &["reconcile"]).await.0, Some(0));
    let key = |post: &str| world.keys.views(&PostId::parse(post).unwrap());

    world.add_by_hand("1", &["70"]).await;
    // A row of the ledger is lost, and the set knows of it.
    world
        .execute("delete from post_views where post_id = 2 and user_id = 5; update posts set views_count = 2 where id = 2")
        .await;
    let () = world.redis.srem(key("3"), "6").await.unwrap();
    world.execute("update posts set views_count = 999 where id = 4").await;
    world.execute("update post_views_base set base = -5 where post_id = 5").await;
    world.set_field("6", "persisted", "50").await;
    world.set_field("7", "recorded", "9").await;
    world.set_field("8", "acked", "1").await;
    world.set_field("9", "author", "123").await;
    let () = world.redis.del(vec![key("10"), world.keys.meta(&PostId::parse("10").unwrap())]).await.unwrap();
    world.add_entry(vec![("10", "71")]).await;
    world.add_entry(vec![("77777", "5")]).await;
    // Its whole set, of which the hash knows nothing; and the author's own, whom nobody stores.
    let () = world.redis.del(key("11")).await.unwrap();
    world.add_by_hand("12", &["999999"]).await;
    // Of two things at once.
    world.set_field("13", "recorded", "8").await;
    world.set_field("13", "acked", "2").await;
    world.set_field("13", "persisted", "1").await;
    // A count that was written back, of a post that has a base.
    world
        .execute("update post_views_base set base = 100 where post_id = 14; update posts set views_count = 100 where id = 14")
        .await;
    world.set_field("14", "persisted", "103").await;

    let expected: BTreeSet<(String, String)> = [
        ("set_without_ledger", "1"),
        ("set_without_ledger", "2"),
        ("wrong_persisted", "2"),
        ("ledger_without_set", "3"),
        ("wrong_count", "4"),
        ("wrong_persisted", "4"),
        ("wrong_base", "5"),
        ("wrong_persisted", "6"),
        ("wrong_recorded", "7"),
        ("wrong_acked", "8"),
        ("wrong_author", "9"),
        ("orphaned_pair", "10"),
        ("orphaned_pair", "77777"),
        ("ledger_without_set", "11"),
        ("wrong_recorded", "12"),
        ("wrong_acked", "12"),
        ("wrong_recorded", "13"),
        ("wrong_acked", "13"),
        ("wrong_persisted", "13"),
        ("wrong_count", "14"),
        ("wrong_persisted", "14"),
    ]
    .map(|(kind, post)| (kind.to_owned(), post.to_owned()))
    .into();
    let (status, told) = json(&world, &["reconcile"]).await;
    assert_eq!((status, differences(&told)), (Some(1), expected.clone()), "{told}");
    assert_eq!((told["repaired"].as_u64(), told["left"].as_u64()), (Some(0), Some(expected.len() as u64)), "{told}");
    assert_eq!((told["posts_in_postgresql"].as_u64(), told["found"]["wrong_acked"].as_u64()), (Some(16), Some(3)), "{told}");
    // Those of which Redis has nothing but an entry of the outbox are not in Redis, and no post is counted twice.
    assert_eq!(told["posts_in_redis"], 15, "{told}");
    // It only tells: a second look finds the same.
    let (status, text) = run(&world, &["reconcile"]).await;
    // To mend it takes viewers out of sets for good, who may be the last trace of a lost ledger.
    assert!(text.contains("`--restore-from-redis` brings them back"), "{text}");
    assert_eq!(status, Some(1), "{text}");
    for line in [
        "wrong author               1  9: \"123\", not \"999999\"",
        "set without ledger         2  ",
        "orphaned outbox pair       2  ",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    // One post alone.
    let (status, told) = json(&world, &["reconcile", "--post", "7"]).await;
    assert_eq!((status, differences(&told).len()), (Some(1), 1), "{told}");
    assert_eq!(run(&world, &["reconcile", "--post", "15"]).await.0, Some(0));
    assert_eq!(run(&world, &["reconcile", "--post", "4711"]).await.0, Some(1));
    assert_eq!(run(&world, &["reconcile", "--post", "a b"]).await.0, Some(64));

    let (status, told) = json(&world, &["reconcile", "--repair"]).await;
    assert_eq!((status, told["left"].as_u64()), (Some(0), Some(0)), "{told}");
    assert!(told["differences"].as_array().unwrap().iter().all(|one| one["repaired"] == true), "{told}");
    let (status, text) = run(&world, &["reconcile"]).await;
    assert!(status == Some(0) && text.starts_with("nothing differs\n"), "{text}");

    for (post, views) in
        [("1", 4), ("2", 2), ("3", 3), ("4", 3), ("5", 3), ("6", 3), ("7", 3), ("8", 3), ("9", 3), ("11", 3), ("13", 3)]
    {
        world.assert_views(post, views).await;
    }
    assert_eq!((world.posts.views_count(&world.sql, "14").await, world.live("14").await), (103, 103));
    assert_eq!((world.stored("10").await, world.outbox_length().await), (4, 0));
    assert_eq!([world.base_of(5).await, world.base_of(14).await], [0, 100]);
    assert_eq!(world.author("9").await.as_deref(), Some("999999"));
    assert_eq!(world.stored("12").await, 3, "nobody's own view is stored");
    // Whom the ledger lacked counts when he comes again; whom the set lacked is known again.
    assert_eq!(world.members("2").await, ["6", "7"].map(str::to_owned).into());
    for post in ["3", "11"] {
        assert_eq!(world.members(post).await, ["5", "6", "7"].map(str::to_owned).into(), "post {post}");
    }
    assert_eq!(world.dead().await, [["77777", "5", "no such post"].map(str::to_owned)]);
}

#[tokio::test]
async fn a_restored_database_gets_back_whom_redis_knows_by_an_operators_word_only() {
    let world = world(40).await;
    // A backup from before: some viewers are missing, of one post all of them.
    world.execute("delete from post_views where user_id = 7 or post_id = 1").await;
    world.execute("update posts p set views_count = (select count(*) from post_views where post_id = p.id)").await;
    // The author's own is not among them, whoever has put him there.
    world.add_by_hand("2", &["999999"]).await;
    let locker = world.database.client().await;
    locker.batch_execute("begin; select from posts where id = 3 for update").await.unwrap();
    let (status, told) = json(&world, &["reconcile", "--restore-from-redis"]).await;
    assert_eq!(status, Some(1), "{told}");
    let left: BTreeSet<&str> = told["differences"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["repaired"] == false)
        .map(|one| one["post"].as_str().unwrap())
        .collect();
    assert_eq!(left, ["3"].into(), "{told}");
    locker.batch_execute("commit").await.unwrap();
    assert_eq!(run(&world, &["reconcile", "--restore-from-redis"]).await.0, Some(0));
    for post in 1..=40 {
        world.assert_views(&post.to_string(), 3).await;
    }
    assert_eq!(run(&world, &["reconcile"]).await.0, Some(0));
    // Without that word, the ledger is the truth.
    world.execute("delete from post_views where post_id = 5; update posts set views_count = 0 where id = 5").await;
    assert_eq!(run(&world, &["reconcile", "--repair"]).await.0, Some(0));
    world.assert_views("5", 0).await;
    assert_eq!(world.members("5").await.len(), 0);
}

#[tokio::test]
async fn a_busy_system_has_no_differences_and_repairs_beside_it_do_no_harm() {
    let world = Arc::new(world(60).await);
    let daemon = world.daemon().env("SYNC_LINGER", "50ms").env("SYNC_INTERVAL", "1s").start();
    daemon.wait_for_line("Sync completed").await;
    let stop = Arc::new(AtomicBool::new(false));
    let traffic = {
        let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut viewer: u32 = 1_000;
            while !stop.load(SeqCst) {
                viewer += 1;
                world.record(&(1 + viewer % 60).to_string(), &[&viewer.to_string()]).await;
                // A hot one, too.
                world.record("1", &[&(viewer + 1_000_000).to_string()]).await;
            }
            viewer - 1_000
        })
    };
    for _ in 0..3 {
        let (status, told) = json(&world, &["reconcile"]).await;
        assert_eq!((status, told["differences"].as_array().unwrap().len()), (Some(0), 0), "{told}");
    }
    // Two at once, one of which is killed, beside the daemon's own repairs.
    for post in 2..=50 {
        world.set_field(&post.to_string(), "persisted", "7777").await;
        world.execute(&format!("update posts set views_count = views_count + 1000 where id = {post}")).await;
    }
    let killed = world.command("reconcile").arg("--repair").start();
    let (one, other, ()) =
        tokio::join!(run(&world, &["reconcile", "--repair"]), run(&world, &["reconcile", "--repair"]), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            killed.signal("KILL");
        });
    drop(killed);
    assert!(one.0.is_some() && other.0.is_some());
    assert_eq!(run(&world, &["reconcile", "--repair"]).await.0, Some(0));
    stop.store(true, SeqCst);
    let views = traffic.await.unwrap();
    assert!(views > 100, "{views}");
    eventually("everything is stored", SECONDS, async || world.outbox_length().await == 0).await;
    daemon.signal("HUP");
    let all = "select sum(views_count)::int8 from posts";
    assert_eq!(world.sql.query_one(all, &[]).await.unwrap().get::<_, i64>(0), i64::from(views) * 2 + 180);
    assert_eq!(run(&world, &["reconcile"]).await.0, Some(0));
    for post in 1..=60 {
        let post = post.to_string();
        eventually("the live count is right", SECONDS, async || {
            (world.live(&post).await == world.stored(&post).await).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_long_outbox_is_compared_too_and_members_of_other_spellings_are_mended() {
    let database = postgres::shared().await.database().await;
    let posts = PostsTable { count_type: "bigint".to_owned(), ..PostsTable::with_ids(IdType::Text) };
    posts.create(&database.client().await).await;
    let world = World::over(Arc::new(RedisServer::start().await), database, posts).await;
    for post in ["a", "b", "c"] {
        world.posts.insert_post(&world.sql, post, None).await;
    }
    assert!(world.command("migrate").start().wait_exit().await.success());
    for post in ["a", "b", "c"] {
        world.record(post, &["5", "6"]).await;
    }
    assert!(world.command("sync").start().wait_exit().await.success());
    // Nobody drains, and 25,000 views of one post wait.
    let fill = "for i = 1, 25000 do
          redis.call('XADD', KEYS[1], '*', 'c', 'v' .. i)
          redis.call('SADD', KEYS[2], 'v' .. i)
        end
        redis.call('HINCRBY', KEYS[3], 'recorded', 25000)";
    let c = PostId::parse("c").unwrap();
    let () = world
        .redis
        .eval(fill, vec![world.keys.outbox().to_owned(), world.keys.views(&c), world.keys.meta(&c)], ())
        .await
        .unwrap();
    let (status, text) = run(&world, &["reconcile"]).await;
    assert!(status == Some(0) && text.starts_with("nothing differs\n"), "{text}");
    assert!(text.contains("posts in Redis 3 · pairs in the outbox 25000 · "), "{text}");
    world.set_field("a", "acked", "7").await;
    // A member that is spelled otherwise, and that `recorded` counts: the ledger has lost him.
    world.add_by_hand("b", &["550E8400-E29B-41D4-A716-446655440000"]).await;
    world.set_field("b", "recorded", "3").await;
    world.set_field("b", "acked", "3").await;
    let (status, told) = json(&world, &["reconcile", "--repair"]).await;
    let found = [("set_without_ledger", "b"), ("wrong_acked", "a")].map(|(kind, post)| (kind.to_owned(), post.to_owned()));
    assert_eq!((status, differences(&told)), (Some(0), found.into()), "{told}");
    assert_eq!(run(&world, &["reconcile"]).await.0, Some(0));
    assert_eq!(world.members("b").await, ["5", "6"].map(str::to_owned).into());
}
