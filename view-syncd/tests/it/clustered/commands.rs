//! The commands, each of which goes through all partitions and nodes.

use std::collections::HashSet;

use serde_json::Value;
use testkit::{SOON, eventually};
use views_core::partition::Partition;

use super::world::{ClusterWorld, id};
use crate::support::drain_deferred;

#[tokio::test]
async fn a_cycle_stores_what_is_in_the_outboxes_of_all_partitions() {
    for prefix in ["", "shop:"] {
        let world = ClusterWorld::with_prefix(prefix).await;
        let posts = world.make_posts(1..=200).await;
        for post in &posts {
            world.record(post, &["1", "2"]).await;
        }
        // Before the cluster, views were recorded in another outbox.
        world.add_entry(Partition::LEGACY, "7", &["3"]).await;
        world.count("7", &["3"]).await;
        let (status, logged, _) = world.run(&["sync"]).await;
        assert_eq!(status, Some(0), "{logged}");
        assert!(logged.contains("Sync completed: 200 successful, 0 errors"), "{logged}");
        assert_eq!((world.entries().await, world.rows().await), (0, 401));
        // Entries of the two outboxes have ids of two servers: what that leaves behind, the next cycle mends.
        assert_eq!(world.run(&["sync"]).await.0, Some(0));
        for post in &posts {
            world.assert_views(post, if post == "7" { 3 } else { 2 }).await;
        }
        for owner in world.keys.owners() {
            assert!(world.exists(owner).await, "{owner}");
        }
    }
}

#[tokio::test]
async fn acknowledging_twice_counts_once() {
    let world = ClusterWorld::new().await;
    let posts = world.make_posts(1..=50).await;
    let mut synchronizer = world.synchronizer().await;
    for post in &posts {
        world.record(post, &["1"]).await;
    }
    drain_deferred(&mut synchronizer).await;
    let mut again = HashSet::new();
    for post in &posts {
        world.assert_views(post, 1).await;
        // The same entry once more, as after a crash before it was deleted.
        let settled = world.send(&["HGET", &world.keys.meta(&id(post)), "settled"]).await.into_string().unwrap();
        let outbox = world.keys.outbox_of(world.partition(post));
        if again.insert(outbox) {
            world.send(&["DEL", outbox]).await;
            world.send(&["XADD", outbox, &settled, post, "1"]).await;
        }
    }
    assert!(again.len() > 10);
    drain_deferred(&mut synchronizer).await;
    assert_eq!(world.entries().await, 0);
    for post in &posts {
        world.assert_views(post, 1).await;
    }
}

#[tokio::test]
async fn reconcile_finds_and_mends_what_differs_on_any_node() {
    let world = ClusterWorld::new().await;
    let posts = world.make_posts(1..=40).await;
    for post in &posts {
        world.record(post, &["1", "2"]).await;
    }
    assert_eq!(world.run(&["sync"]).await.0, Some(0));
    assert_eq!(world.run(&["sync"]).await.0, Some(0));
    let (status, printed, logged) = world.run(&["reconcile"]).await;
    assert_eq!(status, Some(0), "{printed}{logged}");
    for (number, post) in posts.iter().enumerate() {
        let meta = world.keys.meta(&id(post));
        match number % 4 {
            0 => drop(world.send(&["HINCRBY", &meta, "acked", "1"]).await),
            1 => drop(world.send(&["HSET", &meta, "persisted", "77"]).await),
            2 => drop(world.send(&["SREM", &world.keys.views(&id(post)), "2"]).await),
            _ => drop(world.send(&["HSET", &meta, "author", "4"]).await),
        }
    }
    // Pairs of a post that nothing else knows of.
    let orphan = world.make_posts(500..=500).await.remove(0);
    world.add_entry(world.partition(&orphan), &orphan, &["9"]).await;
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    let (status, printed, _) = world.run(&["reconcile", "--json"]).await;
    let found: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((status, found["left"].as_u64()), (Some(1), Some(41)), "{printed}");
    let (status, printed, logged) = world.run(&["reconcile", "--repair"]).await;
    assert_eq!(status, Some(0), "{printed}{logged}");
    let (status, printed, logged) = world.run(&["reconcile"]).await;
    assert_eq!(status, Some(0), "{printed}{logged}");
    for post in &posts {
        world.assert_views(post, 2).await;
    }
    let (status, printed, _) = world.run(&["reconcile", "--post", "7"]).await;
    assert_eq!(status, Some(0), "{printed}");
}

#[tokio::test]
async fn a_person_is_forgotten_in_all_partitions() {
    let world = ClusterWorld::new().await;
    let posts = world.make_posts(1..=60).await;
    for post in &posts {
        world.record(post, &["1", "2"]).await;
    }
    assert_eq!(world.run(&["sync"]).await.0, Some(0));
    for post in &posts[..20] {
        world.record(post, &["3"]).await;
    }
    let (status, printed, logged) = world.run(&["forget", "3", "--json"]).await;
    assert_eq!(status, Some(0), "{printed}{logged}");
    let (status, printed, logged) = world.run(&["forget", "2"]).await;
    assert_eq!(status, Some(0), "{printed}{logged}");
    assert_eq!(world.rows().await, 60);
    for post in &posts {
        let members = world.send(&["SMEMBERS", &world.keys.views(&id(post))]).await.into_array().len();
        assert_eq!(members, 1, "post {post}");
    }
}

#[tokio::test]
async fn a_view_is_explained_wherever_it_is() {
    let world = ClusterWorld::new().await;
    let posts = world.make_posts(1..=6).await;
    for post in &posts {
        world.record(post, &["1"]).await;
    }
    assert_eq!(world.run(&["sync"]).await.0, Some(0));
    for post in &posts {
        world.record(post, &["2"]).await;
        for (viewer, verdict, status) in [("1", "stored", 0), ("2", "on its way", 0), ("3", "not counted", 1)] {
            let (code, printed, logged) = world.run(&["explain", post, viewer]).await;
            assert_eq!(code, Some(status), "{printed}{logged}");
            assert!(printed.starts_with(verdict), "{printed}");
            assert!(viewer != "2" || printed.contains("agrees with the outbox"), "{printed}");
        }
    }
}

#[tokio::test]
async fn status_tells_what_waits_in_each_partition_and_who_drains_it() {
    let world = ClusterWorld::new().await;
    let posts = world.make_posts(1..=3).await;
    world.record("1", &["1", "2"]).await;
    let (status, printed, _) = world.run(&["status"]).await;
    assert_eq!(status, Some(1));
    assert!(printed.contains("no view-syncd drains anything"), "{printed}");
    assert!(printed.contains(&format!("{}: 1 entry", world.partition("1").name())), "{printed}");
    let daemons = [world.program().start(), world.program().start()];
    for daemon in &daemons {
        daemon.wait_for_line("Sync completed").await;
    }
    let json = eventually("two drain all partitions", SOON, || async {
        let (status, printed, _) = world.run(&["status", "--json"]).await;
        let json: Value = serde_json::from_str(&printed).unwrap();
        let drainers = json["drainers"].as_array().map_or(0, Vec::len);
        // The first cycle of each is about its own partitions.
        let is_drained = json["outbox"]["entries"] == 0;
        (status == Some(0) && drainers == 2 && is_drained).then_some(json).ok_or(printed)
    })
    .await;
    let partitions = json["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 65);
    assert!(partitions.iter().all(|partition| partition["backend"].is_i64()), "{json}");
    let drained: i64 = json["drainers"].as_array().unwrap().iter().map(|drainer| drainer["partitions"].as_i64().unwrap()).sum();
    assert_eq!((drained, json["redis"]["mode"].as_str(), json["leader"].is_null()), (65, Some("cluster"), true));
    let (status, printed, _) = world.run(&["status"]).await;
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("drained by") && !printed.contains("partitions  "), "{printed}");
    world.assert_views(&posts[0], 2).await;
}

#[tokio::test]
async fn doctor_looks_at_every_node() {
    let world = ClusterWorld::new().await;
    world.make_posts(1..=3).await;
    let daemon = world.program().start();
    daemon.wait_for_line("Sync completed").await;
    let (_, printed, _) = world.run(&["doctor", "--json"]).await;
    let json: Value = serde_json::from_str(&printed).unwrap();
    let checks = json["checks"].as_array().unwrap();
    let fails: Vec<&Value> = checks.iter().filter(|check| check["verdict"] == "fail").collect();
    assert!(fails.is_empty(), "{fails:?}");
    let of = |name: &str| checks.iter().filter(|check| check["name"] == name).collect::<Vec<_>>();
    assert_eq!(of("redis").len(), 1, "{printed}");
    assert!(of("redis")[0]["text"].as_str().unwrap().contains("a cluster of 3 primaries"), "{printed}");
    for name in ["redis-rights", "redis-keys", "redis-slots", "owner", "leader", "outbox", "redis-mode"] {
        assert!(of(name).iter().all(|check| check["verdict"] == "ok") && !of(name).is_empty(), "{name}: {printed}");
    }

    // Each node has its own settings, and rules.
    let node = world.cluster.node(1);
    node.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await.unwrap();
    node.command(&["ACL", "SETUSER", "default", "-xdel"]).await.unwrap();
    world.cluster.half_move_slot(3, world.other_node(3).await, 0).await;
    let (status, printed, _) = world.run(&["doctor", "--json"]).await;
    let json: Value = serde_json::from_str(&printed).unwrap();
    let of =
        |name: &str| json["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()["text"].to_string();
    assert_eq!(status, Some(78), "{printed}");
    assert!(of("redis-eviction").contains(&node.address().to_string()), "{printed}");
    assert!(of("redis-rights").contains("XDEL"), "{printed}");
    assert!(of("redis-slots").contains("slot 3 ") && of("redis-slots").contains("--cluster fix"), "{printed}");
}

#[tokio::test]
async fn another_database_takes_nothing_until_it_claims_all_partitions() {
    let world = ClusterWorld::new().await;
    world.make_posts(1..=30).await;
    assert_eq!(world.run(&["sync"]).await.0, Some(0));
    let database = testkit::postgres::shared().await.database().await;
    world.posts.create(&database.client().await).await;
    for id in 1..=30 {
        world.posts.insert_post(&database.client().await, &id.to_string(), "999999").await;
        world.record(&id.to_string(), &["1"]).await;
    }
    let run = async |command: &str| {
        let program = world.program().env("DATABASE_URL", database.url()).arg(command).start();
        let status = program.wait_exit().await;
        (status.code(), program.output())
    };
    assert_eq!(run("migrate").await.0, Some(0));
    let (status, output) = run("sync").await;
    assert_eq!(status, Some(78), "{output:?}");
    assert_eq!(world.entries().await, 30);
    let (status, output) = run("claim").await;
    assert_eq!(status, Some(0), "{output:?}");
    let (status, output) = run("sync").await;
    assert_eq!(status, Some(0), "{output:?}");
    assert_eq!((world.entries().await, world.rows().await), (0, 0));
    assert_eq!(world.run(&["sync"]).await.0, Some(78));
}

#[tokio::test]
async fn views_of_an_older_system_are_adopted_beside_the_daemon() {
    let world = ClusterWorld::new().await;
    let posts = world.make_posts(1..=40).await;
    let daemon = world.program().start();
    daemon.wait_for_line("Sync completed").await;
    for post in &posts {
        world.record(post, &["1"]).await;
    }
    world
        .sql
        .batch_execute("create table old as select p as post, v as viewer from generate_series(1, 40) p, generate_series(1, 5) v")
        .await
        .unwrap();
    let (status, printed, logged) = world.run(&["adopt", "--from-table", "old(post,viewer)", "--count", "ledger"]).await;
    assert_eq!(status, Some(0), "{printed}{logged}");
    eventually("the outboxes are empty", SOON, || async { world.entries().await == 0 }).await;
    daemon.signal("HUP");
    for post in &posts {
        eventually("the counts are right", SOON, || async {
            let [persisted, recorded, acked] = world.meta(post).await;
            (persisted + recorded - acked == 5).then_some(()).ok_or((persisted, recorded, acked))
        })
        .await;
        world.assert_views(post, 5).await;
        let members = world.send(&["SMEMBERS", &world.keys.views(&id(post))]).await.into_array().len();
        assert_eq!(members, 5, "post {post}");
    }
}

#[tokio::test]
async fn posts_are_loaded_counted_anew_and_dead_letters_offered_again() {
    let world = ClusterWorld::new().await;
    let posts = world.make_posts(1..=50).await;
    world
        .sql
        .batch_execute("insert into post_views select p, 1 from generate_series(1, 50) p; update posts set views_count = 9")
        .await
        .unwrap();
    let (status, printed, logged) = world.run(&["warm", "--top", "50"]).await;
    assert_eq!(status, Some(0), "{printed}{logged}");
    assert!(printed.contains("loaded 50"), "{printed}");
    world.sql.batch_execute("delete from view_counter_bases").await.ok();
    let (status, printed, logged) = world.run(&["recount"]).await;
    assert_eq!(status, Some(0), "{printed}{logged}");
    for post in &posts {
        assert!(world.exists(&world.keys.meta(&id(post))).await);
    }
    // A post that is not there yet.
    world.add_entry(world.partition("77"), "77", &["1"]).await;
    assert_eq!(world.run(&["sync"]).await.0, Some(0));
    let (status, printed, _) = world.run(&["dead", "list"]).await;
    assert_eq!(status, Some(1), "{printed}");
    assert!(printed.contains("no such post"), "{printed}");
    world.make_posts(77..=77).await;
    let (status, printed, _) = world.run(&["dead", "retry"]).await;
    assert_eq!(status, Some(0), "{printed}");
}

#[tokio::test]
async fn what_is_recorded_while_a_primary_ends_is_stored_when_its_replica_takes_over() {
    let world = ClusterWorld::new().await;
    let posts = world.make_posts(1..=120).await;
    let daemon = world.program().start();
    daemon.wait_for_line("Sync completed").await;
    for (number, post) in posts.iter().enumerate() {
        if number == 40 {
            world.cluster.kill(world.cluster.node(0)).await;
        }
        world.record(post, &["1", "2"]).await;
    }
    world.cluster.until_ok().await;
    eventually("all outboxes are drained", testkit::cluster::FAILOVER_DEADLINE, || async {
        let (entries, rows) = (world.entries().await, world.rows().await);
        (entries == 0 && rows >= 236).then_some(()).ok_or((entries, rows))
    })
    .await;
    // What a failover has lost of an outbox, its own scans bring from the sets.
    for number in 2..=3 {
        daemon.signal("HUP");
        daemon.wait_for_nth_line(number, "Sync completed").await;
    }
    let (status, printed, logged) = world.run(&["reconcile"]).await;
    assert_eq!(status, Some(0), "{printed}{logged}");
}
