//! Bounds on connections and on queued work: 503 past them, and service again when there is room.

use testkit::{SOON, eventually, http};

use crate::{
    support::{Ingest, World, verdict},
    wire::Wire,
};

const UNAVAILABLE: &str = r#"{"statusCode":503,"message":"Сервис временно недоступен","error":"Service Unavailable"}"#;

async fn is_served(app: &Ingest) -> bool {
    http::raw(app.address, "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.starts_with("HTTP/1.1 200 ")
}

#[tokio::test]
async fn a_connection_too_many_is_turned_away_until_there_is_room() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_MAX_CONNECTIONS", "2")]).await;
    let first = Wire::admitted(app.address).await;
    let mut second = Wire::admitted(app.address).await;

    let answer = http::raw(app.address, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n"), "{answer}");
    assert!(answer.ends_with(UNAVAILABLE), "{answer}");
    assert_eq!(app.metric("view_ingest_turned_away_total").await, 1.0);
    assert_eq!(app.metric("view_ingest_connections").await, 2.0);
    second.send("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    second.read_answers(2).await;

    drop(first);
    eventually("there is room again", SOON, || is_served(&app)).await;
    assert_eq!(app.admin.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn work_too_much_is_turned_away_while_redis_hangs() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_MAX_QUEUE", "1")]).await;
    world.server.pause();
    // All for one post, so for one recorder: one is at work, one waits, and the others find no room.
    let views = (0..20).map(|viewer| {
        let (http, token) = (app.http.clone(), crate::support::token(&format!("viewer-{viewer}")));
        tokio::spawn(async move { http.post_json("/posts/view", Some(&token), &serde_json::json!({ "postId": "p" })).await })
    });
    for view in views.collect::<Vec<_>>() {
        let response = view.await.unwrap();
        assert_eq!((verdict(&response).as_str(), response.header("retry-after")), ("503", "1"));
        assert_eq!(response.body, UNAVAILABLE);
    }
    assert!(app.metric("view_ingest_turned_away_total").await > 0.0);
    world.server.resume();
    eventually("views are taken again", SOON, || async { app.view("ann", "p").await.status == 200 }).await;
}
