//! Redis and PostgreSQL over TLS, and whom the program trusts.

use testkit::{
    SOON, eventually,
    postgres::PostgresServer,
    posts::{IdType, PostsTable},
    redis::RedisServer,
    tls::Certificates,
};

use crate::support::{Ingest, World};

#[tokio::test]
async fn redis_is_reached_over_tls_when_its_certificate_is_trusted() {
    let certificates = Certificates::new();
    let world = World::with_redis(RedisServer::builder().tls(&certificates).start().await).await;
    assert!(world.server.url().starts_with("rediss://"));
    let trusting = Ingest::start(world.program().env("SSL_CERT_FILE", certificates.ca_file())).await;
    assert_eq!(trusting.verdict("ann", "p").await, "counted 1");

    let distrusting = Ingest::start_without_redis(world.program()).await;
    distrusting.daemon.wait_for_line("Redis connection lost").await;
    assert_eq!(distrusting.admin.get("/readyz").await.status, 503);
    assert_eq!(distrusting.verdict("ann", "p").await, "503");
}

#[tokio::test]
async fn postgresql_is_reached_over_tls_as_sslmode_says() {
    let certificates = Certificates::new();
    let server = PostgresServer::builder().tls(&certificates).password("pg-password").start().await;
    let posts = PostsTable::with_ids(IdType::Text);
    let world = World::with_stores(RedisServer::start().await, server.database().await, posts).await;
    for post in ["a", "b", "c"] {
        world.post_of(post, "author").await;
    }
    let require = world.database().url();
    assert!(require.ends_with("?sslmode=require"), "{require}");
    let verify = require.replace("sslmode=require", "sslmode=verify-full");
    // That the author is known proves that PostgreSQL was asked.
    let trusting = Ingest::start(world.program().env("DATABASE_URL", &verify).env("SSL_CERT_FILE", certificates.ca_file())).await;
    assert_eq!(trusting.verdict("author", "a").await, "own 0");
    let careless = Ingest::start(world.program().env("DATABASE_URL", &require)).await;
    assert_eq!(careless.verdict("author", "b").await, "own 0");

    let distrusting = Ingest::start(world.program().env("DATABASE_URL", &verify)).await;
    assert_eq!(distrusting.verdict("author", "c").await, "counted 1", "nobody could be asked");
    let line = distrusting.daemon.wait_for_line("cannot look posts up").await;
    assert!(line.contains("certificate"), "{line}");
    // The refusal leaves the view in Redis, where one who trusts finds it.
    eventually("the author is known", SOON, || async { trusting.verdict("author", "c").await.starts_with("own") }).await;
    for app in [&trusting, &careless, &distrusting] {
        assert!(!app.daemon.output().join("\n").contains("pg-password"), "{:?}", app.daemon.output());
    }
}
