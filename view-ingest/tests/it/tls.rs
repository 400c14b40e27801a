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
async fn a_url_of_redis_says_itself_whom_to_trust() {
    let certificates = Certificates::new();
    let world = World::with_redis(RedisServer::builder().tls(&certificates).password("a-password").start().await).await;
    let url = world.server.url();
    let with = |options: &str| {
        let url = if url.contains('?') { format!("{url}&{options}") } else { format!("{url}?{options}") };
        world.program().env("REDIS_URL", "").env("REDIS_URI", url)
    };
    let ca = certificates.ca_file().display();
    let other = Certificates::new();
    // Other clients' options, among them that of Railway's hosted Redis, do no harm.
    for (number, options) in [format!("ssl_ca_certs={ca}&family=0"), "ssl_cert_reqs=none".to_owned()].iter().enumerate() {
        let app = Ingest::start(with(options)).await;
        assert_eq!(app.verdict("ann", &format!("p{number}")).await, "counted 1", "{options}");
        assert!(app.daemon.lines_with("a-password").is_empty(), "{:?}", app.daemon.output());
    }
    let written_otherwise = url.replace("rediss://", "REDIS://") + "?tls=true";
    let app =
        Ingest::start(world.program().env("REDIS_URL", written_otherwise).env("SSL_CERT_FILE", certificates.ca_file())).await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");

    let distrusting = Ingest::start_without_redis(with(&format!("ssl_ca_certs={}", other.ca_file().display()))).await;
    distrusting.daemon.wait_for_line("Redis connection lost").await;
    assert_eq!(distrusting.verdict("ann", "q").await, "503");
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
    // What other drivers write is honoured: `ssl=true` alone looks at the certificate, and the URL may name its root.
    let by_name = require.replace("sslmode=require", &format!("ssl=true&sslrootcert={}", certificates.ca_file().display()));
    let python =
        require.replace("postgres://", "postgresql+asyncpg://").replace("sslmode=require", "ssl=require&channel_binding=require");
    let java = java_url(&require);
    for (number, url) in [by_name, python, java].iter().enumerate() {
        let post = format!("d{number}");
        world.post_of(&post, "author").await;
        let app = Ingest::start(world.program().env("DATABASE_URL", url)).await;
        assert_eq!(app.verdict("author", &post).await, "own 0", "{url}: {:?}", app.daemon.output());
        assert!(!app.daemon.output().join("\n").contains("pg-password"), "{:?}", app.daemon.output());
    }
    let strict = require.replace("sslmode=require", "ssl=true&pool=5");
    let app = Ingest::start(world.program().env("DATABASE_URL", &strict)).await;
    world.post_of("e", "author").await;
    assert_eq!(app.verdict("author", "e").await, "counted 1", "nobody could be asked");
    assert!(app.daemon.wait_for_line("cannot look posts up").await.contains("certificate"));

    // The refusal leaves the view in Redis, where one who trusts finds it.
    eventually("the author is known", SOON, || async { trusting.verdict("author", "c").await.starts_with("own") }).await;
    for app in [&trusting, &careless, &distrusting] {
        assert!(!app.daemon.output().join("\n").contains("pg-password"), "{:?}", app.daemon.output());
    }
}

/// Writes a URL as Java does, with user and password among the options.
fn java_url(url: &str) -> String {
    let (_, rest) = url.split_once("://").unwrap();
    let (credentials, place) = rest.split_once('@').unwrap();
    let (user, password) = credentials.split_once(':').unwrap();
    format!("jdbc:postgresql://{place}&user={user}&password={password}&ApplicationName=blog&prepareThreshold=0")
}
