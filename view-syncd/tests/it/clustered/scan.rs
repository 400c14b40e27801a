//! The scan goes through all primaries of a cluster, whatever moves or ends meanwhile.

use std::time::Duration;

use testkit::{SOON, cluster::Stop, eventually};
use view_syncd::daemon::cycle::Synced;
use views_core::partition::Partition;

use super::world::{ClusterWorld, id};

#[tokio::test]
async fn a_scan_finds_the_posts_of_all_nodes_and_mends_them() {
    let world = ClusterWorld::with_prefix("shop:").await;
    let posts = world.make_posts(1..=60).await;
    for post in &posts {
        world.add_by_hand(post, &["1", "2"]).await;
    }
    let mut synchronizer = world.synchronizer().await;
    assert_eq!(synchronizer.cycle().await.unwrap(), Synced { successful: 60, errors: 0 });
    let mut nodes = std::collections::HashSet::new();
    for post in &posts {
        world.assert_views(post, 2).await;
        nodes.insert(world.node_of(post).await.id().to_owned());
    }
    assert_eq!(nodes.len(), 3);

    // What goes wrong on each node: other counts and authors, no time to live, members that others put there, drifts, a
    // post that is gone.
    for (number, post) in posts.iter().enumerate() {
        let (set, meta) = (world.keys.views(&id(post)), world.keys.meta(&id(post)));
        match number % 6 {
            0 => drop(world.sql.execute("update posts set views_count = 7 where id = $1", &[&id_of(post)]).await.unwrap()),
            1 => drop(world.send(&["HSET", &meta, "author", "5"]).await),
            2 => {
                world.send(&["PERSIST", &set]).await;
                world.send(&["PERSIST", &meta]).await;
            }
            3 => world.add_by_hand(post, &["3"]).await,
            4 => drop(world.send(&["HINCRBY", &meta, "recorded", "5"]).await),
            _ => world.posts.delete_post(&world.sql, post).await,
        }
    }
    assert_eq!(synchronizer.cycle().await.unwrap(), Synced { successful: 50, errors: 0 });
    assert_eq!(synchronizer.cycle().await.unwrap(), Synced { successful: 50, errors: 0 });
    for (number, post) in posts.iter().enumerate() {
        let (set, meta) = (world.keys.views(&id(post)), world.keys.meta(&id(post)));
        match number % 6 {
            0 => assert_eq!(world.meta(post).await, [7, 2, 2]),
            1 => assert_eq!(world.send(&["HGET", &meta, "author"]).await.as_str().as_deref(), Some("999999")),
            2 => assert!(world.number(&["TTL", &set]).await > 0 && world.number(&["TTL", &meta]).await > 0),
            3 => world.assert_views(post, 3).await,
            4 => world.assert_views(post, 2).await,
            _ => assert!(!world.exists(&set).await && !world.exists(&meta).await),
        }
    }
}

fn id_of(post: &str) -> i64 {
    post.parse().unwrap()
}

#[tokio::test]
async fn drifts_from_the_outboxes_are_repaired_and_what_is_on_its_way_is_left() {
    let world = ClusterWorld::new().await;
    let posts = world.make_posts(1..=20).await;
    let mut synchronizer = world.synchronizer().await;
    for post in &posts {
        world.add_by_hand(post, &["1"]).await;
    }
    synchronizer.cycle().await.unwrap();
    for (number, post) in posts.iter().enumerate() {
        let meta = world.keys.meta(&id(post));
        // More was acknowledged, or less, than the outboxes ever had.
        let drift = if number % 2 == 0 { "3" } else { "-3" };
        world.send(&["HINCRBY", &meta, "acked", drift]).await;
    }
    synchronizer.cycle().await.unwrap();
    for post in &posts {
        world.assert_views(post, 1).await;
    }
}

#[tokio::test]
async fn slots_that_move_during_a_scan_are_scanned_where_they_are() {
    let world = ClusterWorld::new().await;
    let posts = world.make_posts(1..=400).await;
    for post in &posts {
        world.add_by_hand(post, &["1"]).await;
    }
    let mut synchronizer = world.synchronizer().await;
    let moves = async {
        for post in &posts {
            let slot = world.slot(post);
            let to = world.other_node(slot).await;
            world.cluster.move_slot(slot, to).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let scans = async {
        for _ in 0..3 {
            assert_eq!(synchronizer.cycle().await.unwrap().errors, 0);
        }
    };
    tokio::join!(moves, scans);
    // Whatever was missed while it moved has its turn with the next one.
    assert_eq!(synchronizer.cycle().await.unwrap(), Synced { successful: 400, errors: 0 });
    for post in &posts {
        world.assert_views(post, 1).await;
    }
}

#[tokio::test]
async fn a_primary_that_is_away_costs_only_its_posts() {
    let world =
        ClusterWorld::over(testkit::cluster::Cluster::builder().replicas(0).settings(&[("appendonly", "yes")]).start().await, "")
            .await;
    let posts = world.make_posts(1..=60).await;
    let mut synchronizer = world.synchronizer().await;
    synchronizer.cycle().await.unwrap();
    for post in &posts {
        world.add_by_hand(post, &["1"]).await;
    }
    let away = world.node_of("1").await;
    let mut others = Vec::new();
    for post in &posts {
        if world.node_of(post).await.id() != away.id() {
            others.push(post);
        }
    }
    world.cluster.kill(away).await;
    let synced = synchronizer.cycle().await.unwrap();
    assert!(synced.errors > 0 && synced.successful == others.len() as u64, "{synced:?}");
    for post in others {
        let (count, rows) = world.posts.views_and_rows(&world.sql, post).await;
        assert_eq!((count, rows), (1, 1), "post {post}");
    }
    world.cluster.restart(away).await;
    eventually("all are scanned", SOON, || async { synchronizer_is_well(&world).await }).await;
    for post in &posts {
        world.assert_views(post, 1).await;
    }
}

async fn synchronizer_is_well(world: &ClusterWorld) -> bool {
    let synced = world.synchronizer().await.cycle().await;
    synced.is_ok_and(|synced| synced == Synced { successful: 60, errors: 0 })
}

/// A slot whose mover has ended halfway: some keys are at the one node, and others at the other one.
#[tokio::test]
async fn the_posts_of_a_half_moved_slot_are_scanned_wherever_they_are() {
    let world = ClusterWorld::new().await;
    let posts = world.make_posts(1..=30).await;
    for post in &posts {
        world.add_by_hand(post, &["1"]).await;
    }
    let mut synchronizer = world.synchronizer().await;
    synchronizer.cycle().await.unwrap();
    for post in &posts[..10] {
        let slot = world.slot(post);
        let to = world.other_node(slot).await;
        let moved = world.cluster.try_move_slot(slot, to, Stop::AfterKeys(1)).await.unwrap();
        assert_eq!(moved, 1);
    }
    for post in &posts {
        world.add_by_hand(post, &["2"]).await;
    }
    // Scripts about a set and a hash of which one has moved are refused until the slot is whole.
    let synced = synchronizer.cycle().await.unwrap();
    assert!(synced.errors <= 10 && synced.successful >= 20, "{synced:?}");
    for post in &posts[10..] {
        world.assert_views(post, 2).await;
    }
    world.cluster.mend().await;
    synchronizer.cycle().await.unwrap();
    for post in &posts {
        world.assert_views(post, 2).await;
    }
}

#[tokio::test]
async fn what_is_in_the_outbox_from_before_the_cluster_counts_as_on_its_way() {
    let world = ClusterWorld::new().await;
    world.make_posts(7..=7).await;
    world.add_entry(Partition::LEGACY, "7", &["1", "2"]).await;
    world.count("7", &["1", "2"]).await;
    let (status, printed, _) = world.run(&["explain", "7", "2"]).await;
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("on its way"), "{printed}");
}
