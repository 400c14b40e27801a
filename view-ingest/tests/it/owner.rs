//! Whose the keys in Redis are: views are not entrusted to keys that another database drains.

use fred::interfaces::{KeysInterface, ServerInterface};
use testkit::{
    SOON, eventually,
    postgres::PostgresServer,
    posts::{PostsTable, ledger_count},
    proxy::Proxy,
    redis::RedisServer,
};

use crate::support::{Ingest, World, as_the_programs_know_it};

const KEY: &str = "views:owner";
const FOREIGN: &str = "the keys in Redis belong to another database: views:owner is \"another ledger\"";
const UNFIT: &str = "view_ingest_redis_unfit";

async fn set_owner(world: &World, owner: &str) {
    let () = world.redis.set(KEY, owner, None, None, false).await.unwrap();
}

/// The name that this world's ledger has in Redis.
async fn own_name(world: &World) -> String {
    as_the_programs_know_it(world.database(), &world.posts).owner().await.unwrap().to_string()
}

#[tokio::test]
async fn a_foreign_redis_is_passed_by_from_the_start_until_it_is_ours() {
    let world = World::new().await;
    world.post("p").await;
    set_owner(&world, "another ledger").await;
    let app = world.ingest().await;
    app.daemon.wait_for_line(FOREIGN).await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    assert_eq!(app.verdict("ann", "p").await, "duplicate 1");
    assert_eq!(app.count("p").await, 1);
    assert_eq!(ledger_count(world.sql(), "p").await, 1);
    assert_eq!(app.metric(UNFIT).await, 1.0);
    assert!(app.metric("view_ingest_recorders_in_fallback").await > 0.0);
    eventually("it is ready", SOON, || async { app.http.get("/readyz").await.status == 200 }).await;
    let keys: i64 = world.redis.dbsize().await.unwrap();
    assert_eq!(keys, 1, "nothing of ours is among somebody else's keys");

    set_owner(&world, &own_name(&world).await).await;
    app.daemon.wait_for_line("Redis takes the views again").await;
    assert_eq!(app.metric(UNFIT).await, 0.0);
    assert_eq!(app.verdict("ann", "p").await, "duplicate 1");
    assert_eq!(app.verdict("bob", "p").await, "counted 2");
    assert_eq!(world.outbox().await, [("p".to_owned(), "bob".to_owned())]);
    assert_eq!(app.daemon.lines_with(FOREIGN).len(), 1, "{:?}", app.daemon.output());
}

#[tokio::test]
async fn keys_that_change_hands_while_it_runs_are_left_alone() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1", "nobody owns the keys yet");
    assert_eq!(world.redis.exists::<i64, _>(KEY).await.unwrap(), 0, "it is view-syncd that takes them");
    assert_eq!(world.outbox().await.len(), 1);

    set_owner(&world, "another ledger").await;
    app.daemon.wait_for_line(FOREIGN).await;
    eventually("it is told", SOON, || async { app.metric(UNFIT).await == 1.0 }).await;
    let number = std::cell::Cell::new(0);
    eventually("views go past Redis", SOON, async || {
        let before = world.outbox().await.len();
        number.set(number.get() + 1);
        assert!(app.verdict(&format!("viewer-{}", number.get()), "p").await.starts_with("counted"));
        world.outbox().await.len() == before
    })
    .await;
    let before = world.outbox().await.len();
    for viewer in ["x", "y", "z"] {
        assert!(app.verdict(viewer, "p").await.starts_with("counted"));
    }
    assert_eq!(world.outbox().await.len(), before);

    // Redis has lost everything: then the keys are nobody's, and Redis is used as before.
    let () = world.redis.del(KEY).await.unwrap();
    app.daemon.wait_for_line("Redis takes the views again").await;
    assert_eq!(app.metric(UNFIT).await, 0.0);
    assert_eq!(app.daemon.lines_with(FOREIGN).len(), 1, "{:?}", app.daemon.output());
}

#[tokio::test]
async fn without_a_database_nobody_can_tell_whose_the_keys_are() {
    let world = World::redis_alone().await;
    set_owner(&world, "another ledger").await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    assert_eq!(app.metric(UNFIT).await, 0.0);
}

#[tokio::test]
async fn a_database_that_answers_late_closes_the_gate_late_and_its_going_does_not_open_it() {
    let postgres = PostgresServer::start().await;
    let proxy = Proxy::to_port(postgres.port()).await;
    let posts = PostsTable::with_ids(testkit::posts::IdType::Text);
    let world = World::with_stores(RedisServer::start().await, postgres.database().await, posts).await;
    world.post("p").await;
    set_owner(&world, "another ledger").await;
    proxy.break_networking().await;
    let url = format!("postgres://postgres@{}/{}", proxy.address(), world.database().name());
    let app = Ingest::start(world.program().env("DATABASE_URL", url)).await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1", "as long as nobody knows better, Redis is used");
    assert_eq!(world.outbox().await.len(), 1);

    proxy.restore().await;
    app.daemon.wait_for_line(FOREIGN).await;
    eventually("it is told", SOON, || async { app.metric(UNFIT).await == 1.0 }).await;
    proxy.break_networking().await;
    eventually("neither store takes views", SOON, || async { app.verdict("bob", "p").await == "503" }).await;
    assert_eq!(world.outbox().await.len(), 1);
    assert_eq!(app.metric(UNFIT).await, 1.0);
}

#[tokio::test]
async fn an_account_that_may_not_read_the_owner_s_name_is_told_of_once_and_goes_on() {
    let rights = "limited on >secret ~post:* ~{post:* ~views:outbox &* +@all";
    let server = RedisServer::start_with(&[("user", rights)]).await;
    let url = server.url().replace("redis://", "redis://limited:secret@");
    let database = testkit::postgres::shared().await.database().await;
    let world = World::with_stores(server, database, PostsTable::with_ids(testkit::posts::IdType::Text)).await;
    world.post("p").await;
    let app = world.ingest_with(&[("REDIS_URL", &url)]).await;
    app.daemon.wait_for_line("Redis does not let this account read views:owner").await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    assert_eq!(world.outbox().await.len(), 1);
    assert_eq!(app.daemon.lines_with("does not let this account").len(), 1, "{:?}", app.daemon.output());
}
