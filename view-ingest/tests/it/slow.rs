//! Clients that are slow, silent, or gone.

use std::time::Duration;

use testkit::http;

use crate::{
    support::{Ingest, World, token},
    wire::Wire,
};

const TOO_SLOW: &str = r#"{"statusCode":408,"message":"Превышено время ожидания запроса","error":"Request Timeout"}"#;

/// A program with one short time-out, and Redis to keep alive.
async fn with(setting: &str) -> (World, Ingest) {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[(setting, "1s")]).await;
    (world, app)
}

#[track_caller]
fn assert_too_slow(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n") && answer.ends_with(TOO_SLOW), "{answer}");
}

/// Sends a little again and again, faster than any time-out, until the server has closed the connection; gives its answer.
async fn drip(mut wire: Wire, drop: &str) -> String {
    let mut drops = 0;
    while wire.try_send(drop).await {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drops += 1;
        assert!(drops < 400, "a client may take for ever");
    }
    wire.read_to_end().await
}

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_is_answered_408() {
    let (_world, app) = with("VIEW_INGEST_HEADER_TIMEOUT").await;
    let mut second = Wire::admitted(app.address).await;
    second.send("GET /livez HTTP/1.1\r\n").await;
    let (first, second) = tokio::join!(http::raw(app.address, "POST /posts/view HTTP/1.1\r\nhost: x\r\n"), second.read_to_end());
    assert_too_slow(&first);
    let (_, late) = second.split_once(r#"{"status":"ok"}"#).unwrap();
    assert_too_slow(late);
    assert_eq!(app.metric("view_ingest_http_responses_total{class=\"4xx\"}").await, 2.0);
}

#[tokio::test]
async fn a_head_that_drips_is_cut_off() {
    let (_world, app) = with("VIEW_INGEST_HEADER_TIMEOUT").await;
    let mut wire = Wire::connect(app.address).await;
    wire.send("GET /livez HTTP/1.1\r\n").await;
    assert_too_slow(&drip(wire, "x: y\r\n").await);
}

#[tokio::test]
async fn a_body_that_does_not_come_to_its_end_is_answered_408() {
    let (_world, app) = with("VIEW_INGEST_BODY_TIMEOUT").await;
    let token = token("ann");
    let head =
        format!("POST /posts/view HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n");
    let (announced, chunked) = tokio::join!(
        http::raw(app.address, format!("{head}content-length: 20\r\n\r\n{{")),
        http::raw(app.address, format!("{head}transfer-encoding: chunked\r\n\r\n1\r\n{{\r\n")),
    );
    assert_too_slow(&announced);
    assert_too_slow(&chunked);
}

#[tokio::test]
async fn a_body_that_drips_is_cut_off() {
    let (_world, app) = with("VIEW_INGEST_BODY_TIMEOUT").await;
    let wire = Wire::view_without_body(app.address, "ann", 60_000).await;
    assert_too_slow(&drip(wire, " ").await);
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let (_world, app) = with("VIEW_INGEST_IDLE_TIMEOUT").await;
    let used = Wire::admitted(app.address).await;
    let (never_used, used) = tokio::join!(http::raw(app.address, ""), used.read_to_end());
    assert_eq!(never_used, "");
    assert!(used.starts_with("HTTP/1.1 200 OK\r\n") && used.ends_with(r#"{"status":"ok"}"#), "{used}");
}

#[tokio::test]
async fn a_connection_in_use_is_not_idle() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_IDLE_TIMEOUT", "2s")]).await;
    let mut wire = Wire::admitted(app.address).await;
    // Together longer than the time-out, each pause much shorter.
    for number in 2..15 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        wire.send("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
        wire.read_answers(number).await;
    }
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_leaves_nothing_behind() {
    let (world, app) = with("VIEW_INGEST_BODY_TIMEOUT").await;
    for _ in 0..20 {
        let mut wire = Wire::view_without_body(app.address, "ann", 30).await;
        wire.send("{\"postId\"").await;
    }
    testkit::eventually("all connections are closed", testkit::SOON, || async {
        app.metric("view_ingest_connections").await == 0.0
    })
    .await;
    assert!(world.outbox().await.is_empty());
}
