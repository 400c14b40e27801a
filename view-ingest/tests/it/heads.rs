//! Heads that two servers may read in two ways, bodies in a coding, and OPTIONS.

use serde_json::Value;
use testkit::http;

use crate::support::{World, assert_error, token};

const AMBIGUOUS: &str = "Нужен ровно один заголовок Host и не более одного Authorization";

/// The status of an answer as it came, and the rest of it.
fn status_and_rest(answer: &str) -> (u16, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

#[tokio::test]
async fn a_request_names_one_host_and_one_sender() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    for (address, message) in [
        (app.address, AMBIGUOUS),
        (app.daemon.wait_for_listening("admin").await, "There must be one Host header, and one Authorization at most"),
    ] {
        for (head, expected) in [
            ("GET /livez HTTP/1.1\r\nhost: x\r\n", 200),
            ("GET /livez HTTP/1.1\r\nHost:\r\n", 200),
            ("GET /livez HTTP/1.0\r\n", 200),
            ("GET http://x/livez HTTP/1.1\r\nhost: x\r\n", 200),
            ("GET /livez HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a\r\n", 200),
            ("GET /livez HTTP/1.1\r\n", 400),
            ("GET http://x/livez HTTP/1.1\r\n", 400),
            ("GET /nowhere HTTP/1.1\r\n", 400),
            ("GET /livez HTTP/1.1\r\nhost: x\r\nhost: x\r\n", 400),
            ("GET /livez HTTP/1.1\r\nhost: x\r\nHost: y\r\n", 400),
            ("GET /livez HTTP/1.0\r\nhost: x\r\nhost: y\r\n", 400),
            ("GET /livez HTTP/1.1\r\nhost: x, y\r\n", 400),
            ("GET /livez HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a\r\nauthorization: Bearer a\r\n", 400),
        ] {
            let answer = http::raw(address, format!("{head}connection: close\r\n\r\n")).await;
            let (status, body) = status_and_rest(&answer);
            assert_eq!(status, expected, "{head:?}: {answer}");
            if expected == 400 {
                let body: Value = serde_json::from_str(body).unwrap();
                assert_eq!((&body["statusCode"], &body["message"]), (&400.into(), &message.into()), "{head:?}");
            }
        }
    }
}

#[tokio::test]
async fn two_tokens_record_nothing() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let body = r#"{"postId":"p"}"#;
    let head =
        format!("POST /posts/view HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len());
    let tokens = ["ann", "bob"].map(|viewer| format!("authorization: Bearer {}\r\n", token(viewer))).concat();
    let answer = http::raw(app.address, format!("{head}{tokens}connection: close\r\n\r\n{body}")).await;
    assert_eq!(status_and_rest(&answer).0, 400, "{answer}");
    assert!(world.outbox().await.is_empty());
}

#[tokio::test]
async fn after_an_ambiguous_head_nothing_is_read_any_more() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    for address in [app.address, app.daemon.wait_for_listening("admin").await] {
        for head in ["GET /livez HTTP/1.1\r\n", "GET /livez HTTP/1.1\r\nhost: x\r\nhost: y\r\n"] {
            let answer =
                http::raw(address, format!("{head}\r\nGET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("connection: close\r\n"), "{answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        }
    }
}

#[tokio::test]
async fn no_transfer_coding_but_chunked_is_taken() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let chunks = "e\r\n{\"postId\":\"p\"}\r\n0\r\n\r\n";
    let head = |codings: &str| {
        format!(
            "POST /posts/view HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nauthorization: Bearer {}\r\n{codings}\r\n{chunks}",
            token("ann")
        )
    };
    let operators = app.daemon.wait_for_listening("admin").await;
    for codings in [
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: identity, chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    ] {
        for address in [app.address, operators] {
            let answer = http::raw(address, head(codings)).await;
            assert!(answer.starts_with("HTTP/1.1 415 ") && answer.contains("connection: close\r\n"), "{codings:?}: {answer}");
        }
    }
    assert!(world.outbox().await.is_empty());
    let answer = http::raw(app.address, head("transfer-encoding: Chunked\r\nconnection: close\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_body_in_a_coding_is_not_read() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let authorization = format!("Bearer {}", token("ann"));
    for (path, body) in [("/posts/view", r#"{"postId":"p"}"#), ("/posts/views-batch", r#"{"postIds":["p"]}"#)] {
        for coding in ["gzip", "GZIP", "deflate", "br", "zstd", "x-gzip", "identity, gzip", "anything"] {
            let headers =
                [("authorization", authorization.as_str()), ("content-type", "application/json"), ("content-encoding", coding)];
            let answer = app.http.request("POST", path, &headers, body).await;
            assert_error(&answer, 415, "Сжатое тело запроса не поддерживается");
            assert_eq!(answer.header("accept-encoding"), "identity", "{coding}");
        }
        for coding in ["identity", "Identity", "", "identity, identity"] {
            let headers =
                [("authorization", authorization.as_str()), ("content-type", "application/json"), ("content-encoding", coding)];
            assert_eq!(app.http.request("POST", path, &headers, body).await.status, 200, "{path} {coding:?}");
        }
    }
}
