//! Redis away, and PostgreSQL there: views go straight into it, and nobody can tell from the answers.

use serde_json::json;
use testkit::{
    SOON, eventually,
    http::Response,
    postgres::PostgresServer,
    posts::{IdType, PostsTable, ledger_count, ledger_viewers},
    proxy::Proxy,
    redis::RedisServer,
};

use crate::{
    outbox::set_maxmemory,
    support::{Ingest, World, assert_error},
};

/// Waits until Redis takes the views again, as the gauge tells.
async fn back_to_redis(app: &Ingest) {
    let gauge = "view_ingest_recorders_in_fallback";
    eventually("Redis takes the views again", SOON, || async { app.metric(gauge).await == 0.0 }).await;
}

/// Durable, so that a killed Redis comes back with what it had.
async fn durable_world() -> World {
    let database = testkit::postgres::shared().await.database().await;
    let server = RedisServer::start_with(&[("appendonly", "yes"), ("appendfsync", "always")]).await;
    World::with_stores(server, database, PostsTable::with_ids(IdType::Text)).await
}

fn verdicts(response: &Response) -> Vec<String> {
    let results = response.json()["results"].as_array().unwrap().clone();
    results.iter().map(|result| format!("{} {}", result["status"].as_str().unwrap(), result["viewsCount"])).collect()
}

#[tokio::test]
async fn verdicts_are_the_same_without_redis() {
    let world = World::new().await;
    for post in ["p", "q", "r"] {
        world.post_of(post, "author").await;
    }
    world.store("p", &["old".to_owned()]).await;
    let app = world.ingest().await;
    world.server.kill().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 2");
    assert_eq!(app.verdict("ann", "p").await, "duplicate 2");
    assert_eq!(app.verdict("old", "p").await, "duplicate 2");
    assert_eq!(app.verdict("author", "p").await, "own 2");
    assert_eq!(app.verdict("ann", "nothing").await, "404");
    let batch = app.batch("bob", &["p", "q", "nothing", "q"]).await;
    assert_eq!(verdicts(&batch), ["counted 3", "counted 1", "not_found 0"]);
    assert_eq!(batch.json()["postIds"], json!(["p", "q"]));
    assert_eq!(app.count("p").await, 3);
    assert_eq!(app.http.get("/posts/views?ids=p,q,r,nothing").await.json(), json!({"views": {"p": 3, "q": 1, "r": 0}}));
    assert_eq!(ledger_viewers(world.sql(), "p").await.len(), 3);
    assert_eq!(world.posts.views_count(world.sql(), "p").await, 3);
    for client in [&app.http, &app.admin] {
        eventually("it is ready", SOON, || async { client.get("/readyz").await.status == 200 }).await;
    }
    app.daemon.wait_for_line("they are written straight into PostgreSQL").await;
    assert!(app.metric("view_ingest_recorders_in_fallback").await > 0.0);
    for (store, takes_views) in [("redis", 0.0), ("postgresql", 1.0), ("none", 0.0)] {
        assert_eq!(app.metric(&format!("view_ingest_active_store{{store=\"{store}\"}}")).await, takes_views, "{store}");
    }
    assert_eq!(app.metric("view_ingest_redis_up").await, 0.0);
}

#[tokio::test]
async fn simultaneous_views_are_stored_together_and_each_viewer_once() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest().await;
    world.server.kill().await;
    let viewers: Vec<String> = (0..100).map(|viewer| format!("viewer-{}", viewer / 2)).collect();
    let views = viewers.iter().map(|viewer| app.view(viewer, "p"));
    let answers = futures_util::future::join_all(views).await;
    let counted = answers.iter().filter(|answer| answer.json()["status"] == "counted").count();
    assert_eq!(counted, 50, "{answers:?}");
    assert_eq!(ledger_count(world.sql(), "p").await, 50);
    assert_eq!(world.posts.views_count(world.sql(), "p").await, 50);
}

#[tokio::test]
async fn no_stale_count_is_served_when_redis_is_back() {
    let world = durable_world().await;
    for post in ["p", "q"] {
        world.post(post).await;
    }
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    assert_eq!(app.verdict("ann", "q").await, "counted 1");
    world.server.kill().await;
    // The outbox is out of reach, so only what PostgreSQL has is counted.
    assert_eq!(app.verdict("bob", "p").await, "counted 1");
    world.server.restart().await;
    back_to_redis(&app).await;
    assert_eq!(app.verdict("bob", "p").await, "duplicate 2");
    assert_eq!(app.verdict("ann", "p").await, "duplicate 2");
    assert_eq!(app.verdict("eve", "p").await, "counted 3");
    // Of the other recorder the gauge says nothing, because it has stored nothing past Redis: its connection may come
    // back later.
    eventually("the other post's view is seen again", SOON, || async { app.count("q").await == 1 }).await;
    app.daemon.wait_for_line("Redis takes the views again").await;
}

#[tokio::test]
async fn a_post_with_many_viewers_knows_those_of_the_outage_afterwards() {
    let world = durable_world().await;
    world.post("p").await;
    world.store("p", &crate::support::viewers(1_200)).await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1201");
    world.server.kill().await;
    assert_eq!(app.verdict("bob", "p").await, "counted 1201");
    world.server.restart().await;
    back_to_redis(&app).await;
    assert_eq!(app.verdict("bob", "p").await, "duplicate 1202");
}

#[tokio::test]
async fn a_redis_that_hangs_holds_nobody_up_for_long() {
    let world = World::new().await;
    for post in ["p", "q"] {
        world.post(post).await;
    }
    let proxy = Proxy::to_port(world.server.port()).await;
    let app = world.ingest_with(&[("REDIS_URL", &format!("redis://{}", proxy.address()))]).await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    proxy.freeze();
    assert_eq!(app.verdict("bob", "p").await, "counted 1");
    assert_eq!(app.verdict("bob", "q").await, "counted 1");
    proxy.restore().await;
    back_to_redis(&app).await;
    assert_eq!(app.verdict("bob", "p").await, "duplicate 2");
}

#[tokio::test]
async fn a_lost_reply_counts_nobody_twice() {
    let world = World::new().await;
    world.post("p").await;
    let proxy = Proxy::to_port(world.server.port()).await;
    let app = world.ingest_with(&[("REDIS_URL", &format!("redis://{}", proxy.address()))]).await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    proxy.swallow_replies();
    assert_eq!(app.view("bob", "p").await.status, 200);
    proxy.restore().await;
    back_to_redis(&app).await;
    assert_eq!(app.verdict("bob", "p").await.split(' ').next(), Some("duplicate"));
    assert_eq!(world.size("p").await, 2);
}

#[tokio::test]
async fn a_full_redis_counts_as_away() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    set_maxmemory(&world, "1").await;
    assert_eq!(app.verdict("bob", "p").await, "counted 1");
    assert_eq!(app.verdict("bob", "p").await, "duplicate 1");
    assert_eq!(app.count("p").await, 1);
    set_maxmemory(&world, "0").await;
    back_to_redis(&app).await;
    assert_eq!(app.verdict("bob", "p").await, "duplicate 2");
    assert_eq!(app.verdict("ann", "p").await, "duplicate 2");
}

#[tokio::test]
async fn with_both_stores_away_nothing_is_acknowledged() {
    let server = PostgresServer::start().await;
    let database = server.database().await;
    let world = World::with_stores(RedisServer::start().await, database, PostsTable::with_ids(IdType::Text)).await;
    world.post("p").await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    world.server.kill().await;
    // Not killed: the kit's PostgreSQL does not wait for its disk, and could come back without the ledger.
    server.stop().await;
    for response in [app.view("bob", "p").await, app.batch("bob", &["p"]).await, app.http.get("/posts/p/views").await] {
        assert_error(&response, 503, "Сервис временно недоступен");
        assert_eq!(response.header("retry-after"), "1");
    }
    for client in [&app.http, &app.admin] {
        eventually("it is not ready", SOON, || async { client.get("/readyz").await.status == 503 }).await;
        assert_eq!(client.get("/livez").await.status, 200);
    }
    server.restart().await;
    eventually("PostgreSQL takes the views", SOON, || async {
        app.verdict("bob", "p").await == "duplicate 1" || app.verdict("bob", "p").await == "counted 1"
    })
    .await;
    eventually("it is ready again", SOON, || async { app.http.get("/readyz").await.status == 200 }).await;
}
