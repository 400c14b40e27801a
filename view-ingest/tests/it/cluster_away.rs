//! Nodes of a cluster that are away: their posts' views go to PostgreSQL, all others stay in Redis.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use testkit::{
    SOON,
    cluster::{Cluster, FAILOVER_DEADLINE},
    eventually,
    postgres::PostgresServer,
    traffic::Traffic,
};

use crate::{
    away::{Polls, assert_at_once},
    cluster::{ClusterWorld, PATIENT},
    support::{Ingest, SECRET},
};

/// What the log says once.
const AWAY: &str = "a node of Redis takes no views";
/// Of one node that hangs, each worker waits once for so long.
const REDIS_TIMEOUT: Duration = Duration::from_secs(1);

async fn verdicts(app: &Ingest, viewer: &str, posts: &[&String]) -> Vec<String> {
    join_all(posts.iter().map(|post| app.verdict(viewer, post))).await
}

#[tokio::test]
async fn a_primary_that_dies_costs_no_view_and_its_replica_goes_on_with_all() {
    let world = ClusterWorld::with(Cluster::builder().node_timeout(Duration::from_secs(2)).start().await).await;
    let posts = world.posts(90).await;
    let app = world.ingest().await;
    let dead = world.cluster.node(1);
    let own = world.posts_of(dead, &posts).await;
    let others: Vec<&String> = posts.iter().filter(|post| !own.contains(post)).collect();
    let polls = Polls::begin(&app.admin);
    let traffic = Traffic::start(app.address, SECRET, posts.clone(), 8);
    traffic.goes_on(400).await;
    world.cluster.kill(dead).await;
    let line = app.daemon.wait_for_line(AWAY).await;
    assert!(line.contains(&dead.address().to_string()), "{line}");
    traffic.goes_on(300).await;
    eventually("another one has its slots", FAILOVER_DEADLINE, async || {
        app.daemon.lines_with("have the slots of one").len() == 1
    })
    .await;
    traffic.goes_on(300).await;
    let first_after = traffic.next_viewer() + 8;
    traffic.goes_on(200).await;
    let views = traffic.stop().await;
    polls.assert_all(200).await;
    let refused: Vec<_> = views.iter().filter(|view| !view.is_acknowledged()).collect();
    assert!(refused.is_empty(), "{} of {}: {:?}", refused.len(), views.len(), refused.first());
    assert_eq!(app.daemon.lines_with(AWAY).len(), 1, "{:?}", app.daemon.output());
    assert_eq!(app.daemon.lines_with("did not check a post").len(), 0, "{:?}", app.daemon.output());
    assert_eq!(app.daemon.lines_with("Redis does not take views").len(), 0, "{:?}", app.daemon.output());

    let (recorded, ledger) = (world.recorded().await, world.ledger().await);
    assert!(!ledger.is_empty() && ledger.iter().all(|(post, _)| own.contains(&post)), "{ledger:?}");
    for view in &views {
        let pair = (view.post.clone(), view.viewer.to_string());
        // Of its own posts, a failover may lose what was not replicated yet.
        if others.contains(&&view.post) || view.viewer >= first_after {
            assert!(recorded.contains(&pair), "{pair:?}");
        }
    }
    // What Redis has missed is brought up to date, also of posts that nobody asks for.
    eventually("Redis knows what went past it", SOON, async || {
        let missed = ledger.iter().map(async |(post, viewer)| !world.members(post).await.contains(viewer));
        join_all(missed).await.into_iter().all(|is_missed| !is_missed)
    })
    .await;
    assert_eq!(app.metric("view_ingest_redis_nodes_away").await, 0.0);
}

#[tokio::test]
async fn a_primary_that_hangs_holds_each_worker_up_once_and_no_other_s_posts_after_that() {
    let world = ClusterWorld::with(Cluster::builder().replicas(0).node_timeout(PATIENT).start().await).await;
    let posts = world.posts(120).await;
    let app = world.ingest().await;
    let node = world.cluster.node(2);
    let own = world.posts_of(node, &posts).await;
    let others: Vec<&String> = posts.iter().filter(|post| !own.contains(post)).collect();
    let half = others.len() / 2;
    assert!(verdicts(&app, "ann", &others[..half]).await.iter().all(|verdict| verdict == "counted 1"));
    world.cluster.pause(node);
    // Each worker finds out for itself, with what it has of the node's posts.
    assert!(verdicts(&app, "ann", &own).await.iter().all(|verdict| verdict == "counted 1"));
    let readyz = app.admin.get("/readyz?verbose").await;
    assert_eq!(readyz.status, 200);
    let redis = &readyz.json()["checks"]["redis"];
    assert_eq!(redis["state"], "partly_away", "{readyz:?}");
    assert!(redis["reason"].as_str().unwrap().contains(&node.address().to_string()), "{readyz:?}");
    assert_eq!(app.metric("view_ingest_redis_nodes_away").await, 1.0);
    assert_eq!(app.metric("view_ingest_active_store{store=\"redis\"}").await, 1.0);
    // Nobody waits for it any longer: neither known posts, nor those that nobody has viewed, nor its own.
    for (viewer, posts, expected) in
        [("bob", &others[..half], "counted 2"), ("bob", &others[half..], "counted 1"), ("bob", &own, "counted 2")]
    {
        let started = Instant::now();
        let verdicts = verdicts(&app, viewer, posts).await;
        assert!(verdicts.iter().all(|verdict| verdict == expected), "{verdicts:?}");
        assert!(started.elapsed() < REDIS_TIMEOUT, "{:?}", started.elapsed());
    }
    assert_eq!(world.ledger().await.len(), 2 * own.len());
    world.cluster.resume(node);
    app.daemon.wait_for_line("a node of Redis takes views again").await;
    assert_eq!(app.daemon.lines_with(AWAY).len(), 1, "{:?}", app.daemon.output());
    eventually("Redis knows what went past it", SOON, async || {
        join_all(own.iter().map(|post| world.members(post))).await.iter().all(|members| members.len() == 2)
    })
    .await;
    assert!(verdicts(&app, "carl", &own).await.iter().all(|verdict| verdict == "counted 3"));
    assert_eq!(world.ledger().await.len(), 2 * own.len());
}

#[tokio::test]
async fn without_postgresql_only_the_posts_of_a_node_that_is_away_are_refused() {
    let postgres = PostgresServer::start().await;
    let cluster = Cluster::builder().replicas(0).node_timeout(PATIENT).start().await;
    let world = ClusterWorld::with_stores(cluster, postgres.database().await).await;
    let posts = world.posts(60).await;
    let all: Vec<&String> = posts.iter().collect();
    let app = world.ingest().await;
    assert!(verdicts(&app, "ann", &all).await.iter().all(|verdict| verdict == "counted 1"));
    let dead = world.cluster.node(0);
    let own = world.posts_of(dead, &posts).await;
    world.cluster.kill(dead).await;
    postgres.pause();
    let polls = Polls::begin(&app.admin);
    for viewer in ["bob", "carl"] {
        let started = Instant::now();
        let refused = async { verdicts(&app, viewer, &own).await };
        let taken = async {
            let others: Vec<&String> = posts.iter().filter(|post| !own.contains(post)).collect();
            let verdicts = verdicts(&app, viewer, &others).await;
            (verdicts, started.elapsed())
        };
        let (refused, (taken, took)) = tokio::join!(refused, taken);
        assert!(refused.iter().all(|verdict| verdict == "503"), "{refused:?}");
        assert!(taken.iter().all(|verdict| verdict.starts_with("counted")), "{taken:?}");
        assert_at_once(took, "posts of other nodes");
    }
    polls.assert_all(200).await;
    postgres.resume();
    eventually("PostgreSQL takes them", SOON, async || verdicts(&app, "bob", &own).await.iter().all(|verdict| verdict != "503"))
        .await;
}

#[tokio::test]
async fn a_node_that_is_full_is_passed_by_for_new_views_and_none_else() {
    let world = ClusterWorld::with(Cluster::builder().replicas(0).node_timeout(PATIENT).start().await).await;
    let posts = world.posts(60).await;
    let all: Vec<&String> = posts.iter().collect();
    let app = world.ingest().await;
    assert!(verdicts(&app, "ann", &all).await.iter().all(|verdict| verdict == "counted 1"));
    let full = world.cluster.node(1);
    let own = world.posts_of(full, &posts).await;
    full.command(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    let polls = Polls::begin(&app.admin);
    for (post, verdict) in posts.iter().zip(verdicts(&app, "bob", &all).await) {
        // PostgreSQL has not heard of the first view yet.
        let expected = if own.contains(&post) { "counted 1" } else { "counted 2" };
        assert_eq!(verdict, expected, "{post}");
    }
    assert_eq!(world.ledger().await.len(), own.len());
    let recorded = world.recorded().await;
    assert!(all.iter().all(|post| own.contains(post) || recorded.contains(&((*post).clone(), "bob".to_owned()))), "{recorded:?}");
    assert_eq!(app.daemon.lines_with("Redis does not take views").len(), 0, "{:?}", app.daemon.output());
    eventually("it is told", SOON, async || {
        let checks = app.admin.get("/readyz?verbose").await.json()["checks"].clone();
        let reason = checks["redis"]["reason"].as_str().unwrap_or_default().to_owned();
        checks["redis"]["state"] == "refuses"
            && reason.contains(&full.address().to_string())
            && checks["writes"]["state"] == "redis"
    })
    .await;
    polls.assert_all(200).await;
    full.command(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    eventually("it is well", SOON, async || app.admin.get("/readyz?verbose").await.json()["checks"]["redis"]["state"] == "up")
        .await;
    eventually("Redis knows what went past it", SOON, async || {
        join_all(posts.iter().map(|post| world.members(post))).await.iter().all(|members| members.len() == 2)
    })
    .await;
    assert!(verdicts(&app, "carl", &all).await.iter().all(|verdict| verdict == "counted 3"));
    assert_eq!(world.ledger().await.len(), own.len());
}

#[tokio::test]
async fn a_cluster_that_serves_nothing_without_all_slots_is_away_as_a_whole() {
    let settings = [("cluster-require-full-coverage", "yes"), ("appendonly", "yes")];
    let builder = Cluster::builder().replicas(0).node_timeout(Duration::from_secs(2)).settings(&settings);
    let world = ClusterWorld::with(builder.start().await).await;
    let posts = world.posts(30).await;
    let all: Vec<&String> = posts.iter().collect();
    let app = world.ingest().await;
    app.daemon.wait_for_line("cluster-require-full-coverage yes").await;
    assert!(verdicts(&app, "ann", &all).await.iter().all(|verdict| verdict == "counted 1"));
    let dead = world.cluster.node(2);
    world.cluster.kill(dead).await;
    let views = AtomicUsize::new(0);
    eventually("the others serve nothing", FAILOVER_DEADLINE, async || {
        let viewer = format!("viewer-{}", views.fetch_add(1, Relaxed));
        let verdicts = verdicts(&app, &viewer, &all).await;
        assert!(verdicts.iter().all(|verdict| verdict.starts_with("counted")), "{verdicts:?}");
        app.metric("view_ingest_redis_nodes_away").await == 3.0
    })
    .await;
    assert!(!app.daemon.lines_with("cluster_state fail").is_empty(), "{:?}", app.daemon.output());
    assert!(verdicts(&app, "bob", &all).await.iter().all(|verdict| verdict.starts_with("counted")));
    assert_eq!(app.admin.get("/readyz").await.status, 200);
    world.cluster.restart(dead).await;
    eventually("all are back", SOON, async || app.metric("view_ingest_redis_nodes_away").await == 0.0).await;
    eventually("Redis knows what went past it", SOON, async || {
        let all = join_all(posts.iter().map(|post| world.members(post))).await;
        all.iter().all(|members| members.contains("bob"))
    })
    .await;
    let before = world.ledger().await.len();
    assert!(verdicts(&app, "carl", &all).await.iter().all(|verdict| verdict.starts_with("counted")));
    assert_eq!(world.ledger().await.len(), before);
}

#[tokio::test]
async fn with_all_nodes_away_postgresql_takes_the_views_until_they_are_back() {
    let world = ClusterWorld::with(
        Cluster::builder()
            .replicas(0)
            .node_timeout(PATIENT)
            .settings(&[("appendonly", "yes"), ("appendfsync", "always")])
            .start()
            .await,
    )
    .await;
    let posts = world.posts(30).await;
    let all: Vec<&String> = posts.iter().collect();
    let app = world.ingest().await;
    assert!(verdicts(&app, "ann", &all).await.iter().all(|verdict| verdict == "counted 1"));
    for node in world.cluster.nodes() {
        world.cluster.kill(node).await;
    }
    assert!(verdicts(&app, "bob", &all).await.iter().all(|verdict| verdict.starts_with("counted")));
    app.daemon.wait_for_line("Redis does not take views: they are written straight into PostgreSQL").await;
    assert_eq!(app.metric("view_ingest_redis_up").await, 0.0);
    assert_eq!(app.metric("view_ingest_active_store{store=\"postgresql\"}").await, 1.0);
    assert_eq!(world.ledger().await.len(), 30);
    assert_eq!(app.admin.get("/readyz").await.status, 200);
    for node in world.cluster.nodes() {
        world.cluster.restart(node).await;
    }
    app.daemon.wait_for_line("Redis takes the views again").await;
    world.cluster.until_ok().await;
    eventually("Redis knows what went past it", SOON, async || {
        join_all(posts.iter().map(|post| world.members(post))).await.iter().all(|members| members.len() == 2)
    })
    .await;
    eventually("Redis takes new views", SOON, async || {
        let _ = verdicts(&app, "carl", &all).await;
        world.recorded().await.len() == 60
    })
    .await;
    assert_eq!(app.metric("view_ingest_recorders_in_fallback").await, 0.0);
}
