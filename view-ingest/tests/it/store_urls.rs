//! URLs of stores from files, and stores that strangers can listen to.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use testkit::{
    postgres,
    posts::{IdType, PostsTable},
    process::DaemonBuilder,
    redis::RedisServer,
    scratch::Scratch,
};

use crate::support::{Ingest, SECRET, World, on_free_ports};

#[tokio::test]
async fn urls_with_passwords_may_stand_in_files() {
    let redis = RedisServer::builder().password("pass-word").start().await;
    let database = postgres::shared().await.database().await;
    let world = World::with_stores(redis, database, PostsTable::with_ids(IdType::Text)).await;
    world.post_of("p", "ann").await;
    let scratch = Scratch::new();
    let redis_url = scratch.write("redis", format!("{}\r\n", world.server.url()));
    let database_url = scratch.write("database", format!("{}\n", world.database().url()));
    let program = on_free_ports().env("JWT_SECRET", SECRET).env("DATABASE_URL_FILE", &database_url).env("REDIS_URL", "");
    // What is given in parts is passed over, as it is beside REDIS_URL.
    let program = program.env("REDIS_URL_FILE", &redis_url).env("REDIS_HOST", "nowhere.invalid");
    let app = Ingest::start(program).await;
    assert_eq!(app.verdict("bob", "p").await, "counted 1");
    assert_eq!(app.verdict("ann", "p").await, "own 1");
    assert!(app.daemon.lines_with("pass-word").is_empty(), "{:?}", app.daemon.output());
}

#[tokio::test]
async fn what_is_wrong_with_such_files_is_told_at_once() {
    let scratch = Scratch::new();
    let empty = scratch.write("empty", "\n");
    let url = scratch.write("url", "postgres://u:hidden@localhost/app");
    let program = on_free_ports()
        .env("JWT_SECRET", "s")
        .env("REDIS_URL_FILE", "/nonexistent/redis")
        .env("DATABASE_URL", "postgres://u:hidden@localhost/app")
        .env("DATABASE_URL_FILE", &url)
        .start();
    assert_eq!(program.wait_exit().await.code(), Some(64));
    let output = program.output().join("\n");
    for text in
        ["/nonexistent/redis", "only one of --database-url and --database-url-file", "--jwt-secret: ", "3 settings are wrong"]
    {
        assert!(output.contains(text), "{text} is missing in\n{output}");
    }
    assert!(!output.contains("hidden"), "{output}");

    let wrong = scratch.write("wrong", "mysql://u:hidden@localhost/app");
    let program = on_free_ports()
        .env("JWT_SECRET", SECRET)
        .args(["--redis-url-file", empty.to_str().unwrap(), "--database-url-file", wrong.to_str().unwrap()])
        .start();
    assert_eq!(program.wait_exit().await.code(), Some(64));
    let output = program.output().join("\n");
    for text in [&format!("--redis-url-file: {} is empty", empty.display()), "--database-url-file: is not a URL"] {
        assert!(output.contains(text), "{text} is missing in\n{output}");
    }
    assert!(!output.contains("hidden"), "{output}");
}

/// Starts the program with a wrong command line or environment, and gives what it says.
async fn complaint(program: DaemonBuilder) -> String {
    let program = program.start();
    assert_eq!(program.wait_exit().await.code(), Some(64), "{:?}", program.output());
    program.output().join("\n")
}

#[tokio::test]
async fn no_part_of_a_password_is_repeated() {
    let scratch = Scratch::new();
    let two_lines = scratch.write("two", "postgres://u:hidden@db/app\npostgres://u:hidden@db2/app\n");
    let with_key = || on_free_ports().env("JWT_SECRET", SECRET);
    for (program, why) in [
        (with_key().env("DATABASE_URL", "postgres://u:pa@hidden-tail@db/app"), "write %40"),
        (with_key().env("DATABASE_URL_FILE", &two_lines), "--database-url-file: has more than one line"),
        (with_key().env("REDIS_URL", "redis://u:12/hidden@cache/0"), "write %40"),
        (with_key().env("REDIS_URL", "redis://:hidden@cache/0\nredis://:hidden@cache/0"), "--redis-url: has more than one line"),
        (with_key().env("DATABASE_URL", "postgres://u:hidden@db/app?sslcert=/hidden"), "sslcert: client certificates are not"),
        (
            with_key().env("DATABASE_URL", "postgres://u:hidden@db/app?sslrootcert=/nonexistent"),
            "sslrootcert: /nonexistent cannot",
        ),
        (
            with_key().env("REDIS_URL", "rediss://u:hidden@cache?ssl_certfile=/hidden"),
            "ssl_certfile: client certificates are not",
        ),
        (with_key().env("REDIS_URL", "redis://u:hidden@a").env("REDIS_URI", "redis://u:hidden@b"), "give only one of them"),
        (with_key().arg("postgres://u:hidden@db/app"), "unexpected argument"),
        (with_key().arg("--listen=127.0.0.1:0").arg("--database=postgres://u:hidden@db/app"), "unexpected argument"),
    ] {
        let output = complaint(program).await;
        assert!(output.contains(why) && !output.contains("hidden"), "{output}");
    }
}

#[tokio::test]
async fn a_variable_that_is_no_text_is_named_without_its_value() {
    for name in ["JWT_SECRET", "REDIS_URL", "DATABASE_URL"] {
        let value = OsStr::from_bytes(b"hidden\xff");
        let output = complaint(on_free_ports().env(name, value)).await;
        assert!(output.contains(name) && output.contains("UTF-8") && !output.contains("hidden"), "{output}");
    }
}

#[tokio::test]
async fn a_secret_on_the_command_line_is_told() {
    let server = RedisServer::start().await;
    let program = on_free_ports().env("REDIS_URL", server.url()).args(["--jwt-secret", SECRET]);
    let app = Ingest::start(program).await;
    let lines = app.daemon.lines_with("the command line shows in the list of processes");
    assert!(lines.len() == 1 && lines[0].contains("WARN") && lines[0].contains("JWT_SECRET"), "{:?}", app.daemon.output());
    assert!(app.daemon.lines_with(SECRET).is_empty());
}

#[tokio::test]
async fn a_store_that_strangers_can_listen_to_is_told_once_at_the_start() {
    // Nothing has to be there: the line comes first, and these names are reserved for tests.
    let starting = |redis: &str, database: &str| -> DaemonBuilder {
        on_free_ports().env("JWT_SECRET", SECRET).env("REDIS_URL", redis).env("DATABASE_URL", database)
    };
    let near = ["redis://:hidden@127.0.0.1:1/0", "postgres://u:hidden@localhost:1/app"];
    let program = starting("redis://:hidden@cache.invalid:1/0", "postgres://u:hidden@localhost:1,db.invalid:1/app").start();
    program.wait_for_line("without TLS").await;
    program.wait_for_line("sslmode=verify-full").await;
    let safe = starting(near[0], "postgres://u:hidden@db.invalid:1/app?sslmode=verify-full").start();
    safe.wait_for_line("listening").await;
    let local = starting(near[0], near[1]).start();
    local.wait_for_line("listening").await;
    for (program, number) in [(&program, 1), (&safe, 0), (&local, 0)] {
        for text in ["without TLS", "sslmode=verify-full"] {
            assert_eq!(program.lines_with(text).len(), number, "{text}: {:?}", program.output());
        }
        assert!(program.lines_with("hidden").is_empty(), "{:?}", program.output());
    }
}
