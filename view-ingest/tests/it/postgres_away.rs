//! PostgreSQL away: Redis goes on alone, and the rules hold again when the database is back.

use std::time::{Duration, Instant};

use testkit::{
    SOON, eventually,
    postgres::PostgresServer,
    posts::{IdType, PostsTable},
    redis::RedisServer,
};

use crate::support::World;

/// A view that the database does not hold up, on a loaded machine.
const QUICK: Duration = Duration::from_secs(3);
/// The longest that a first touch may wait for a database that hangs.
const A_FEW_SECONDS: Duration = Duration::from_secs(10);

async fn world_of(server: &PostgresServer) -> World {
    World::with_stores(RedisServer::start().await, server.database().await, PostsTable::with_ids(IdType::Text)).await
}

#[tokio::test]
async fn views_go_on_without_postgresql_and_its_rules_hold_again_when_it_is_back() {
    let server = PostgresServer::start().await;
    let world = world_of(&server).await;
    world.post_of("known", "author").await;
    world.post_of("p", "author").await;
    world.store("p", &["ann".to_owned()]).await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "known").await, "counted 1");

    server.stop().await;
    let started = Instant::now();
    assert_eq!(app.verdict("bob", "p").await, "counted 1", "from the set");
    assert!(started.elapsed() < A_FEW_SECONDS, "{:?}", started.elapsed());
    let started = Instant::now();
    assert_eq!(app.verdict("cyd", "p").await, "counted 2");
    assert_eq!(app.verdict("cyd", "p").await, "duplicate 2");
    assert_eq!(app.count("p").await, 2);
    assert!(started.elapsed() < 4 * QUICK, "{:?}", started.elapsed());
    assert_eq!(app.verdict("author", "known").await, "own 1", "what Redis knows still holds");
    assert_eq!(app.verdict("bob", "known").await, "counted 2");
    assert_eq!(app.admin.get("/readyz").await.status, 200);

    server.restart().await;
    eventually("the author is known again", SOON, || async { app.verdict("author", "p").await.starts_with("own") }).await;
    // The database's one view and the two that it does not have yet.
    let unstored = world.outbox().await.iter().filter(|(post, viewer)| post == "p" && viewer != "author").count();
    assert_eq!(unstored, 2);
    let strays = world.outbox().await.len() - 2 - unstored;
    assert_eq!(app.verdict("ann", "p").await, format!("duplicate {}", 3 + strays), "the ledger's viewer is back");
}

#[tokio::test]
async fn a_first_touch_waits_a_few_seconds_for_a_postgresql_that_hangs() {
    let server = PostgresServer::start().await;
    let world = world_of(&server).await;
    world.post_of("p", "author").await;
    world.post("known").await;
    let app = world.ingest().await;
    app.view("ann", "known").await;

    server.pause();
    let started = Instant::now();
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    assert!(started.elapsed() < A_FEW_SECONDS, "{:?}", started.elapsed());
    let started = Instant::now();
    assert_eq!(app.verdict("bob", "known").await, "counted 2");
    assert!(started.elapsed() < QUICK, "{:?}", started.elapsed());

    server.resume();
    eventually("the author is known again", SOON, || async { app.verdict("author", "p").await.starts_with("own") }).await;
}
