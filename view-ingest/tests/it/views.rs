//! `POST /posts/view`.

use serde_json::json;
use testkit::posts::{IdType, PostsTable};

use crate::support::{World, assert_error, token};

#[tokio::test]
async fn a_new_view_is_counted() {
    let world = World::new().await;
    world.post("p").await;
    let response = world.ingest().await.view("ann", "p").await;
    assert_eq!((response.status, response.header("content-type")), (200, "application/json; charset=utf-8"));
    assert_eq!(response.body, r#"{"message":"Просмотр добавлен","viewsCount":1,"status":"counted"}"#);
}

#[tokio::test]
async fn a_repeated_view_is_a_duplicate() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest().await;
    app.view("ann", "p").await;
    let response = app.view("ann", "p").await;
    assert_eq!(response.status, 200);
    assert_eq!(response.body, r#"{"message":"Просмотр уже учтен","viewsCount":1,"status":"duplicate"}"#);
    assert_eq!(app.verdict("bob", "p").await, "counted 2");
}

#[tokio::test]
async fn an_authors_view_is_not_counted() {
    let world = World::new().await;
    world.post_of("p", "ann").await;
    let app = world.ingest().await;
    let response = app.view("ann", "p").await;
    assert_eq!(response.status, 200);
    assert_eq!(response.body, r#"{"message":"Автор не может просматривать свой пост","viewsCount":0,"status":"own"}"#);
    assert_eq!(app.verdict("ann", "p").await, "own 0");
    assert!(world.outbox().await.is_empty());
}

#[tokio::test]
async fn a_post_that_does_not_exist_is_not_found() {
    let world = World::new().await;
    let response = world.ingest().await.view("ann", "p").await;
    assert_error(&response, 404, "Пост не найден");
    assert_eq!(response.body, r#"{"statusCode":404,"message":"Пост не найден","error":"Not Found"}"#);
    assert_eq!(world.size("p").await, 0);
}

#[tokio::test]
async fn a_post_without_an_author_is_counted_for_everybody() {
    let world = World::new().await;
    world.post_of("p", None).await;
    assert_eq!(world.ingest().await.verdict("ann", "p").await, "counted 1");
    assert_eq!(world.meta("p", "author").await.as_deref(), Some(""));
}

#[tokio::test]
async fn spellings_of_one_uuid_are_one_post_one_viewer_and_one_author() {
    let world = World::with_posts(PostsTable::with_ids(IdType::Uuid)).await;
    let (post, author) = ("550e8400-e29b-41d4-a716-44665544000a", "6ba7b810-9dad-41d1-80b4-00c04fd430cb");
    let viewer = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
    world.post_of(post, author).await;
    let app = world.ingest().await;
    assert_eq!(app.verdict(viewer, &post.to_uppercase()).await, "counted 1");
    assert_eq!(app.verdict(&viewer.to_uppercase(), post).await, "duplicate 1");
    assert_eq!(app.verdict(&viewer.replace('-', ""), &post.replace('-', "")).await, "duplicate 1");
    assert_eq!(app.verdict(&author.to_uppercase(), post).await, "own 1");
    assert_eq!(world.outbox().await, [(post.to_owned(), viewer.to_owned())]);
}

#[tokio::test]
async fn unknown_fields_and_kinds_of_json_are_taken() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let body = json!({ "from": [{}], "postId": "p", "at": 1.5 }).to_string();
    let authorization = format!("bearer {}", token("ann"));
    for kind in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.blog+json"] {
        let headers = [("authorization", authorization.as_str()), ("content-type", kind)];
        let response = app.http.request("POST", "/posts/view", &headers, body.clone()).await;
        assert_eq!(response.status, 200, "{kind}: {response:?}");
    }
}
