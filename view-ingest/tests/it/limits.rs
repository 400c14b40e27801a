//! A bound on queued work: 503 past it, and service again when there is room.

use testkit::{SOON, eventually};

use crate::support::{World, verdict};

const UNAVAILABLE: &str = r#"{"statusCode":503,"message":"Сервис временно недоступен","error":"Service Unavailable"}"#;

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
