//! Clients that are slow, silent, or gone.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use testkit::http;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    support::{Ingest, World, token},
    wire::Wire,
};

const TOO_SLOW: &str = r#"{"statusCode":408,"message":"Превышено время ожидания запроса","error":"Request Timeout"}"#;

const WHOLE: &str = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
const LAST: &str = "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

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
async fn half_a_head_behind_whole_requests_is_answered_408() {
    let (_world, app) = with("VIEW_INGEST_HEADER_TIMEOUT").await;
    let post = |authorization: &str| {
        format!(
            "POST /posts/view HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{authorization}content-length: 2\r\n\r\n{{}}"
        )
    };
    let chunked = "POST /posts/view HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_owned();
    let (refused_late, refused_early) = (post(&format!("authorization: Bearer {}\r\n", token("ann"))), post(""));
    let wholes =
        [WHOLE.to_owned(), WHOLE.repeat(2), WHOLE.repeat(3), refused_late.clone(), refused_early, chunked, refused_late + WHOLE];
    let halves = ["G", "GET /livez HTTP/1.1\r\nhost: te", &WHOLE[..WHOLE.len() - 1], "\r\nG"];
    let cases = wholes.iter().flat_map(|whole| halves.map(|half| (whole, half)));
    let address = app.address;
    let answers = cases.map(|(whole, half)| async move {
        let start = Instant::now();
        (whole, half, http::raw(address, format!("{whole}{half}")).await, start.elapsed())
    });
    for (whole, half, answer, took) in join_all(answers).await {
        let requests = whole.matches(" HTTP/1.1\r\n").count();
        assert_eq!(answer.matches("HTTP/1.1 ").count(), requests + 1, "{whole}{half}: {answer}");
        assert_too_slow(&answer[answer.rfind("HTTP/1.1 ").unwrap()..]);
        // The clock is looked at four times a second.
        assert!((750..5_000).contains(&took.as_millis()), "{whole}{half}: {took:?}");
    }
}

#[tokio::test]
async fn half_a_head_that_came_while_a_request_was_answered_is_answered_408() {
    let (world, app) = with("VIEW_INGEST_HEADER_TIMEOUT").await;
    let half = "GET /livez HTTP/1.1\r\nhost: te";
    // Together with the body that the server waits for,
    let mut with_body = Wire::view_without_body(app.address, "ann", 13).await;
    with_body.send(&format!("{{\"postId\":[]}}{half}")).await;
    // and while a view waits for a store that does not answer.
    world.server.pause();
    let mut waiting = Wire::view_without_body(app.address, "ann", 14).await;
    waiting.send("{\"postId\":\"1\"}").await;
    app.metric("view_ingest_connections").await;
    waiting.send(half).await;
    let (with_body, waiting) = tokio::join!(with_body.read_to_end(), waiting.read_to_end());
    for (answer, status) in [(&with_body, "400 Bad Request"), (&waiting, "503 Service Unavailable")] {
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert_too_slow(&answer[answer.rfind("HTTP/1.1 ").unwrap()..]);
    }
}

#[tokio::test]
async fn half_a_head_has_the_heads_time_also_where_that_is_longer_than_the_idle_time() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_IDLE_TIMEOUT", "1s"), ("VIEW_INGEST_HEADER_TIMEOUT", "4s")]).await;
    let (first, second) = WHOLE.split_at(20);
    let mut finished = Wire::connect(app.address).await;
    finished.send(&format!("{WHOLE}{first}")).await;
    let start = Instant::now();
    let unfinished = http::raw(app.address, format!("{WHOLE}{first}"));
    let finished = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        finished.send(second).await;
        finished.read_answers(2).await;
        finished.read_to_end().await
    };
    let (unfinished, finished) = tokio::join!(unfinished, finished);
    assert_too_slow(&unfinished[unfinished.rfind("HTTP/1.1 ").unwrap()..]);
    assert!(start.elapsed() >= Duration::from_millis(3_750), "{:?}", start.elapsed());
    assert_eq!(finished.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{finished}");
    assert_eq!(finished.matches("HTTP/1.1 ").count(), 2, "{finished}");
}

#[tokio::test]
async fn nothing_of_a_head_behind_whole_requests_is_an_idle_connection() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_HEADER_TIMEOUT", "1s"), ("VIEW_INGEST_IDLE_TIMEOUT", "3s")]).await;
    let refused = "POST /posts/view HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    // Some clients send an empty line behind a request.
    let silent = [WHOLE.to_owned(), WHOLE.repeat(2), refused.to_owned(), format!("{WHOLE}\r\n")];
    let address = app.address;
    let closed = silent.iter().map(|requests| async move {
        let start = Instant::now();
        (requests, http::raw(address, requests).await, start.elapsed())
    });
    let used = async {
        let mut wire = Wire::connect(app.address).await;
        for number in 1..=3 {
            wire.send(WHOLE).await;
            wire.read_answers(number).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    };
    let (closed, ()) = tokio::join!(join_all(closed), used);
    for (requests, answer, took) in closed {
        assert!(!answer.contains("408"), "{requests}: {answer}");
        assert!(took >= Duration::from_millis(2_750), "{requests}: {took:?}");
    }
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

/// A client that takes next to nothing for now, and has sent so many requests.
async fn reluctant(address: SocketAddr, requests: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(WHOLE.repeat(requests).as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_client_that_takes_its_answers_late_gets_all_of_them() {
    const STEP: usize = 10;
    let (_world, app) = with("VIEW_INGEST_HEADER_TIMEOUT").await;
    // How many answers the system holds for the two, and the server beyond that.
    let mut fit = 0;
    let mut stream = reluctant(app.address, 0).await;
    loop {
        stream.write_all(WHOLE.repeat(STEP).as_bytes()).await.unwrap();
        let answered = async {
            while app.metric("view_ingest_http_responses_total{class=\"2xx\"}").await < (fit + STEP) as f64 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if timeout(Duration::from_secs(1), answered).await.is_err() {
            break;
        }
        fit += STEP;
    }
    // With some of these numbers all requests are answered, and the last answers wait in the server while it has
    // nothing else to do.
    let address = app.address;
    let clients = (0..4).map(|less| async move {
        let requests = fit - less * STEP;
        let mut stream = reluctant(address, requests).await;
        // By then, the server has looked whether a head has begun behind them.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        stream.write_all(LAST.as_bytes()).await.unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), requests + 1);
    });
    join_all(clients).await;
}
