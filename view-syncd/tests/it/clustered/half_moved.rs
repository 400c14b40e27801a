//! Slots whose mover has ended halfway: told, and what they hide is drained.

use std::time::Duration;

use testkit::{SOON, cluster::slot_of, eventually, http::Client};

use super::world::ClusterWorld;

/// A slot is told when it has been half moved for 30 seconds.
const TOLD: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_slot_that_stays_half_moved_is_told_until_it_is_mended() {
    let world = ClusterWorld::new().await;
    let daemon = world.program().start();
    daemon.wait_for_line("Sync completed").await;
    let admin = Client::new(daemon.wait_for_listening("admin").await);
    eventually("the daemon is ready", SOON, || async { admin.get("/readyz").await.status == 200 }).await;
    world.cluster.half_move_slot(7, world.other_node(7).await, 0).await;
    let text = eventually("/readyz names the slot", TOLD, || async {
        let answer = admin.get("/readyz").await;
        let text = answer.body.clone();
        (answer.status == 503 && text.contains("slot 7 ")).then_some(text.clone()).ok_or(text)
    })
    .await;
    assert!(text.contains("redis-cli --cluster fix"), "{text}");
    let metrics = admin.get("/metrics").await.body;
    assert!(metrics.contains("\nview_syncd_half_moved_slots 1"), "{metrics}");
    let verbose = admin.get("/readyz?verbose").await.body;
    assert!(verbose.contains("\"slots\"") && verbose.contains("half moved"), "{verbose}");
    let (status, printed, _) = world.run(&["status"]).await;
    assert_eq!(status, Some(1));
    assert!(printed.contains("slot 7 ") && printed.contains("half moved"), "{printed}");
    assert_eq!(world.cluster.mend().await, 1);
    eventually("the daemon is ready again", SOON, || async { admin.get("/readyz").await.status == 200 }).await;
}

/// The owner of the slot knows of the move: whoever asks it is sent on.
#[tokio::test]
async fn an_outbox_in_a_half_moved_slot_is_drained() {
    let world = ClusterWorld::new().await;
    let posts = world.make_posts(1..=200).await;
    let daemon = world.program().start();
    daemon.wait_for_line("Sync completed").await;
    for (number, post) in posts.iter().enumerate().take(20) {
        let slot = slot_of(world.keys.outbox_of(world.partition(post)));
        world.record(post, &["1"]).await;
        // Some of its keys go, or all.
        let _ = world
            .cluster
            .try_move_slot(slot, world.other_node(slot).await, testkit::cluster::Stop::AfterKeys(1 + number % 2))
            .await;
        world.record(post, &["2"]).await;
    }
    eventually("everything is stored", SOON, || async {
        let rows = world.rows().await;
        (rows == 40).then_some(()).ok_or(rows)
    })
    .await;
    eventually("the outboxes are empty", SOON, || async { world.entries().await == 0 }).await;
    world.cluster.mend().await;
    assert_eq!(world.run(&["sync"]).await.0, Some(0));
    assert_eq!(world.run(&["sync"]).await.0, Some(0));
    for post in &posts[..20] {
        world.assert_views(post, 2).await;
    }
}

/// The node that the slot leaves does not know of the move any more: it says that the outbox is empty.
#[tokio::test]
async fn an_outbox_that_the_owner_of_its_slot_has_forgotten_is_drained_where_it_is() {
    let world = ClusterWorld::new().await;
    world.make_posts(7..=7).await;
    let partition = world.partition("7");
    let outbox = world.keys.outbox_of(partition).to_owned();
    let slot = slot_of(&outbox);
    world.record("7", &["1", "2"]).await;
    let (from, to) = (world.cluster.primary_of(slot).await, world.other_node(slot).await);
    world.cluster.half_move_slot(slot, to, 100).await;
    from.command(&["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"]).await.unwrap();
    assert_eq!(from.command(&["XLEN", &outbox]).await.unwrap().as_i64(), Some(0), "the owner knows nothing of it");
    let daemon = world.program().start();
    daemon.wait_for_line("stored views that a half moved slot of the cluster had hidden").await;
    eventually("the views are in the ledger", SOON, || async { world.rows().await == 2 }).await;
    assert_eq!(to.ask(&["XLEN", &outbox]).await.unwrap().as_i64(), Some(0));
    // What is recorded meanwhile goes to the owner.
    world.record("7", &["3"]).await;
    eventually("that is stored, too", SOON, || async { world.rows().await == 3 }).await;
    world.cluster.mend().await;
    for number in 2..=3 {
        daemon.signal("HUP");
        daemon.wait_for_nth_line(number, "Sync completed").await;
    }
    world.assert_views("7", 3).await;
}

/// The node that the slot leaves has failed over: the one that it comes to serves nothing of it until it is mended.
#[tokio::test]
async fn an_outbox_whose_slot_nobody_serves_is_drained_when_that_is_mended() {
    let world = ClusterWorld::new().await;
    world.make_posts(7..=7).await;
    let outbox = world.keys.outbox_of(world.partition("7")).to_owned();
    let slot = slot_of(&outbox);
    world.add_entry(world.partition("7"), "7", &["1", "2"]).await;
    let (from, to) = (world.cluster.primary_of(slot).await, world.other_node(slot).await);
    world.cluster.half_move_slot(slot, to, 100).await;
    let replica = world.cluster.replicas_of(from).await.remove(0);
    eventually("the replica is in step", SOON, || async { replica.is_in_step().await }).await;
    world.cluster.fail_over(replica).await;
    let daemon = world.program().start();
    daemon.wait_for_line("Sync completed").await;
    // A node that has not heard of the failover yet tells what was true before.
    eventually("the slot is told", SOON, || async {
        let (_, printed, _) = world.run(&["status"]).await;
        printed.contains(&format!("slot {slot} ")).then_some(()).ok_or(printed)
    })
    .await;
    assert_eq!(world.rows().await, 0);
    world.cluster.mend().await;
    eventually("the views are in the ledger", SOON, || async { world.rows().await == 2 }).await;
    eventually("the outboxes are empty", SOON, || async { world.entries().await == 0 }).await;
}
