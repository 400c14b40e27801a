//! How many views one account may send: `--viewer-rate`.

use std::time::Duration;

use serde_json::json;
use testkit::{SOON, eventually, http::Response};

use crate::support::{Ingest, World, assert_error, token, verdict};

const LIMITED: &str = "view_ingest_views_rate_limited_total";

/// Demands that an answer is the refusal, and gives the seconds after which another try is worth while.
#[track_caller]
fn retry_after(response: &Response) -> u64 {
    assert_error(response, 429, "Слишком много просмотров, повторите позже");
    assert_eq!(response.json()["error"], "Too Many Requests");
    response.header("retry-after").parse().unwrap()
}

/// Within a test nothing noticeable comes back: a view costs 20 minutes.
async fn three_an_hour() -> (World, Ingest) {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_VIEWER_RATE", "3/1h")]).await;
    (world, app)
}

#[tokio::test]
async fn past_the_rate_views_are_refused_and_not_recorded() {
    let (world, app) = three_an_hour().await;
    // The second view of a post costs as much as the first one.
    for (post, expected) in [("a", "counted 1"), ("a", "duplicate 1"), ("b", "counted 1")] {
        assert_eq!(app.verdict("ann", post).await, expected);
    }
    for post in ["a", "b", "c"] {
        let seconds = retry_after(&app.view("ann", post).await);
        assert!((1_000..=1_200).contains(&seconds), "{seconds}");
    }
    assert_eq!(world.size("c").await, 0);
    assert_eq!(app.metric(LIMITED).await, 3.0);
    assert_eq!(app.metric("view_ingest_views_total{status=\"counted\"}").await, 2.0);
    assert_eq!(app.verdict("bob", "a").await, "counted 2", "others are not affected");
}

#[tokio::test]
async fn only_views_cost() {
    let (_world, app) = three_an_hour().await;
    for _ in 0..10 {
        app.count("a").await;
        assert_eq!(app.http.get("/posts/views?ids=a,b,c,d").await.status, 200);
        let with_token = [("authorization", format!("Bearer {}", token("ann")))];
        let with_token = with_token.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(app.http.request("GET", "/posts/a/views", &with_token, "").await.status, 200);
        // What cannot be understood, or nobody has sent, is no view.
        assert_eq!(app.view("ann", "not an id").await.status, 400);
        assert_eq!(app.batch("ann", &["fine", "not an id"]).await.status, 400);
        assert_eq!(app.http.post_json("/posts/view", None, &json!({ "postId": "a" })).await.status, 401);
    }
    assert_eq!(app.batch("ann", &["a", "b", "c"]).await.status, 200);
    assert_eq!(app.view("ann", "d").await.status, 429);
    app.count("a").await;
    assert_eq!(app.http.get("/posts/views?ids=a,b,c,d").await.status, 200);
}

#[tokio::test]
async fn a_batch_costs_its_distinct_posts_and_a_large_one_all_there_is() {
    let (world, app) = three_an_hour().await;
    assert_eq!(app.batch("ann", &["a", "a", "a", "a", "a"]).await.status, 200);
    let seconds = retry_after(&app.batch("ann", &["b", "c", "d"]).await);
    assert!((1_000..=1_200).contains(&seconds), "{seconds}");
    assert_eq!(world.size("b").await, 0, "a batch is taken whole or not at all");
    assert_eq!(app.metric(LIMITED).await, 3.0);
    assert_eq!(app.batch("ann", &["b", "c"]).await.status, 200, "what was refused has cost nothing");
    assert_eq!(app.view("ann", "d").await.status, 429);

    let posts: Vec<String> = (0..100).map(|post| format!("post-{post}")).collect();
    assert_eq!(app.batch("bob", &posts).await.json()["processedCount"], 100);
    let seconds = retry_after(&app.batch("bob", &posts).await);
    assert!((3_400..=3_600).contains(&seconds), "{seconds}");
    assert_eq!(app.metric(LIMITED).await, 104.0);
}

#[tokio::test]
async fn all_connections_and_workers_share_an_accounts_rate() {
    let (_world, app) = three_an_hour().await;
    let views = (0..40).map(|number| {
        let (address, body) = (app.address, json!({ "postId": format!("post-{number}") }));
        tokio::spawn(async move {
            let http = testkit::http::Client::new(address);
            verdict(&http.post_json("/posts/view", Some(&token("ann")), &body).await)
        })
    });
    let mut passed = 0;
    for view in views.collect::<Vec<_>>() {
        passed += usize::from(view.await.unwrap() == "counted 1");
    }
    assert_eq!((passed, app.metric(LIMITED).await), (3, 37.0));
}

#[tokio::test]
async fn a_view_passes_when_its_time_has_come() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_VIEWER_RATE", "2/2s")]).await;
    let refused = eventually("a view too many", SOON, || async {
        let response = app.view("ann", "p").await;
        (response.status == 429).then_some(response)
    })
    .await;
    let seconds = retry_after(&refused);
    assert_eq!(seconds, 1);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(app.view("ann", "p").await.status, 200);
}

#[tokio::test]
async fn without_the_setting_there_is_no_rate() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let posts: Vec<String> = (0..100).map(|post| format!("post-{post}")).collect();
    for _ in 0..20 {
        assert_eq!(app.batch("ann", &posts).await.status, 200);
        assert_eq!(app.view("ann", "p").await.status, 200);
    }
    assert_eq!(app.metric(LIMITED).await, 0.0);
}

#[tokio::test]
async fn views_that_no_store_took_cost_nothing() {
    let (world, app) = three_an_hour().await;
    assert_eq!(app.verdict("ann", "a").await, "counted 1");
    world.server.pause();
    for _ in 0..3 {
        assert_eq!(app.verdict("ann", "b").await, "503");
        assert_eq!(app.batch("ann", &["c", "d"]).await.status, 503);
    }
    world.server.resume();
    eventually("both are recorded", SOON, || async { app.batch("ann", &["c", "d"]).await.status == 200 }).await;
    retry_after(&app.view("ann", "g").await);
}
