//! Posts that are viewed a lot while they are locked, locked again and again, and many posts at once.

use std::time::Duration;

use testkit::eventually;

use super::{Application, SECONDS, daemon, posts, readiness, stored, updates_at_once};
use crate::support::World;

/// As many viewers, from a number on.
fn viewers(from: i32, number: i32) -> Vec<String> {
    (from..from + number).map(|viewer| viewer.to_string()).collect()
}

async fn record(world: &World, post: i32, viewers: &[String]) {
    for chunk in viewers.chunks(100) {
        world.record(&post.to_string(), &chunk.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
}

/// Transactions that follow one another without a gap: each waits for the lock of the one before.
async fn relay(session: tokio_postgres::Client, post: i32, holds: Duration) {
    loop {
        let update = format!("begin; update posts set author_id = author_id where id = {post}");
        session.batch_execute(&update).await.unwrap();
        tokio::time::sleep(holds).await;
        session.batch_execute("commit").await.unwrap();
    }
}

#[tokio::test]
async fn a_post_that_is_locked_again_and_again_is_not_starved() {
    for holds_ms in [100, 250, 400] {
        let world = World::new().await;
        posts(&world, 1..=3).await;
        let (_daemon, _) = daemon(&world).await;
        let holds = Duration::from_millis(holds_ms);
        let (one, other) = (world.database.client().await, world.database.client().await);
        let work = async {
            for viewer in 1..=3 {
                world.record("1", &[&viewer.to_string()]).await;
                world.record("2", &[&viewer.to_string()]).await;
                stored(&world, 2, viewer, SECONDS).await;
                stored(&world, 1, viewer, Duration::from_secs(25)).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = relay(one, 1, holds) => {}
            () = relay(other, 1, holds) => {}
        }
    }
}

#[tokio::test]
async fn a_hot_post_that_is_locked_waits_alone() {
    let world = World::new().await;
    posts(&world, 1..=3).await;
    let (_daemon, client) = daemon(&world).await;
    let mut application = Application::begins(&world, "select from posts where id = 1 for update").await;
    record(&world, 1, &viewers(0, 5_000)).await;
    readiness(&client, 503, SECONDS).await;
    // Views of all go on.
    for round in 0..20_i32 {
        record(&world, 1, &viewers(5_000 + round * 100, 100)).await;
        record(&world, 2, &viewers(round, 1)).await;
        stored(&world, 2, i64::from(round) + 1, SECONDS).await;
        updates_at_once(&world, 3).await;
        if round == 10 {
            // Free for a moment, and locked again.
            application.does("commit").await;
            application = Application::begins(&world, "update posts set author_id = author_id where id = 1").await;
        }
        assert_eq!(world.live("1").await, i64::from(5_000 + (round + 1) * 100));
    }
    application.does("commit").await;
    stored(&world, 1, 7_000, SECONDS).await;
    readiness(&client, 200, SECONDS).await;
    assert_eq!((world.outbox_length().await, world.dead().await.len()), (0, 0));
}

#[tokio::test]
async fn a_thousand_posts_that_one_statement_locks_are_stored_when_it_is_done() {
    let world = World::new().await;
    world
        .sql
        .batch_execute("insert into posts (id, author_id) select id, 999999 from generate_series(1, 1010) id")
        .await
        .unwrap();
    let (_daemon, _) = daemon(&world).await;
    let application = Application::begins(&world, "update posts set author_id = author_id where id <= 1000").await;
    for viewer in ["1", "2"] {
        let ids: Vec<String> = (1..=1_010).map(|post| post.to_string()).collect();
        for chunk in ids.chunks(100) {
            world.add_entry(chunk.iter().map(|post| (post.as_str(), viewer)).collect()).await;
        }
    }
    let free = "select count(*) from post_views where post_id > 1000";
    let stored = async || world.sql.query_one(free, &[]).await.unwrap().get::<_, i64>(0) == 20;
    eventually("the free posts are stored", SECONDS, stored).await;
    for viewer in 3..=20 {
        world.add_entry(vec![("1005", &viewer.to_string()), ("5", &viewer.to_string())]).await;
        eventually("a free post is stored", SECONDS, async || world.stored("1005").await == viewer).await;
        updates_at_once(&world, 1_006).await;
    }
    application.does("commit").await;
    eventually("nothing waits any more", SECONDS, async || world.outbox_length().await == 0).await;
    let all: i64 = world.sql.query_one("select count(*) from post_views", &[]).await.unwrap().get(0);
    assert_eq!(all, 2 * 1_010 + 2 * 18);
}

#[tokio::test]
async fn posts_that_wait_for_many_small_batches_are_exact() {
    let world = World::new().await;
    posts(&world, 1..=6).await;
    let daemon = world.daemon().env("SYNC_LINGER", "20ms").env("SYNC_BATCH_SIZE", "70").start();
    daemon.wait_for_line("Sync completed").await;
    let mut applications = Vec::new();
    for post in [1, 2, 3] {
        let lock = format!("update posts set author_id = author_id where id = {post}");
        applications.push(Application::begins(&world, &lock).await);
    }
    let views = async |from: i32| {
        for viewer in from..from + 400 {
            let all: Vec<String> = (1..=6).map(|post| post.to_string()).collect();
            let viewer = viewer.to_string();
            world.add_entry(all.iter().map(|post| (post.as_str(), viewer.as_str())).collect()).await;
        }
        for post in 1..=6 {
            let meta = world.keys.meta(&views_core::ids::PostId::parse(&post.to_string()).unwrap());
            let () = fred::interfaces::HashesInterface::hincrby(&world.redis, meta, "recorded", 400).await.unwrap();
        }
    };
    views(0).await;
    for post in 4..=6 {
        stored(&world, post, 400, SECONDS * 2).await;
    }
    // One after the other, while views go on.
    for (released, application) in (1..=3).zip(applications) {
        application.does("commit").await;
        views(400 * released).await;
        let total = 400 * (i64::from(released) + 1);
        stored(&world, released, total, SECONDS * 2).await;
        stored(&world, 5, total, SECONDS * 2).await;
        daemon.signal("HUP");
    }
    for post in 1..=6 {
        stored(&world, post, 1_600, SECONDS * 2).await;
        assert_eq!(world.live(&post.to_string()).await, 1_600);
    }
    eventually("nothing waits any more", SECONDS, async || world.outbox_length().await == 0).await;
}
