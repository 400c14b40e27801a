//! `/livez`, `/readyz` and `/metrics`.

use testkit::{SOON, eventually, http::Client};

use crate::{
    redis_refuses::command,
    support::{World, assert_error},
};

#[tokio::test]
async fn both_listeners_tell_that_the_process_lives_and_is_ready() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    for client in [&app.http, &app.admin] {
        for path in ["/livez", "/readyz"] {
            let response = client.get(path).await;
            assert_eq!((response.status, response.body.as_str()), (200, r#"{"status":"ok"}"#), "{path}");
            let refused = client.request("POST", path, &[], "").await;
            assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD, OPTIONS"), "{path}");
            let options = client.request("OPTIONS", path, &[], "").await;
            assert_eq!((options.status, options.header("allow")), (204, "GET, HEAD, OPTIONS"), "{path}");
        }
    }
}

#[tokio::test]
async fn metrics_are_for_operators_only() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    assert_error(&app.http.get("/metrics").await, 404, "Маршрут не найден");
    let response = app.admin.get("/metrics").await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let accept = [("accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")];
    let response = app.admin.request("GET", "/metrics", &accept, "").await;
    assert!(response.header("content-type").starts_with("application/openmetrics-text"), "{response:?}");
    assert!(response.body.ends_with("# EOF\n"), "{response:?}");
    for path in ["/posts/p/views", "/posts/view", "/"] {
        assert_eq!(app.admin.get(path).await.status, 404, "{path} is not for operators");
    }
}

#[tokio::test]
async fn metrics_count_what_became_of_views() {
    let world = World::new().await;
    world.post_of("p", "ann").await;
    let app = world.ingest().await;
    for (viewer, post) in [("bob", "p"), ("bob", "p"), ("ann", "p"), ("bob", "unknown"), ("bob", "unknown")] {
        app.view(viewer, post).await;
    }
    app.count("p").await;
    for (status, number) in [("counted", 1.0), ("duplicate", 1.0), ("own", 1.0), ("not_found", 2.0), ("failed", 0.0)] {
        assert_eq!(app.metric(&format!("view_ingest_views_total{{status=\"{status}\"}}")).await, number, "{status}");
    }
    assert_eq!(app.metric("view_ingest_count_reads_total").await, 1.0);
    assert_eq!(app.metric("view_ingest_http_responses_total{class=\"2xx\"}").await, 4.0);
    assert_eq!(app.metric("view_ingest_http_responses_total{class=\"4xx\"}").await, 2.0);
    let requests = [("/posts/view", 200, 3.0), ("/posts/view", 404, 2.0), ("/posts/{id}/views", 200, 1.0), ("/readyz", 200, 0.0)];
    for (route, status, number) in requests {
        let name = format!("view_ingest_http_requests_total{{route=\"{route}\",status=\"{status}\"}}");
        assert_eq!(app.metric(&name).await, number, "{name}");
    }
    assert_eq!(app.metric("view_ingest_http_request_duration_seconds_count{route=\"/posts/view\"}").await, 5.0);
    assert_eq!(app.metric("view_ingest_token_cache_lookups_total{outcome=\"hit\"}").await, 3.0);
    assert_eq!(app.metric("view_ingest_active_store{store=\"redis\"}").await, 1.0);
    assert_eq!(app.metric("view_ingest_first_touches_total{outcome=\"missing\"}").await, 1.0);
    assert_eq!(app.metric("view_ingest_bypassed_views_total").await, 0.0);
}

#[tokio::test]
async fn readiness_is_told_while_redis_has_never_been_there() {
    let nowhere = testkit::ports::free();
    let program = crate::support::on_free_ports()
        .env("JWT_SECRET", crate::support::SECRET)
        .env("REDIS_URL", format!("redis://127.0.0.1:{nowhere}"));
    let app = crate::support::Ingest::start_without_redis(program).await;
    for client in [&app.http, &app.admin] as [&Client; 2] {
        assert_eq!(client.get("/livez").await.status, 200);
        let response = client.get("/readyz").await;
        assert_eq!((response.status, response.header("retry-after")), (503, "1"), "{response:?}");
    }
}

#[tokio::test]
async fn a_full_redis_alone_is_no_store_to_write_to() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    command(&world.redis, &["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    assert_eq!(app.verdict("bob", "p").await, "503");
    // Repeated views and reads are answered as before, so it looks as if all were well.
    assert_eq!(app.verdict("ann", "p").await, "duplicate 1");
    for client in [&app.http, &app.admin] {
        let response = client.get("/readyz").await;
        assert_eq!(response.status, 503);
        assert!(response.json()["message"].as_str().unwrap().contains("no store to write to"), "{:?}", response.json());
        assert_eq!(client.get("/livez").await.status, 200);
    }
    command(&world.redis, &["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    // A load balancer may try again after a while, as nothing but a view tells whether there is memory.
    eventually("it may be tried", SOON, || async { app.http.get("/readyz").await.status == 200 }).await;
    assert_eq!(app.verdict("bob", "p").await, "counted 2");
    assert_eq!(app.http.get("/readyz").await.status, 200);
}
