//! `POST /posts/views-batch`.

use serde_json::json;
use testkit::posts::{IdType, PostsTable};

use crate::support::{World, assert_error, token};

#[tokio::test]
async fn each_post_of_a_batch_gets_its_verdict() {
    let world = World::new().await;
    world.post("new").await;
    world.post("seen").await;
    world.post_of("mine", "ann").await;
    let app = world.ingest().await;
    app.view("bob", "seen").await;
    app.view("ann", "seen").await;

    let response = app.batch("ann", &["seen", "new", "mine", "unknown"]).await;
    assert_eq!((response.status, response.header("content-type")), (200, "application/json; charset=utf-8"));
    let results = concat!(
        r#"{"postId":"seen","status":"duplicate","viewsCount":2},{"postId":"new","status":"counted","viewsCount":1},"#,
        r#"{"postId":"mine","status":"own","viewsCount":0},{"postId":"unknown","status":"not_found","viewsCount":0}"#
    );
    let expected =
        format!(r#"{{"message":"Добавлено просмотров: 1","processedCount":1,"postIds":["new"],"results":[{results}]}}"#);
    assert_eq!(response.body, expected);
}

#[tokio::test]
async fn a_repeated_id_counts_once() {
    let world = World::new().await;
    world.post("p").await;
    let body = world.ingest().await.batch("ann", &["p", "p", "p"]).await.json();
    assert_eq!(body["processedCount"], 1);
    assert_eq!(body["results"], json!([{ "postId": "p", "status": "counted", "viewsCount": 1 }]));
    assert_eq!(world.outbox().await.len(), 1);
}

#[tokio::test]
async fn two_spellings_of_a_uuid_count_once() {
    let world = World::with_posts(PostsTable::with_ids(IdType::Uuid)).await;
    let post = "550e8400-e29b-41d4-a716-44665544000a";
    world.post_of(post, None).await;
    let ann = "550e8400-e29b-41d4-a716-44665544000b";
    let body = world.ingest().await.batch(ann, &[post.to_uppercase(), post.to_owned(), post.replace('-', "")]).await.json();
    assert_eq!(body["postIds"], json!([post]));
    assert_eq!(body["results"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_hundred_posts_are_taken_and_one_more_is_not() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let posts: Vec<String> = (0..101).map(|post| format!("p{post}")).collect();
    assert_error(&app.batch("ann", &posts).await, 400, "Слишком много постов в запросе, максимум: 100");
    assert!(world.outbox().await.is_empty());

    let body = app.batch("ann", &posts[..100]).await.json();
    assert_eq!(body["message"], "Добавлено просмотров: 100");
    assert_eq!(body["postIds"], json!(posts[..100]), "in the order of the request");
    assert_eq!(app.batch("ann", &posts[..100]).await.json()["processedCount"], 0);
}

#[tokio::test]
async fn the_limit_of_a_batch_is_a_setting() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_MAX_BATCH", "2")]).await;
    assert_eq!(app.batch("ann", &["a", "b"]).await.status, 200);
    assert_error(&app.batch("ann", &["a", "b", "c"]).await, 400, "Слишком много постов в запросе, максимум: 2");
    assert_error(&app.http.get("/posts/views?ids=a,b,c").await, 400, "Слишком много постов в запросе, максимум: 2");
}

#[tokio::test]
async fn a_batch_that_is_empty_or_has_a_bad_id_is_refused_whole() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let app = &app;
    let send = |body| async move { app.http.post_json("/posts/views-batch", Some(&token("ann")), &body).await };
    assert_error(&send(json!({ "postIds": [] })).await, 400, "Список постов пуст");
    for body in [json!({}), json!({ "postIds": null }), json!({ "postId": "a" })] {
        assert_error(&send(body).await, 400, "Не указан список постов");
    }
    for id in ["", "a:b", "a{b", "a b", "é"] {
        assert_error(&send(json!({ "postIds": ["good", id] })).await, 400, "Некорректный идентификатор поста");
    }
    for body in [json!({ "postIds": "a" }), json!({ "postIds": [true] }), json!({ "postIds": [null] }), json!([["a"]])] {
        assert_error(&send(body).await, 400, "Некорректный JSON");
    }
    assert!(world.outbox().await.is_empty());
    assert_error(&app.http.post_json("/posts/views-batch", None, &json!({})).await, 401, "Требуется авторизация");
}

#[tokio::test]
async fn a_batch_is_one_entry_of_the_outbox_for_each_recorder() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let posts: Vec<String> = (0..100).map(|post| format!("p{post}")).collect();
    let [before] = world.calls(["xadd"]).await;
    app.batch("ann", &posts).await;
    let [after] = world.calls(["xadd"]).await;
    assert!(after - before <= 2, "{} entries", after - before);
    assert_eq!(world.outbox().await.len(), 100);
}
