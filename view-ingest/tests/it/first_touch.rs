//! The first view of a post: one look into PostgreSQL, shared and remembered.

use std::time::Duration;

use testkit::{SOON, eventually};
use tokio::task::JoinSet;

use crate::support::{World, token, viewers};

/// A world whose PostgreSQL writes down what the program asks.
async fn observed() -> World {
    let world = World::new().await;
    world.database().log_statements().await;
    world
}

#[tokio::test]
async fn a_known_post_costs_no_query() {
    let world = observed().await;
    world.post_of("p", "author").await;
    let app = world.ingest().await;
    app.view("ann", "p").await;
    // A process asks at its start whether the tables are as it needs them and which they are, and now and then whether
    // the server is there.
    let aside = |statement: &String| {
        ["-- ping\n", "-- catalogue\n", "-- server\n", "-- begin\n", "COMMIT"].iter().any(|name| statement.starts_with(name))
    };
    let queries = || world.database().statements().iter().filter(|statement| !aside(statement)).count();
    let before = queries();
    assert_eq!(world.statements("hydrate"), 1);
    for viewer in viewers(5) {
        app.view(&viewer, "p").await;
        app.view(&viewer, "p").await;
    }
    app.view("author", "p").await;
    app.count("p").await;
    world.ingest().await.view("bob", "p").await;
    assert_eq!(queries(), before, "{:?}", world.database().statements());
}

#[tokio::test]
async fn concurrent_first_touches_of_a_post_share_one_query() {
    let world = observed().await;
    world.post("p").await;
    let app = world.ingest().await;
    // The query waits for this lock, so that all requests come while it is under way.
    let mut sql = world.database().client().await;
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("lock table posts in access exclusive mode").await.unwrap();
    let mut running = JoinSet::new();
    for viewer in viewers(50) {
        let (http, token) = (app.http.clone(), token(&viewer));
        running.spawn(async move { http.post_json("/posts/view", Some(&token), &serde_json::json!({ "postId": "p" })).await });
    }
    let waiting = "select count(*) from pg_locks where relation = 'posts'::regclass and not granted";
    let is_looked_up = || async { world.sql().query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 1 };
    eventually("the post is looked up", SOON, is_looked_up).await;
    lock.rollback().await.unwrap();
    while let Some(response) = running.join_next().await {
        assert_eq!(response.unwrap().json()["status"], "counted");
    }
    assert_eq!(world.statements("hydrate"), 1);
    assert_eq!(app.count("p").await, 50);
    assert_eq!(app.metric("view_ingest_first_touches_total{outcome=\"found\"}").await, 1.0);
}

#[tokio::test]
async fn many_posts_are_looked_up_together() {
    let world = observed().await;
    world.sql().execute("insert into posts (id) select 'p' || n from generate_series(1, 300) n", &[]).await.unwrap();
    let app = world.ingest_with(&[("VIEW_INGEST_MAX_BATCH", "1000")]).await;
    let posts: Vec<String> = (1..=300).map(|post| format!("p{post}")).collect();
    assert_eq!(app.batch("ann", &posts).await.json()["processedCount"], 300);
    // 64 posts a query, on two recorders whose shares may each leave a rest.
    let queries = world.statements("hydrate");
    assert!((5..=6).contains(&queries), "{queries} queries");
}

#[tokio::test]
async fn a_post_that_was_not_found_is_remembered_and_found_a_little_later() {
    let world = observed().await;
    let app = world.ingest().await;
    for _ in 0..3 {
        assert_eq!(app.verdict("ann", "p").await, "404");
        assert_eq!(app.http.get("/posts/p/views").await.status, 404);
    }
    assert_eq!(world.statements("hydrate"), 1);

    world.post("p").await;
    let found = || async { app.verdict("ann", "p").await == "counted 1" };
    eventually("the post that was created meanwhile is found", SOON, found).await;
    assert_eq!(world.statements("hydrate"), 2);
}

#[tokio::test]
async fn a_flood_of_unknown_posts_is_answered_and_leaves_nothing_in_redis() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest_with(&[("VIEW_INGEST_MAX_BATCH", "1000")]).await;
    let posts: Vec<String> = (0..1000).map(|post| format!("made-up-{post}")).collect();
    let body = app.batch("ann", &posts).await.json();
    assert_eq!(body["processedCount"], 0);
    assert!(body["results"].as_array().unwrap().iter().all(|result| result["status"] == "not_found"));
    let keys: i64 = fred::interfaces::ServerInterface::dbsize(&world.redis).await.unwrap();
    assert_eq!(keys, 0);
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
}

#[tokio::test]
async fn reading_a_count_is_a_first_touch_too() {
    let world = observed().await;
    world.post_of("p", "author").await;
    let app = world.ingest().await;
    assert_eq!(app.count("p").await, 0);
    assert_eq!(app.verdict("author", "p").await, "own 0");
    assert_eq!(world.statements("hydrate"), 1);
}

#[tokio::test]
async fn a_look_up_that_hangs_does_not_hold_the_viewer_for_long() {
    let world = World::new().await;
    world.post_of("p", "author").await;
    world.post("known").await;
    let app = world.ingest().await;
    app.view("ann", "known").await;
    let mut sql = world.database().client().await;
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("lock table posts in access exclusive mode").await.unwrap();

    let waiting = tokio::spawn({
        let (http, token) = (app.http.clone(), token("ann"));
        async move { http.post_json("/posts/view", Some(&token), &serde_json::json!({ "postId": "p" })).await }
    });
    assert_eq!(app.verdict("bob", "known").await, "counted 2", "known posts do not wait for it");
    // The statement's own time-out is two seconds.
    let answer = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    assert_eq!(answer.json()["status"], "counted");
    app.daemon.wait_for_line("cannot look posts up").await;

    lock.rollback().await.unwrap();
    eventually("the author is known", SOON, || async { app.verdict("author", "p").await.starts_with("own") }).await;
}
