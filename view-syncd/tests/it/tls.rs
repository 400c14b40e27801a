use testkit::{
    postgres::PostgresServer,
    posts::{IdType, PostsTable},
    redis::RedisServer,
    tls::Certificates,
};

use crate::support::World;

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
