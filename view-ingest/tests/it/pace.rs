//! `--viewer-rate`: how many views one viewer may ask for.

use serde_json::json;
use testkit::http::Response;

use crate::support::{Ingest, World, assert_error, viewers};

const MANY: &str = "Слишком много просмотров, повторите позже";

async fn with_rate(rate: &str) -> (World, Ingest) {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_VIEWER_RATE", rate)]).await;
    (world, app)
}

#[track_caller]
fn assert_refused(response: &Response, message: &str, wait: std::ops::RangeInclusive<u64>) {
    assert_error(response, 429, message);
    let seconds: u64 = response.header("retry-after").parse().unwrap();
    assert!(wait.contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn views_past_the_rate_are_refused_and_recorded_nowhere() {
    let (world, app) = with_rate("5/1h").await;
    for post in 0..5 {
        assert_eq!(app.verdict("ann", &format!("p{post}")).await, "counted 1");
    }
    for post in ["p5", "p0"] {
        assert_refused(&app.view("ann", post).await, MANY, 1..=720);
    }
    assert_refused(&app.batch("ann", &["p6"]).await, MANY, 1..=720);
    // Reads are not views, and other viewers have their own.
    assert_eq!(app.count("p0").await, 1);
    assert_eq!(app.verdict("bob", "p0").await, "counted 2");
    assert_eq!(world.outbox().await.len(), 6);
    assert_eq!(app.metric("view_ingest_rate_limited_total").await, 3.0);
}

#[tokio::test]
async fn a_batch_takes_as_much_as_it_has_posts_or_nothing() {
    let (world, app) = with_rate("10/1h").await;
    let posts = viewers(11);
    let message = "Слишком много просмотров в одном запросе, максимум: 10";
    assert_refused(&app.batch("ann", &posts).await, message, 3_600..=3_600);
    assert_eq!(app.batch("ann", &posts[..6]).await.json()["processedCount"], 6);
    assert_refused(&app.batch("ann", &posts[6..]).await, MANY, 1..=720);
    let repeated = ["a", "a", "b", "b", "c"];
    assert_eq!(app.batch("ann", &repeated).await.json()["processedCount"], 3, "a repeated id is one view");
    assert_eq!(app.batch("ann", &posts[6..7]).await.json()["processedCount"], 1);
    assert_refused(&app.view("ann", "p").await, MANY, 1..=360);
    assert_eq!(world.outbox().await.len(), 10);
    let warnings = app.daemon.lines_with("--viewer-rate lets 10 views pass");
    assert_eq!(warnings.len(), 1, "{:?}", app.daemon.output());
}

#[tokio::test]
async fn what_is_refused_anyway_takes_nothing() {
    let (_world, app) = with_rate("1/1h").await;
    for body in [json!({}), json!({ "postId": "a b" })] {
        let response = app.http.post_json("/posts/view", Some(&crate::support::token("ann")), &body).await;
        assert_eq!(response.status, 400);
    }
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
}

#[tokio::test]
async fn what_is_used_comes_back() {
    let (_world, app) = with_rate("1/1s").await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    testkit::eventually("the next view passes", testkit::SOON, || async { app.view("ann", "q").await.status == 200 }).await;
}

#[tokio::test]
async fn without_a_rate_nobody_is_refused() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let posts = viewers(100);
    for _ in 0..20 {
        assert_eq!(app.batch("ann", &posts).await.status, 200);
    }
}
