//! Redis away, without a database that could take its place.

use testkit::{SOON, eventually, proxy::Proxy, redis::RedisServer};

use crate::support::{Ingest, World, assert_error, on_free_ports};

async fn assert_away(app: &Ingest) {
    for client in [&app.http, &app.admin] {
        eventually("it is not ready", SOON, || async { client.get("/readyz").await.status == 503 }).await;
        assert_eq!(client.get("/readyz").await.header("retry-after"), "1");
        assert_eq!(client.get("/livez").await.status, 200);
    }
    let batch = app.batch("ann", &["p", "q"]).await;
    for response in [app.view("ann", "p").await, batch, app.http.get("/posts/p/views").await] {
        assert_error(&response, 503, "Сервис временно недоступен");
        assert_eq!(response.header("retry-after"), "1");
    }
}

async fn assert_back(app: &Ingest, verdict: &str) {
    eventually("views are taken again", SOON, || async { app.verdict("ann", "p").await == verdict }).await;
    for client in [&app.http, &app.admin] {
        eventually("it is ready again", SOON, || async { client.get("/readyz").await.status == 200 }).await;
    }
}

#[tokio::test]
async fn it_says_so_and_goes_on_by_itself_when_redis_is_back() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    world.server.kill().await;
    assert_away(&app).await;
    world.server.restart().await;
    assert_back(&app, "counted 1").await;
    assert_eq!(app.verdict("ann", "p").await, "duplicate 1");
}

#[tokio::test]
async fn a_redis_that_keeps_its_data_calls_nobody_new() {
    let server = RedisServer::start_with(&[("appendonly", "yes"), ("appendfsync", "always")]).await;
    let world = World::with_redis(server).await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    world.server.kill().await;
    assert_away(&app).await;
    world.server.restart().await;
    assert_back(&app, "duplicate 1").await;
    eventually("the test's own client is back", SOON, || async { world.size("p").await == 1 }).await;
    // The refused batch's other post may have been recorded after its answer: that promises nothing, and so loses nothing.
    let outbox = world.outbox().await;
    assert_eq!(outbox.iter().filter(|(post, _)| post == "p").count(), 1, "{outbox:?}");
}

#[tokio::test]
async fn it_starts_without_redis_and_connects_later() {
    let world = World::redis_alone().await;
    world.server.kill().await;
    let app = Ingest::start_without_redis(world.program()).await;
    assert_away(&app).await;
    world.server.restart().await;
    assert_back(&app, "counted 1").await;
    app.daemon.wait_for_nth_line(2, "Redis connected").await;
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_away() {
    let world = World::redis_alone().await;
    let proxy = Proxy::to_port(world.server.port()).await;
    let app = world.ingest_with(&[("REDIS_URL", &format!("redis://{}", proxy.address()))]).await;
    app.view("bob", "p").await;
    proxy.freeze();
    assert_error(&app.view("ann", "p").await, 503, "Сервис временно недоступен");
    assert_away(&app).await;
    proxy.restore().await;
    // The try that was given up may have arrived after all.
    eventually("views are taken again", SOON, || async { app.view("ann", "p").await.status == 200 }).await;
    assert_eq!(app.verdict("ann", "p").await, "duplicate 2");
    let outbox = world.outbox().await;
    assert!(outbox.contains(&("p".to_owned(), "ann".to_owned())), "{outbox:?}");
}

#[tokio::test]
async fn a_reply_that_is_lost_loses_no_view() {
    let world = World::redis_alone().await;
    let proxy = Proxy::to_port(world.server.port()).await;
    let app = world.ingest_with(&[("REDIS_URL", &format!("redis://{}", proxy.address()))]).await;
    app.view("bob", "p").await;
    proxy.swallow_replies();
    assert_eq!(app.verdict("ann", "p").await, "503");
    proxy.restore().await;
    eventually("views are taken again", SOON, || async { app.view("ann", "p").await.status == 200 }).await;
    assert_eq!(app.verdict("ann", "p").await, "duplicate 2");
    assert_eq!(world.size("p").await, 2);
    let outbox = world.outbox().await;
    assert!(outbox.contains(&("p".to_owned(), "ann".to_owned())), "{outbox:?}");
}

#[tokio::test]
async fn a_wrong_password_is_told_without_the_password() {
    let server = RedisServer::builder().password("right-password").start().await;
    let program = on_free_ports()
        .env("JWT_SECRET", crate::support::SECRET)
        .env("REDIS_HOST", "127.0.0.1")
        .env("REDIS_PORT", server.port().to_string())
        .env("REDIS_PASSWORD", "wrong-password");
    let app = Ingest::start_without_redis(program).await;
    app.daemon.wait_for_line("Redis connection lost").await;
    assert_eq!(app.admin.get("/readyz").await.status, 503);
    assert!(!app.daemon.output().join("\n").contains("wrong-password"), "{:?}", app.daemon.output());
}
