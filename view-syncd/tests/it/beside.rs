//! Cycles beside a daemon that leads: of a standby that is asked for one, and `view-syncd sync` by hand. They wait for
//! the leader's drain, and drain themselves where it does not get on.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{SOON, eventually, http::Client, process::Daemon, proxy::Proxy, tokens};
use tokio::time::{Instant, sleep};

use crate::{
    crowd::{Crowd, Habit, LOAD},
    support::{SECRET, World},
};

/// A leader and a standby that is ready, and how to ask it.
async fn two(world: &World, linger: &str) -> (Daemon, Daemon, Client) {
    let leader = world.daemon().env("SYNC_LINGER", linger).start();
    leader.wait_for_line("Sync completed").await;
    let standby = world.daemon().env("SYNC_LINGER", linger).start();
    standby.wait_for_line("another view-syncd leads").await;
    let operators = Client::new(standby.wait_for_listening("admin").await);
    eventually("the standby is ready", SOON, async || operators.get("/readyz").await.status == 200).await;
    (leader, standby, operators)
}

async fn ask(operators: &Client) -> (u16, Value) {
    let answer = operators.post_json("/posts/sync-views", Some(&tokens::admin(SECRET, "1")), &json!({})).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn a_standbys_cycle_waits_for_the_leaders_drain() {
    let world = World::new().await;
    world.post("7").await;
    let (leader, standby, operators) = two(&world, "500ms").await;
    world.record("7", &["1", "2"]).await;
    let (status, body) = ask(&operators).await;
    assert_eq!((status, &body["syncedPosts"]), (200, &json!(1)), "{body}");
    // All that was there is stored, and by the leader: a second drain beside it would have shown counts that are a
    // little off.
    world.assert_views("7", 2).await;
    assert_eq!(standby.lines_with("does not get on with the outbox").len(), 0);
    let metrics = operators.get("/metrics").await.body;
    assert!(metrics.contains("view_syncd_batches_total 0"), "{metrics}");
    drop(leader);
}

#[tokio::test]
async fn a_sync_by_hand_waits_for_the_leaders_drain() {
    let world = World::new().await;
    world.post("7").await;
    let leader = world.daemon().env("SYNC_LINGER", "500ms").start();
    leader.wait_for_line("Sync completed").await;
    world.record("7", &["1", "2"]).await;
    let by_hand = world.command("sync").start();
    assert!(by_hand.wait_exit().await.success(), "{:?}", by_hand.output());
    world.assert_views("7", 2).await;
    assert_eq!(by_hand.lines_with("does not get on with the outbox").len(), 0, "{:?}", by_hand.output());
    let operators = Client::new(leader.wait_for_listening("admin").await);
    let metrics = operators.get("/metrics").await.body;
    assert!(metrics.contains("view_syncd_batches_total 1"), "{metrics}");
}

#[tokio::test]
async fn a_leader_that_hangs_is_not_waited_for() {
    let world = World::new().await;
    for post in ["7", "8"] {
        world.post(post).await;
    }
    let (leader, standby, operators) = two(&world, "10ms").await;
    world.record("7", &["1"]).await;
    eventually("the leader drains", SOON, async || world.outbox_length().await == 0).await;
    leader.signal("STOP");
    world.record("7", &["2", "3"]).await;
    world.record("8", &["1"]).await;
    let (status, body) = ask(&operators).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(standby.lines_with("does not get on with the outbox").len(), 1);
    world.assert_views("7", 3).await;
    world.assert_views("8", 1).await;
    world.record("8", &["2"]).await;
    let by_hand = world.command("sync").start();
    assert!(by_hand.wait_exit().await.success(), "{:?}", by_hand.output());
    world.assert_views("8", 2).await;
    // It goes on where it was, and finds everything done.
    leader.signal("CONT");
    world.record("7", &["4"]).await;
    eventually("the leader drains", SOON, async || world.outbox_length().await == 0).await;
    world.assert_views("7", 4).await;
    world.assert_views("8", 2).await;
}

/// Stopped wherever it is, again and again, while others drain in its place.
#[tokio::test]
async fn a_leader_that_hangs_in_the_middle_of_its_work_spoils_nothing() {
    let world = World::new().await;
    for post in ["7", "8"] {
        world.post(post).await;
    }
    let leader = world.daemon().env("SYNC_LINGER", "10ms").env("SYNC_BATCH_SIZE", "50").env("SYNC_INTERVAL", "1s").start();
    leader.wait_for_line("Sync completed").await;
    let (ingest, _client) = world.ingest().await;
    let crowd = Crowd::start(&[ingest.wait_for_listening("public").await], &["7", "8"], 12, Habit::Once);
    for _ in 0..2 {
        let stored = world.posts.views_count(&world.sql, "7").await;
        eventually("it drains", SOON, async || world.posts.views_count(&world.sql, "7").await > stored).await;
        leader.signal("STOP");
        let by_hand = world.command("sync").start();
        by_hand.wait_for_line("does not get on with the outbox").await;
        leader.signal("CONT");
        assert!(by_hand.wait_exit().await.success(), "{:?}", by_hand.output());
    }
    let seen = crowd.stop().await;
    seen.is_true([&ingest]);
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    for _ in 0..2 {
        assert!(world.command("sync").start().wait_exit().await.success());
    }
    for (post, _, acknowledged) in &seen.posts {
        world.assert_views(post, *acknowledged).await;
    }
}

/// What the standby asks PostgreSQL arrives late, so that its answers are old when they reach Redis.
#[tokio::test]
async fn a_standby_with_old_answers_sets_no_count_back() {
    let world = World::new().await;
    for post in ["7", "8"] {
        world.post(post).await;
    }
    let leader = world.daemon().env("SYNC_LINGER", "10ms").env("SYNC_BATCH_SIZE", "100").start();
    leader.wait_for_line("Sync completed").await;
    let port = testkit::postgres::shared().await.port();
    let proxy = Proxy::to_port(port).await;
    let url = world.database.url().replace(&format!(":{port}/"), &format!(":{}/", proxy.port()));
    let standby = world.daemon().env("DATABASE_URL", url).start();
    standby.wait_for_line("another view-syncd leads").await;
    let operators = Client::new(standby.wait_for_listening("admin").await);
    eventually("the standby is ready", SOON, async || operators.get("/readyz").await.status == 200).await;
    proxy.delay(Duration::from_millis(100));
    let (ingest, _client) = world.ingest().await;
    let crowd = Crowd::start(&[ingest.wait_for_listening("public").await], &["7", "8"], 12, Habit::Once);
    let until = Instant::now() + LOAD;
    let mut cycles = 0;
    while Instant::now() < until {
        let (status, body) = ask(&operators).await;
        assert_eq!(status, 200, "{body}");
        cycles += 1;
        // Others may be unhappy with a single busy loop on a small machine.
        sleep(Duration::from_millis(20)).await;
    }
    let seen = crowd.stop().await;
    println!("{cycles} cycles");
    seen.is_true([&ingest]);
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    for (post, _, acknowledged) in &seen.posts {
        world.assert_views(post, *acknowledged).await;
    }
}
