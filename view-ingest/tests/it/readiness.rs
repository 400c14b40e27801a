//! `/readyz` says well when a view was stored or a store takes writes, and for no other reason.

use std::time::Duration;

use testkit::{
    SOON, eventually,
    posts::{IdType, PostsTable},
    redis::RedisServer,
};

use crate::{
    away::{Polls, durable_world},
    fallback_faults::REFUSE_ALL,
    outbox::set_maxmemory,
    redis_refuses::command,
    support::{Ingest, World},
};

/// Longer than anything that takes silence for health.
const LONG: Duration = Duration::from_secs(8);
/// How soon it is well again after a store is.
const SOON_AFTER: Duration = Duration::from_secs(4);

/// The states of a Redis that answers and takes no writes.
const UNWRITABLE: [(&[&str], &[&str]); 2] = [
    (&["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"]),
    (&["CONFIG", "SET", "min-replicas-to-write", "1"], &["CONFIG", "SET", "min-replicas-to-write", "0"]),
];

async fn world() -> World {
    let world = durable_world().await;
    world.post_of("p", "author").await;
    world.store("p", &["old".to_owned()]).await;
    world
}

async fn is_ready(app: &Ingest) -> bool {
    let (public, operators) = (app.http.get("/readyz").await.status, app.admin.get("/readyz").await.status);
    assert!([200, 503].contains(&public) && [200, 503].contains(&operators));
    public == 200 && operators == 200
}

#[tokio::test]
async fn it_is_not_ready_as_long_as_neither_store_takes_writes() {
    for (refuse, allow) in UNWRITABLE {
        // The one that recovers first.
        for is_redis in [true, false] {
            let world = world().await;
            let app = world.ingest().await;
            assert!(is_ready(&app).await);
            assert_eq!(app.verdict("ann", "p").await, "counted 2");
            command(&world.redis, refuse).await.unwrap();
            world.sql().batch_execute(REFUSE_ALL).await.unwrap();
            assert_eq!(app.verdict("bob", "p").await, "503", "{refuse:?}");
            let polls = Polls::begin(&app.admin);
            tokio::time::sleep(LONG / 2).await;
            // What stores nothing proves nothing.
            for (viewer, verdict) in [("author", "own"), ("old", "duplicate"), ("bob", "503")] {
                assert!(app.verdict(viewer, "p").await.starts_with(verdict), "{viewer}");
            }
            app.count("p").await;
            tokio::time::sleep(LONG / 2).await;
            polls.assert_all(503).await;

            if is_redis {
                command(&world.redis, allow).await.unwrap();
            } else {
                world.sql().batch_execute("drop trigger refuse on post_views").await.unwrap();
            }
            eventually("it is ready without a view", SOON_AFTER, || is_ready(&app)).await;
            assert!(app.verdict("bob", "p").await.starts_with("counted"));
            assert!(is_ready(&app).await);
        }
    }
}

#[tokio::test]
async fn without_a_database_a_redis_that_takes_no_writes_is_an_outage_until_it_does() {
    for (refuse, allow) in UNWRITABLE {
        let world = World::redis_alone().await;
        let app = world.ingest().await;
        assert_eq!(app.verdict("ann", "p").await, "counted 1");
        command(&world.redis, refuse).await.unwrap();
        assert!(is_ready(&app).await, "nobody knows yet");
        assert_eq!(app.verdict("bob", "p").await, "503", "{refuse:?}");
        let polls = Polls::begin(&app.admin);
        for _ in 0..8 {
            tokio::time::sleep(LONG / 8).await;
            app.http.get("/posts/p/views").await;
            app.view("ann", "p").await;
        }
        polls.assert_all(503).await;
        command(&world.redis, allow).await.unwrap();
        eventually("it is ready without a view", SOON_AFTER, || is_ready(&app)).await;
    }
}

#[tokio::test]
async fn it_does_not_start_as_ready_where_nothing_can_be_stored() {
    let world = world().await;
    world.sql().batch_execute(REFUSE_ALL).await.unwrap();
    set_maxmemory(&world, "1").await;
    let app = world.ingest().await;
    let polls = Polls::begin(&app.admin);
    tokio::time::sleep(LONG).await;
    polls.assert_all(503).await;
    set_maxmemory(&world, "0").await;
    eventually("it is ready without a view", SOON_AFTER, || is_ready(&app)).await;
}

/// Nobody views anything, and Redis dies.
#[tokio::test]
async fn a_database_that_answers_and_takes_nothing_is_no_substitute() {
    let world = world().await;
    let app = world.ingest().await;
    assert!(is_ready(&app).await);
    world.sql().batch_execute(REFUSE_ALL).await.unwrap();
    world.server.kill().await;
    eventually("it is not ready", SOON, || async { !is_ready(&app).await }).await;
    let polls = Polls::begin(&app.admin);
    tokio::time::sleep(LONG).await;
    polls.assert_all(503).await;
    world.sql().batch_execute("drop trigger refuse on post_views").await.unwrap();
    eventually("it is ready without a view", SOON_AFTER, || is_ready(&app)).await;
    // A rule that comes later is met by whoever asks next.
    world
        .sql()
        .batch_execute("create trigger refuse before insert on post_views for each row execute function refuse()")
        .await
        .unwrap();
    eventually("it is not ready", SOON_AFTER, || async { !is_ready(&app).await }).await;
}

/// The proofs are for those who do not know better.
#[tokio::test]
async fn a_store_that_takes_views_is_not_asked_whether_it_does() {
    let database = testkit::postgres::shared().await.database().await;
    database.log_statements().await;
    let world = World::with_stores(RedisServer::start().await, database, PostsTable::with_ids(IdType::Text)).await;
    world.post("p").await;
    let app = world.ingest().await;
    assert!(is_ready(&app).await);
    let [at_start] = world.calls(["setrange"]).await;
    for viewer in 0..30 {
        app.view(&format!("viewer-{viewer}"), "p").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((at_start, world.calls(["setrange"]).await), (1, [1]));
    assert_eq!(world.statements("probe"), 0);
    world.server.kill().await;
    eventually("PostgreSQL takes the views", SOON, || async { app.view("first", "p").await.status == 200 }).await;
    let before = world.statements("probe");
    for viewer in 30..60 {
        assert_eq!(app.view(&format!("viewer-{viewer}"), "p").await.status, 200);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(before <= 1 && world.statements("probe") <= before + 1, "{before} {}", world.statements("probe"));
}
