//! What a cluster must be, and how it is reached: refused at the start with what to do.

use testkit::{SOON, cluster::Cluster, eventually, process::DaemonBuilder, redis::RedisServer, tls::Certificates};

use crate::{
    cluster::{ClusterWorld, PATIENT},
    support::{Ingest, World},
};

async fn assert_refused(program: DaemonBuilder, text: &str) {
    let daemon = program.start();
    assert_eq!(daemon.wait_exit().await.code(), Some(78), "{:?}", daemon.output());
    assert_eq!(daemon.lines_with(text).len(), 1, "{:?}", daemon.output());
    assert_eq!(daemon.lines_with("view-ingest started").len(), 0, "{:?}", daemon.output());
}

#[tokio::test]
async fn a_server_that_is_no_cluster_is_refused_with_what_to_do() {
    let world = World::with_redis(RedisServer::start().await).await;
    let address = format!("127.0.0.1:{}", world.server.port());
    let program = world.program().env("REDIS_URL", format!("redis-cluster://{address}"));
    let text = format!("{address} is no node of a Redis Cluster (cluster-enabled no): give its address as redis://{address}");
    assert_refused(program, &text).await;
}

#[tokio::test]
async fn a_node_whose_policy_evicts_views_is_refused_by_its_address_and_passed_by_later() {
    let world = ClusterWorld::with(Cluster::builder().replicas(0).node_timeout(PATIENT).start().await).await;
    let posts = world.posts(40).await;
    // A node of a cluster behind the URL of a single server.
    let node = world.cluster.node(1);
    assert_refused(world.program_at(&format!("redis://{}", node.address())), "or that of the cluster as redis-cluster://").await;

    let app = world.ingest().await;
    node.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await.unwrap();
    let text = format!("{}: Redis may evict views that are not in PostgreSQL yet (maxmemory-policy allkeys-lru)", node.address());
    assert_refused(world.program(), &text).await;
    Ingest::start(world.program().env("ALLOW_EVICTION", "true")).await;

    // One that runs has its posts' views go past it.
    app.daemon.wait_for_line(&text).await;
    let own = world.posts_of(node, &posts).await;
    eventually("its posts go past it", SOON, async || app.metric("view_ingest_redis_nodes_away").await == 1.0).await;
    for post in &posts {
        assert_eq!(app.verdict("ann", post).await, "counted 1");
    }
    assert_eq!(world.ledger().await.len(), own.len());
    assert_eq!(world.recorded().await.len(), posts.len() - own.len());
    assert_eq!(app.metric("view_ingest_redis_unfit").await, 1.0);
    assert_eq!(app.admin.get("/readyz").await.status, 200);

    node.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await.unwrap();
    app.daemon.wait_for_line("Redis is now as it is needed").await;
    app.daemon.wait_for_line("a node of Redis takes views again").await;
    eventually("all posts are Redis's again", SOON, async || {
        let verdicts = futures_util::future::join_all(own.iter().map(|post| app.verdict("ann", post))).await;
        let sets = futures_util::future::join_all(own.iter().map(|post| world.members(post))).await;
        verdicts.iter().all(|verdict| verdict == "duplicate 1") && sets.iter().all(|members| members.contains("ann"))
    })
    .await;
}

#[tokio::test]
async fn any_node_leads_to_the_others_by_password_and_tls() {
    let certificates = Certificates::new();
    let cluster =
        Cluster::builder().primaries(3).replicas(1).password("sesame").tls(&certificates).node_timeout(PATIENT).start().await;
    let world = ClusterWorld::with(cluster).await;
    let posts = world.posts(30).await;
    for (number, seed) in world.cluster.nodes().iter().enumerate() {
        let program = world.program_at(&world.cluster.url_of(&[seed])).env("SSL_CERT_FILE", certificates.ca_file());
        let app = ClusterWorld::start(program).await;
        for post in &posts {
            assert_eq!(app.verdict(&format!("viewer-{number}"), post).await, format!("counted {}", number + 1));
        }
        assert!(app.daemon.lines_with("sesame").is_empty(), "{:?}", app.daemon.output());
    }
    // One seed of several is enough.
    let [primary, other] = [0, 1].map(|place| world.cluster.node(place));
    let gone = world.cluster.replicas_of(primary).await[0];
    let url = world.cluster.url_of(&[gone, other]);
    world.cluster.kill(gone).await;
    let app = ClusterWorld::start(world.program_at(&url).env("SSL_CERT_FILE", certificates.ca_file())).await;
    assert_eq!(app.verdict("last", &posts[0]).await, "counted 7");
}
