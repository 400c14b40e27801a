//! SIGTERM and SIGINT: nothing that was begun is lost, and nobody waits for what never ends.

use std::{net::SocketAddr, os::unix::process::ExitStatusExt, time::Duration};

use testkit::{SOON, eventually};
use tokio::net::TcpStream;

use crate::{support::World, wire::Wire};

const BODY: &str = r#"{"postId":"p"}"#;

async fn refuses_connections(address: SocketAddr) {
    eventually("new connections are refused", SOON, || async { TcpStream::connect(address).await.is_err() }).await;
}

#[tokio::test]
async fn a_request_in_flight_is_finished_and_nobody_else_let_in() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let idle = Wire::admitted(app.address).await;
    let mut slow = Wire::view_without_body(app.address, "ann", BODY.len()).await;
    slow.send(&BODY[..5]).await;
    app.daemon.signal("TERM");
    refuses_connections(app.address).await;
    assert!(idle.read_to_end().await.ends_with(r#"{"status":"ok"}"#), "an idle connection is closed without a word");
    assert_eq!(app.admin.get("/readyz").await.status, 503, "operators may look on");
    assert!(app.daemon.is_running());

    slow.send(&BODY[5..]).await;
    let answer = slow.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(app.daemon.wait_exit().await.code(), Some(0));
    assert_eq!(world.outbox().await.len(), 1);
}

#[tokio::test]
async fn a_request_in_flight_reaches_the_recorders_of_workers_that_have_no_connection() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    // So many that each worker has some of them.
    let posts: Vec<String> = (0..64).map(|post| format!("p{post}")).collect();
    let body = serde_json::json!({ "postIds": posts }).to_string();
    let mut slow = Wire::post_without_body(app.address, "/posts/views-batch", "ann", body.len()).await;
    app.daemon.signal("TERM");
    refuses_connections(app.address).await;
    // By now the other worker would have ended, if it did not wait: what is demanded is that it never does.
    slow.send(&body).await;
    let answer = slow.read_to_end().await;
    assert!(answer.contains(r#""processedCount":64"#), "{answer}");
    assert_eq!(app.daemon.wait_exit().await.code(), Some(0));
    assert_eq!(world.outbox().await.len(), 64);
}

#[tokio::test]
async fn sigint_is_a_request_to_stop_too() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    app.daemon.signal("INT");
    assert_eq!(app.daemon.wait_exit().await.code(), Some(0));
    assert_eq!(app.daemon.lines_with("stopped").len(), 1, "{:?}", app.daemon.output());
}

#[tokio::test]
async fn the_delay_keeps_serving_and_a_second_signal_ends_it_at_once() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_SHUTDOWN_DELAY", "1h")]).await;
    app.daemon.signal("TERM");
    for client in [&app.http, &app.admin] {
        eventually("it is not ready any more", SOON, || async { client.get("/readyz").await.status == 503 }).await;
        assert_eq!(client.get("/livez").await.status, 200);
    }
    let mut late = Wire::admitted(app.address).await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    late.send("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    late.read_answers(2).await;

    app.daemon.signal("TERM");
    let status = app.daemon.wait_exit().await;
    assert_eq!((status.code(), status.signal()), (Some(143), None));
}

#[tokio::test]
async fn after_the_delay_it_ends() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_SHUTDOWN_DELAY", "500ms")]).await;
    let started = std::time::Instant::now();
    app.daemon.signal("TERM");
    assert_eq!(app.daemon.wait_exit().await.code(), Some(0));
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_request_that_does_not_end_is_not_waited_for_for_ever() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_SHUTDOWN_TIMEOUT", "300ms"), ("VIEW_INGEST_BODY_TIMEOUT", "1h")]).await;
    let _slow = Wire::view_without_body(app.address, "ann", BODY.len()).await;
    app.daemon.signal("TERM");
    assert_eq!(app.daemon.wait_exit().await.code(), Some(0));
    assert_eq!(app.daemon.lines_with("some connections were still open").len(), 1, "{:?}", app.daemon.output());
}

#[tokio::test]
async fn it_stops_while_redis_is_away() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    world.server.kill().await;
    app.daemon.signal("TERM");
    assert_eq!(app.daemon.wait_exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_client_that_was_connecting_when_it_stopped_is_served_or_closed_but_never_left_waiting() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let mut wires = Vec::new();
    for _ in 0..20 {
        wires.push(Wire::connect(app.address).await);
    }
    app.daemon.signal("TERM");
    for mut wire in wires {
        wire.try_send("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let answer = wire.read_to_end().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    assert_eq!(app.daemon.wait_exit().await.code(), Some(0));
}
