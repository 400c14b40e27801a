//! A node of the cluster is away, or hangs: the partitions of the others are drained, also by whoever starts meanwhile.

use testkit::{SOON, cluster::Cluster, eventually, http::Client, process::Daemon};
use views_core::partition;

use super::world::{ClusterWorld, id};

/// Whatever is away stays so: there are no replicas.
async fn world() -> ClusterWorld {
    ClusterWorld::over(Cluster::builder().replicas(0).settings(&[("appendonly", "yes")]).start().await, "").await
}

/// Returns some posts that a node has, and some that others have.
async fn divided(world: &ClusterWorld, node: &str) -> (Vec<String>, Vec<String>) {
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for post in world.make_posts(1..=40).await {
        let is_own = world.node_of(&post).await.id() == node;
        // Where all of its keys are is known from now on: a node that hangs would be asked for it, too.
        for key in [world.keys.views(&id(&post)).as_str(), world.keys.outbox_of(world.partition(&post))] {
            world.exists(key).await;
        }
        if is_own { own.push(post) } else { others.push(post) }
    }
    (own, others)
}

async fn until_stored(world: &ClusterWorld, post: &str, views: i64) {
    eventually("the view is stored", SOON, || async {
        let found = world.posts.views_and_rows(&world.sql, post).await;
        (found == (views, views)).then_some(()).ok_or(found)
    })
    .await;
}

async fn until_the_others_are_drained(world: &ClusterWorld, others: &[String]) -> Daemon {
    let daemon = world.program().start();
    for (number, post) in others.iter().enumerate() {
        world.record(post, &["1"]).await;
        if number % 10 == 0 {
            until_stored(world, post, 1).await;
        }
    }
    for post in others {
        until_stored(world, post, 1).await;
    }
    daemon
}

#[tokio::test]
async fn a_daemon_that_starts_while_a_node_is_away_drains_the_others_and_says_once_what_it_cannot() {
    let world = world().await;
    world.synchronizer().await.cycle().await.unwrap();
    // The one that has the name of all keys' owner.
    let away = world.cluster.primary_of(partition::slot(world.keys.owner().as_bytes())).await;
    let mut its = 0;
    for partition in world.keys.drained_partitions() {
        let node = world.cluster.primary_of_key(world.keys.outbox_of(partition)).await;
        its += usize::from(node.id() == away.id());
    }
    let (own, others) = divided(&world, away.id()).await;
    world.record(&own[0], &["1"]).await;
    world.cluster.kill(away).await;
    let daemon = until_the_others_are_drained(&world, &others).await;
    for number in 2..=4 {
        daemon.signal("HUP");
        daemon.wait_for_nth_line(number, "Sync completed").await;
    }
    let told = daemon.lines_with("the outbox cannot be drained");
    // That it is away, and perhaps first that it has gone.
    assert!((its..=2 * its).contains(&told.len()), "{its} partitions: {told:#?}");

    world.cluster.restart(away).await;
    until_stored(&world, &own[0], 1).await;
    daemon.signal("TERM");
    assert!(daemon.wait_exit().await.success(), "{:#?}", daemon.output());
}

#[tokio::test]
async fn a_daemon_that_starts_while_a_node_hangs_drains_the_others() {
    let world = world().await;
    world.synchronizer().await.cycle().await.unwrap();
    let hung = world.cluster.primary_of(partition::slot(world.keys.owner().as_bytes())).await;
    let (own, others) = divided(&world, hung.id()).await;
    world.record(&own[0], &["1"]).await;
    world.cluster.pause(hung);
    let daemon = until_the_others_are_drained(&world, &others).await;
    world.cluster.resume(hung);
    until_stored(&world, &own[0], 1).await;
    // The first cycle has not seen its posts; the next one is not waited for.
    let admin = Client::new(daemon.wait_for_listening("admin").await);
    eventually("it is ready", SOON, || async {
        let ready = admin.get("/readyz").await;
        (ready.status == 200).then_some(()).ok_or(ready)
    })
    .await;
}

#[tokio::test]
async fn a_node_that_may_evict_views_is_told_also_when_it_was_away_at_the_start() {
    let world = world().await;
    world.synchronizer().await.cycle().await.unwrap();
    let hung = world.cluster.node(1);
    hung.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await.unwrap();
    world.cluster.pause(hung);
    let daemon = world.program().start();
    daemon.wait_for_line("Sync completed").await;
    assert!(daemon.lines_with("maxmemory-policy").is_empty());
    world.cluster.resume(hung);
    daemon.wait_for_line("maxmemory-policy").await;
}

#[tokio::test]
async fn what_comes_in_while_everything_is_drained_is_stored_although_one_node_hangs() {
    let world = world().await;
    let hung = world.cluster.node(0);
    let (_, others) = divided(&world, hung.id()).await;
    let mut synchronizer = world.synchronizer().await;
    synchronizer.cycle().await.unwrap();
    world.cluster.pause(hung);
    let mut is_stored = false;
    // A machine that is busy with something else may need more than the time that the node is waited for.
    for pair in others.chunks_exact(2).take(5) {
        world.record(&pair[0], &["1"]).await;
        let comes_later = async {
            until_stored(&world, &pair[0], 1).await;
            world.record(&pair[1], &["1"]).await;
            until_stored(&world, &pair[1], 1).await;
        };
        is_stored = tokio::select! {
            ended = synchronizer.drain_all() => {
                ended.unwrap();
                false
            }
            () = comes_later => true,
        };
        if is_stored {
            break;
        }
        // As long as it is known that it does not answer, nobody waits for it.
        world.cluster.resume(hung);
        let is_well = async { while !synchronizer.cycle().await.is_ok_and(|synced| synced.errors == 0) {} };
        tokio::time::timeout(SOON, is_well).await.expect("it is asked again");
        world.cluster.pause(hung);
    }
    world.cluster.resume(hung);
    assert!(is_stored, "as long as one node was waited for, nothing was drained of the others");
}

#[tokio::test]
async fn a_stop_beside_a_node_that_hangs_ends_in_time_and_says_what_could_not_be_read() {
    let world = world().await;
    let daemon = world.program().env("SYNC_SHUTDOWN_TIMEOUT", "7s").start();
    daemon.wait_for_line("Sync completed").await;
    world.cluster.pause(world.cluster.node(1));
    daemon.signal("TERM");
    let exit = daemon.wait_exit_within(SOON).await;
    let told = daemon.lines_with("outboxes could not be drained, nor read");
    assert_eq!((exit.code(), told.len()), (Some(1), 1), "{:#?}", daemon.output());
}
