use testkit::{
    cluster::Cluster,
    postgres::PostgresServer,
    posts::{IdType, PostsTable},
    redis::RedisServer,
    tls::Certificates,
};

use crate::{clustered::world::ClusterWorld, support::World};

#[tokio::test]
async fn both_stores_are_reached_over_tls_and_their_certificates_are_checked() {
    let certificates = Certificates::new();
    let redis = RedisServer::builder().tls(&certificates).password("a-password").start().await;
    let server = PostgresServer::builder().tls(&certificates).password("another-password").start().await;
    let database = server.database().await;
    let world = World::with_stores(redis, database, PostsTable::with_ids(IdType::Bigint)).await;
    world.post("7").await;
    world.record("7", &["1"]).await;

    let url = world.database.url().replace("sslmode=require", "sslmode=verify-full");
    assert!(url.contains("verify-full") && world.server.url().starts_with("rediss://"));
    let trusting = world.command("sync").env("DATABASE_URL", &url).env("SSL_CERT_FILE", certificates.ca_file()).start();
    assert!(trusting.wait_exit().await.success(), "{:?}", trusting.output());
    world.assert_views("7", 1).await;

    // Without the authority's certificate neither is trusted.
    let distrusting = world.command("sync").env("DATABASE_URL", &url).start();
    assert_eq!(distrusting.wait_exit().await.code(), Some(1), "{:?}", distrusting.output());
    for program in [trusting, distrusting] {
        assert!(!program.output().join("\n").contains("a-password"), "{:?}", program.output());
    }
}

#[tokio::test]
async fn all_nodes_of_a_cluster_are_reached_over_tls_and_their_certificates_are_checked() {
    let certificates = Certificates::new();
    let cluster = Cluster::builder().replicas(0).tls(&certificates).password("a-password").start().await;
    assert!(cluster.url().starts_with("rediss-cluster://"));
    let world = ClusterWorld::over(cluster, "").await;
    let posts = world.make_posts(1..=12).await;
    for post in &posts {
        world.record(post, &["1"]).await;
    }
    let trusting = world.program().arg("sync").env("SSL_CERT_FILE", certificates.ca_file()).start();
    assert!(trusting.wait_exit().await.success(), "{:?}", trusting.output());
    for post in &posts {
        world.assert_views(post, 1).await;
    }
    let distrusting = world.program().arg("sync").start();
    assert_eq!(distrusting.wait_exit().await.code(), Some(1), "{:?}", distrusting.output());
    for program in [trusting, distrusting] {
        assert!(!program.output().join("\n").contains("a-password"), "{:?}", program.output());
    }
}
