//! The daemon's keys and its stores' URLs: read anew, refused, counted, told.

use serde_json::json;
use testkit::{
    http::Client,
    process::Daemon,
    scratch::Scratch,
    tokens::{SigningKey, Token},
};

use crate::support::{PROGRAM, SECRET, World};

async fn ask(client: &Client, token: &str) -> u16 {
    client.post_json("/posts/sync-views", Some(token), &json!({})).await.status
}

#[tokio::test]
async fn hangup_reads_the_keys_anew_and_still_runs_a_cycle() {
    let world = World::new().await;
    let scratch = Scratch::new();
    let (old, new) = (SigningKey::rs256(), SigningKey::es256());
    let token = |key: &SigningKey| Token::new("1").claim("role", "ADMIN").sign(key);
    let file = scratch.write("key.pem", old.public_key_pem());
    let daemon = world.program().env("JWT_PUBLIC_KEY_FILE", &file).env("SYNC_LINGER", "1h").start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    assert_eq!((ask(&client, &token(&old)).await, ask(&client, &token(&new)).await), (200, 401));

    scratch.write("key.pem", new.public_key_pem());
    daemon.signal("HUP");
    daemon.wait_for_line("the key of tokens was read anew").await;
    // The start's, the request's, and the signal's.
    daemon.wait_for_nth_line(3, "Sync completed").await;
    assert_eq!((ask(&client, &token(&old)).await, ask(&client, &token(&new)).await), (401, 200));

    scratch.write("key.pem", "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n");
    daemon.signal("HUP");
    daemon.wait_for_line("the old one stays").await;
    daemon.wait_for_nth_line(5, "Sync completed").await;
    assert_eq!(ask(&client, &token(&new)).await, 200);

    let metrics = client.get("/metrics").await.body;
    assert!(metrics.contains("view_syncd_tokens_refused_total{reason=\"algorithm\"} 2\n"), "{metrics}");
}

#[tokio::test]
async fn hangup_waits_for_no_file() {
    let world = World::new().await;
    let scratch = Scratch::new();
    let key = SigningKey::es256();
    let file = scratch.write("key.pem", key.public_key_pem());
    let daemon = world.program().env("JWT_PUBLIC_KEY_FILE", &file).env("SYNC_LINGER", "1h").start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    daemon.signal("HUP");
    daemon.wait_for_line("the old one stays").await;
    daemon.wait_for_nth_line(2, "Sync completed").await;
    assert_eq!(client.get("/livez").await.status, 200);
    assert_eq!(ask(&client, &Token::new("1").claim("role", "ADMIN").sign(&key)).await, 200);
    daemon.signal("TERM");
    assert!(daemon.wait_exit().await.success(), "{:?}", daemon.output());
}

#[tokio::test]
async fn a_url_in_the_place_of_a_command_is_not_repeated() {
    for arguments in [
        &["migrate", "postgres://u:hidden@h/app"][..],
        &["dead", "drop", "postgres://u:hidden@h/app"],
        &["postgres://u:hidden@h"],
    ] {
        let program = Daemon::builder(PROGRAM)
            .args(arguments)
            .env("JWT_SECRET", SECRET)
            .env("DATABASE_URL", "postgres://u@localhost/app")
            .start();
        assert_eq!(program.wait_exit().await.code(), Some(64), "{arguments:?}");
        assert!(program.lines_with("hidden").is_empty() && !program.output().is_empty(), "{:?}", program.output());
    }
}

#[tokio::test]
async fn the_probes_take_options_and_no_request_without_a_host() {
    let world = World::new().await;
    let daemon = world.daemon().start();
    let address = daemon.wait_for_listening("admin").await;
    for path in ["/livez", "/readyz"] {
        let options = Client::new(address).request("OPTIONS", path, &[], "").await;
        assert_eq!((options.status, options.header("allow")), (204, "GET, HEAD, OPTIONS"), "{path}");
    }
    for head in ["GET /livez HTTP/1.1\r\n", "POST /posts/sync-views HTTP/1.1\r\nhost: x\r\nhost: x\r\n"] {
        let answer = testkit::http::raw(address, format!("{head}connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(r#""statusCode":400"#), "{answer}");
    }
}

#[tokio::test]
async fn weak_keys_and_wrong_files_are_told_together_with_status_64() {
    let program = Daemon::builder(PROGRAM)
        .env("JWT_SECRET", "change-me")
        .env("JWT_ALLOW_WEAK_SECRET", "true")
        .env("DATABASE_URL_FILE", "/nonexistent/database")
        .env("REDIS_URL", "redis://localhost")
        .env("REDIS_URL_FILE", "/nonexistent/redis")
        .start();
    assert_eq!(program.wait_exit().await.code(), Some(64));
    let output = program.output().join("\n");
    for text in
        ["is the one of a sample", "/nonexistent/database", "only one of --redis-url and --redis-url-file", "3 settings are"]
    {
        assert!(output.contains(text), "{text} is missing in\n{output}");
    }
}

#[tokio::test]
async fn stores_that_strangers_can_listen_to_are_told_once() {
    let program = Daemon::builder(PROGRAM)
        .env("JWT_SECRET", SECRET)
        .env("VIEW_SYNCD_ADMIN_LISTEN", "127.0.0.1:0")
        .env("REDIS_URL", "redis-sentinel://one.invalid:1/0?sentinelServiceName=views&sentinelPassword=hidden")
        .env("DATABASE_URL", "postgres://u:hidden@db.invalid:1/app?sslmode=require")
        .start();
    program.wait_for_line("listening").await;
    for text in ["the password goes to one.invalid without TLS", "set sslmode=verify-full"] {
        assert_eq!(program.lines_with(text).len(), 1, "{text}: {:?}", program.output());
    }
    assert!(program.lines_with("hidden").is_empty(), "{:?}", program.output());
}

#[tokio::test]
async fn the_stores_may_be_named_by_files_for_every_command() {
    let world = World::new().await;
    let scratch = Scratch::new();
    let (redis, database) = (scratch.write("redis", world.server.url()), scratch.write("database", world.database.url()));
    let program = |command: &[&str]| {
        let builder = Daemon::builder(PROGRAM).args(command).env("REDIS_URL_FILE", &redis).env("DATABASE_URL_FILE", &database);
        builder.env("POSTS_TABLE", &world.posts.table).env("VIEW_SYNCD_ADMIN_LISTEN", "127.0.0.1:0").env("JWT_SECRET", SECRET)
    };
    let sync = program(&["sync"]).start();
    assert!(sync.wait_exit().await.success(), "{:?}", sync.output());
    let daemon = program(&[]).start();
    daemon.wait_for_line("Sync completed").await;
}
