//! `GET /posts/viewed?ids=…`: which posts the token's user has seen, whatever store is away.

use std::time::{Duration, Instant};

use fred::interfaces::KeysInterface;
use testkit::{
    SOON, eventually,
    http::Response,
    postgres::PostgresServer,
    posts::{IdType, PostsTable},
    redis::RedisServer,
};

use crate::support::{Ingest, World, assert_error, set, token};

async fn ask(app: &Ingest, viewer: &str, query: &str) -> Response {
    let authorization = format!("Bearer {}", token(viewer));
    app.http.request("GET", &format!("/posts/viewed?{query}"), &[("authorization", &authorization)], "").await
}

async fn viewed(app: &Ingest, viewer: &str, ids: &str) -> String {
    let answer = ask(app, viewer, &format!("ids={ids}")).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{answer:?}");
    answer.body.strip_prefix(r#"{"viewed":"#).unwrap().strip_suffix('}').unwrap().to_owned()
}

#[tokio::test]
async fn what_a_viewer_has_seen_is_told_and_not_counted() {
    let world = World::new().await;
    for post in ["a", "b", "stored"] {
        world.post(post).await;
    }
    world.post_of("own", "ann").await;
    world.store("stored", &["ann".to_owned()]).await;
    let app = world.ingest().await;
    app.view("ann", "a").await;
    app.view("ann", "own").await;
    app.view("bob", "b").await;
    let seen = r#"{"a":true,"b":false,"stored":true,"own":false}"#;
    assert_eq!(viewed(&app, "ann", "a,unknown,b,stored,own,a").await, seen);
    assert_eq!(viewed(&app, "ann", "a&ids=b,a&x=1&ids=stored&ids=own").await, seen);
    assert_eq!(viewed(&app, "bob", "a,b,stored").await, r#"{"a":false,"b":true,"stored":false}"#);
    assert_eq!(viewed(&app, "ann", "unknown").await, "{}");
    assert_eq!(world.outbox().await.len(), 2);
    assert_eq!((world.size("stored").await, app.count("b").await), (0, 1));
    // A set that has expired, or never held all of them.
    let _: i64 = world.redis.del(set("a")).await.unwrap();
    world.store("a", &["ann".to_owned()]).await;
    assert_eq!(viewed(&app, "ann", "a").await, r#"{"a":true}"#);
}

#[tokio::test]
async fn a_post_that_is_not_found_costs_no_second_query() {
    let world = World::new().await;
    world.database().log_statements().await;
    let app = world.ingest().await;
    for _ in 0..10 {
        assert_eq!(viewed(&app, "ann", "unknown,unknown-too").await, "{}");
    }
    assert_eq!(world.statements("look"), 1);
}

#[tokio::test]
async fn who_asks_needs_a_token_and_good_ids() {
    let world = World::with_posts(PostsTable::with_ids(IdType::Bigint)).await;
    world.post_of("7", "1").await;
    let app = world.ingest().await;
    assert_error(&app.http.get("/posts/viewed?ids=7").await, 401, "Требуется авторизация");
    assert_error(&ask(&app, "ann", "ids=7").await, 401, "Идентификатор пользователя в токене не подходит");
    assert_eq!(viewed(&app, "2", "7,abc,550e8400-e29b-41d4-a716-446655440000").await, r#"{"7":false}"#);
    assert_error(&ask(&app, "2", "id=7").await, 400, "Не указан список постов");
    assert_error(&ask(&app, "2", "ids=").await, 400, "Список постов пуст");
    assert_error(&ask(&app, "2", "ids=a:b").await, 400, "Некорректный идентификатор поста");
    let many = (0..101).map(|post| post.to_string()).collect::<Vec<_>>().join(",");
    assert_error(&ask(&app, "2", &format!("ids={many}")).await, 400, "Слишком много постов в запросе, максимум: 100");
    let post = app.http.request("POST", "/posts/viewed?ids=7", &[], "").await;
    assert_eq!((post.status, post.header("allow")), (405, "GET, HEAD"));
}

#[tokio::test]
async fn one_store_is_enough() {
    let server = PostgresServer::start().await;
    let posts = PostsTable::with_ids(IdType::Text);
    let world = World::with_stores(RedisServer::start().await, server.database().await, posts).await;
    for post in ["a", "b", "untouched", "stored"] {
        world.post(post).await;
    }
    world.store("stored", &["ann".to_owned()]).await;
    let app = world.ingest().await;
    app.view("ann", "a").await;
    app.view("bob", "b").await;

    server.stop().await;
    for _ in 0..3 {
        assert_eq!(viewed(&app, "ann", "a,b,untouched").await, r#"{"a":true,"b":false,"untouched":false}"#);
    }
    world.server.kill().await;
    eventually("neither store answers", SOON, || async { ask(&app, "ann", "ids=a,b").await.status == 503 }).await;
    assert_error(&ask(&app, "ann", "ids=a").await, 503, "Сервис временно недоступен");

    server.restart().await;
    let expected = r#"{"viewed":{"stored":true,"b":false}}"#;
    let by_postgres = || async { ask(&app, "ann", "ids=stored,b,unknown").await.body == expected };
    eventually("PostgreSQL answers", SOON, by_postgres).await;
    assert_eq!(app.verdict("ann", "b").await.split(' ').next(), Some("counted"), "past Redis");
    assert_eq!(viewed(&app, "ann", "b").await, r#"{"b":true}"#);
}

#[tokio::test]
async fn a_database_that_hangs_is_waited_for_once() {
    let server = PostgresServer::start().await;
    let posts = PostsTable::with_ids(IdType::Text);
    let world = World::with_stores(RedisServer::start().await, server.database().await, posts).await;
    for post in ["a", "stored"] {
        world.post(post).await;
    }
    world.store("stored", &["ann".to_owned()]).await;
    // Each worker finds it out for itself.
    let app = world.ingest_with(&[("VIEW_INGEST_WORKERS", "1")]).await;
    app.view("ann", "a").await;
    assert_eq!(viewed(&app, "ann", "stored").await, r#"{"stored":true}"#);

    server.pause();
    let redis_alone = r#"{"a":true,"stored":false}"#;
    let began = Instant::now();
    assert_eq!(viewed(&app, "ann", "a,stored").await, redis_alone);
    // Longer than until PostgreSQL is asked again.
    while began.elapsed() < Duration::from_secs(4) {
        let asked = Instant::now();
        assert_eq!(viewed(&app, "ann", "a,stored").await, redis_alone);
        assert!(asked.elapsed() < Duration::from_millis(800), "{:?}", asked.elapsed());
    }

    server.resume();
    eventually("PostgreSQL is asked again", SOON, || async { viewed(&app, "ann", "stored").await == r#"{"stored":true}"# }).await;
}

#[tokio::test]
async fn redis_alone_tells_what_it_has() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    app.view("ann", "a").await;
    let _: () = world.redis.set(set("strange"), "no set", None, None, false).await.unwrap();
    assert_eq!(viewed(&app, "ann", "a,b").await, r#"{"a":true,"b":false}"#);
    assert_eq!(ask(&app, "ann", "ids=a,strange").await.status, 503, "a key of somebody else's tells nothing");
}
