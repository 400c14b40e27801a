//! Below a path of the application's host: `--path-prefix`.

use serde_json::json;

use crate::support::{World, assert_error, token};

#[tokio::test]
async fn all_routes_are_below_the_prefix_and_probes_beside_it_too() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_PATH_PREFIX", "api/v1/")]).await;
    let ann = token("ann");
    let counted = app.http.post_json("/api/v1/posts/view", Some(&ann), &json!({ "postId": "p" })).await;
    assert_eq!(counted.json()["status"], "counted");
    let batch = app.http.post_json("/api/v1/posts/views-batch", Some(&ann), &json!({ "postIds": ["p"] })).await;
    assert_eq!(batch.json()["results"][0]["status"], "duplicate");
    for (path, body) in [
        ("/api/v1/posts/p/views", r#"{"postId":"p","viewsCount":1}"#),
        ("/api/v1/posts/views?ids=p", r#"{"views":{"p":1}}"#),
        ("/api/v1/livez", r#"{"status":"ok"}"#),
        ("/api/v1/readyz", r#"{"status":"ok"}"#),
        ("/livez", r#"{"status":"ok"}"#),
        ("/readyz", r#"{"status":"ok"}"#),
    ] {
        assert_eq!(app.http.get(path).await.body, body, "{path}");
    }
    for path in [
        "/posts/p/views",
        "/posts/views?ids=p",
        "/api/posts/p/views",
        "/api/v1",
        "/api/v1/",
        "/api/v1posts/p/views",
        "/API/v1/livez",
        "/api/v1//posts/p/views",
        "/api/v1/api/v1/livez",
        "/v1/posts/p/views",
    ] {
        assert_error(&app.http.get(path).await, 404, "Маршрут не найден");
    }
    assert_eq!(app.http.get("/api/v1/posts/view").await.header("allow"), "POST");
    assert_eq!(app.admin.get("/livez").await.status, 200, "operators have paths of their own");
    assert_eq!(app.admin.get("/api/v1/livez").await.status, 404);
}
