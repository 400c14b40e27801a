//! Flags and environment, right and wrong ones.

use fred::{interfaces::ClientLike, types::InfoKind};
use testkit::{process::Daemon, redis::RedisServer};

use crate::support::{Ingest, PROGRAM, World, on_free_ports, token};

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once_with_status_64() {
    let program = Daemon::builder(PROGRAM)
        .env("JWT_SECRET", "hidden-secret")
        .env("JWT_PUBLIC_KEY_FILE", "/nonexistent/key.pem")
        .env("REDIS_URL", "redis://:hidden-password@host:port")
        .env("DATABASE_URL", "postgres://u:hidden-password@host/app?sslmode=sometimes")
        .env("VIEW_INGEST_LISTEN", "nowhere")
        .env("VIEW_INGEST_MAX_BATCH", "0")
        .env("VIEW_INGEST_VIEWER_RATE", "60 a minute")
        .env("VIEW_INGEST_READS_REQUIRE_TOKEN", "perhaps")
        .env("POSTS_TABLE", "a.b.c")
        .env("LOG_FORMAT", "poem")
        .args(["--view-ttl", "soon", "--idle-timeout", "10ms"])
        .start();
    assert_eq!(program.wait_exit().await.code(), Some(64));
    let output = program.output().join("\n");
    for name in [
        "--jwt-secret",
        "--redis-url",
        "--database-url",
        "--listen",
        "--max-batch",
        "--viewer-rate",
        "--reads-require-token",
        "--posts-table",
        "--log-format",
        "--view-ttl",
        "--idle-timeout",
        "11 settings are wrong",
    ] {
        assert!(output.contains(name), "{name} is missing in\n{output}");
    }
    assert!(!output.contains("hidden"), "{output}");
}

#[tokio::test]
async fn a_key_is_required() {
    let program = on_free_ports().start();
    assert_eq!(program.wait_exit().await.code(), Some(64));
    assert_eq!(program.lines_with("--jwt-secret").len(), 1, "{:?}", program.output());
}

#[tokio::test]
async fn an_unknown_flag_is_a_wrong_setting_too() {
    for arguments in [vec!["--no-such-flag"], vec!["word"], vec!["--listen"]] {
        let program = Daemon::builder(PROGRAM).args(arguments).env("JWT_SECRET", "hidden").start();
        assert_eq!(program.wait_exit().await.code(), Some(64));
        assert!(!program.output().join("\n").contains("hidden"), "{:?}", program.output());
    }
}

#[tokio::test]
async fn help_shows_the_settings_and_no_secrets() {
    let program = Daemon::builder(PROGRAM)
        .arg("--help")
        .env("JWT_SECRET", "hidden")
        .env("REDIS_PASSWORD", "hidden")
        .env("REDIS_URL", "redis://:hidden@redis")
        // Who mistakes it for the URL.
        .env("REDIS_HOST", "redis://:hidden@redis")
        .env("DATABASE_URL", "postgres://u:hidden@db/app")
        .start();
    assert_eq!(program.wait_exit().await.code(), Some(0));
    let output = program.output().join("\n");
    for name in ["--redis-url", "REDIS_HOST", "--database-url", "--max-connections", "VIEW_INGEST_LISTEN", "127.0.0.1:3001"] {
        assert!(output.contains(name), "{name} is missing in\n{output}");
    }
    assert!(!output.contains("hidden"), "{output}");
}

#[tokio::test]
async fn the_version_is_told() {
    let program = Daemon::builder(PROGRAM).arg("--version").start();
    assert_eq!(program.wait_exit().await.code(), Some(0));
    assert_eq!(program.output(), [format!("view-ingest {}", env!("CARGO_PKG_VERSION"))]);
}

#[tokio::test]
async fn an_empty_variable_counts_as_not_given() {
    let server = RedisServer::start().await;
    let mut program = on_free_ports()
        .env("JWT_SECRET", crate::support::SECRET)
        .env("REDIS_HOST", "127.0.0.1")
        .env("REDIS_PORT", server.port().to_string());
    for name in [
        "REDIS_URL",
        "REDIS_PASSWORD",
        "REDIS_DB",
        "DATABASE_URL",
        "JWT_SECRET_FILE",
        "JWT_PUBLIC_KEY_FILE",
        "VIEW_TTL",
        "POSTS_TABLE",
        "VIEW_INGEST_MAX_BATCH",
        "VIEW_INGEST_VIEWER_RATE",
        "VIEW_INGEST_READS_REQUIRE_TOKEN",
        "VIEW_INGEST_SHUTDOWN_DELAY",
        "LOG_LEVEL",
        "LOG_FORMAT",
    ] {
        program = program.env(name, "");
    }
    let app = Ingest::start(program).await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
}

#[tokio::test]
async fn redis_is_found_by_host_port_password_and_database() {
    let server = RedisServer::builder().password("pass-word").start().await;
    let program = on_free_ports()
        .env("JWT_SECRET", crate::support::SECRET)
        .env("REDIS_HOST", "localhost")
        .env("REDIS_PORT", server.port().to_string())
        .env("REDIS_PASSWORD", "pass-word")
        .env("REDIS_DB", "3");
    let app = Ingest::start(program).await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    let keyspace: String = server.client().await.info(Some(InfoKind::Keyspace)).await.unwrap();
    assert!(keyspace.contains("db3:keys=3") && !keyspace.contains("db0:"), "{keyspace}");
    assert!(!app.daemon.output().join("\n").contains("pass-word"), "{:?}", app.daemon.output());
}

#[tokio::test]
async fn a_flag_wins_over_its_variable() {
    let world = World::redis_alone().await;
    let app = Ingest::start(world.program().env("VIEW_INGEST_MAX_BATCH", "1").args(["--max-batch", "2"])).await;
    assert_eq!(app.batch("ann", &["a", "b"]).await.status, 200);
}

#[tokio::test]
async fn logs_can_be_json_and_tell_no_token() {
    let world = World::redis_alone().await;
    let program = world.program().env("LOG_LEVEL", "trace").env("VIEW_INGEST_WORKERS", "1").start();
    let address = program.wait_for_listening("public").await;
    let http = testkit::http::Client::new(address);
    let token = token("ann");
    http.post_json("/posts/view", Some(&token), &serde_json::json!({ "postId": "p" })).await;
    program.signal("TERM");
    program.wait_exit().await;
    let signature = token.rsplit('.').next().unwrap();
    assert!(program.lines_with(signature).is_empty(), "{:?}", program.lines_with(signature));
    assert!(program.lines_with(crate::support::SECRET).is_empty());

    let json = world.program().env("LOG_FORMAT", "json").start();
    let line = json.wait_for_line("view-ingest started").await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &"view-ingest started".into()));
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_and_ends_the_program() {
    let world = World::redis_alone().await;
    let taken = format!("127.0.0.1:{}", world.server.port());
    for name in ["VIEW_INGEST_LISTEN", "VIEW_INGEST_ADMIN_LISTEN"] {
        let program = world.program().env(name, &taken).start();
        assert_eq!(program.wait_exit().await.code(), Some(1), "{name}");
        assert_eq!(program.lines_with(&format!("cannot listen on {taken}")).len(), 1, "{:?}", program.output());
    }
}
