//! An answer that is given before the request has come whole reaches the client, and answers have to be taken.

use std::time::Duration;

use futures_util::future::join_all;
use testkit::{SOON, eventually, http};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::{
    support::{Ingest, World, token},
    wire::Wire,
};

const MAX_BODY: usize = 64 * 1024;

fn head(start: &str, headers: &str) -> String {
    format!("{start} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
}

fn authorized(headers: &str) -> String {
    format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n{headers}\r\n", token("ann"))
}

/// Sends so much that an answer follows, waits until it is there, sends the rest nevertheless and only then reads.
async fn late(app: &Ingest, head: String, rest: Vec<u8>) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(app.address).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.peek(&mut [0]).await?;
    stream.write_all(&rest).await?;
    // A byte by itself comes to a socket that has had time to be closed.
    stream.write_all(b"x").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn the_refusal_of_a_body_that_comes_late_is_heard() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let view = "POST /posts/view";
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(65_536));
    let many_headers = "a: b\r\n".repeat(120);
    let mut cases = vec![
        (413, head(view, &authorized("transfer-encoding: chunked")) + &chunk.repeat(2), chunk.clone().into_bytes()),
        (431, head(view, &many_headers), vec![b'x'; 100_000]),
        (400, "GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), vec![b'x'; 100_000]),
        (431, format!("GET / HTTP/1.1\r\nhost: x\r\nx-fill: {}", "x".repeat(40_000)), vec![b'x'; 100_000]),
    ];
    for length in [MAX_BODY + 1, 200_000, 3_000_000] {
        cases.push((413, head(view, &authorized(&format!("content-length: {length}"))), vec![b' '; length]));
    }
    for (status, start, headers) in [
        (401, view, "content-type: application/json\r\n".to_owned()),
        (404, "POST /nowhere", String::new()),
        (405, "PUT /posts/view", String::new()),
        (415, view, format!("authorization: Bearer {}\r\n", token("ann"))),
        (431, view, format!("x-fill: {}\r\n", "x".repeat(17 * 1024))),
        (400, view, "host: y\r\n".to_owned()),
        (200, "GET /livez", String::new()),
    ] {
        cases.push((status, head(start, &format!("{headers}content-length: 14\r\n")), b"{\"postId\":\"p\"}".to_vec()));
        cases.push((status, head(start, &format!("{headers}content-length: 60000\r\n")), vec![b' '; 60_000]));
        cases.push((status, head(start, &format!("{headers}transfer-encoding: chunked\r\n")), chunk.clone().into_bytes()));
    }
    for (status, head, rest) in cases {
        for answer in join_all((0..10).map(|_| late(&app, head.clone(), rest.clone()))).await {
            let answer = answer.unwrap_or_else(|error| panic!("{status} {head:.60}: {error}"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head:.60}: {answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        }
    }
    assert!(world.outbox().await.is_empty());
}

#[tokio::test]
async fn who_asks_whether_to_send_the_body_is_told_the_refusal_alone() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let view = "POST /posts/view";
    for (status, headers) in [
        (401, "content-length: 14\r\n".to_owned()),
        (401, "transfer-encoding: chunked\r\n".to_owned()),
        (413, authorized("content-length: 100000")),
        (415, format!("authorization: Bearer {}\r\ncontent-length: 14\r\n", token("ann"))),
    ] {
        let answer = http::raw(app.address, head(view, &format!("{headers}expect: 100-continue\r\n"))).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_refused_request_that_has_come_whole_leaves_the_connection_open() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let chunked = format!("{}2\r\n{{}}\r\n0\r\n\r\n", head("POST /posts/view", "transfer-encoding: chunked\r\n"));
    let sized = format!("{}{{}}", head("POST /nowhere", "content-length: 2\r\n"));
    for request in [chunked, sized] {
        let mut wire = Wire::connect(app.address).await;
        wire.send(&(request + "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        wire.read_answers(1).await;
    }
}

#[tokio::test]
async fn what_comes_behind_the_last_answer_does_not_harm_it() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let last = head("GET /livez", "connection: close\r\n");
    let answer = late(&app, last, head("GET /livez", "").repeat(1_000).into_bytes()).await.unwrap();
    assert!(answer.ends_with(r#"{"status":"ok"}"#), "{answer}");
}

#[tokio::test]
async fn a_closed_connection_is_listened_to_for_a_while_only() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let refused = head("POST /posts/view", "content-length: 100000000\r\n");
    let mut silent = Wire::connect(app.address).await;
    let mut talkative = Wire::connect(app.address).await;
    for wire in [&mut silent, &mut talkative] {
        wire.send(&refused).await;
        wire.read_until("Unauthorized").await;
    }
    let rest = " ".repeat(64 * 1024);
    let mut sent = 0;
    while talkative.try_send(&rest).await {
        sent += rest.len();
        assert!(sent < 64 * 1024 * 1024, "a client may send for ever");
    }
    let closed = || async { app.metric("view_ingest_connections").await == 0.0 };
    eventually("both are closed", SOON, closed).await;
    silent.read_to_end().await;
}

#[tokio::test]
async fn who_has_had_the_last_answer_does_not_hold_up_a_stop() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let mut wires = Vec::new();
    for _ in 0..10 {
        let mut wire = Wire::connect(app.address).await;
        wire.send(&head("POST /posts/view", "content-length: 100000000\r\n")).await;
        wire.read_until("Unauthorized").await;
        wires.push(wire);
    }
    app.daemon.signal("TERM");
    assert_eq!(app.daemon.wait_exit().await.code(), Some(0));
    assert!(app.daemon.lines_with("some connections were still open").is_empty());
}

/// A client whose system takes little.
async fn takes_little(app: &Ingest) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2_048).unwrap();
    socket.connect(app.address).await.unwrap()
}

#[tokio::test]
async fn one_answer_that_the_system_holds_is_not_offered_for_ever() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_WRITE_TIMEOUT", "1s"), ("VIEW_INGEST_IDLE_TIMEOUT", "1h")]).await;
    let ids: Vec<String> = (0..100).map(|id| format!("{id:064}")).collect();
    let body = serde_json::json!({ "postIds": ids }).to_string();
    let headers = authorized(&format!("content-length: {}", body.len()));
    let mut stream = takes_little(&app).await;
    stream.write_all((head("POST /posts/views-batch", &headers) + &body).as_bytes()).await.unwrap();
    let answered = || async { app.metric("view_ingest_http_responses_total{class=\"2xx\"}").await == 1.0 };
    eventually("it is answered", SOON, answered).await;
    eventually("it is cut off", SOON, || async { app.metric("view_ingest_connections").await == 0.0 }).await;
}

#[tokio::test]
async fn an_answer_has_to_be_taken_in_time_however_steadily_it_is() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_WRITE_TIMEOUT", "1s"), ("VIEW_INGEST_IDLE_TIMEOUT", "1h")]).await;
    for bytes in [0, 51] {
        let mut stream = takes_little(&app).await;
        stream.write_all(head("GET /livez", "").repeat(3_000).as_bytes()).await.unwrap();
        let before = app.metric("view_ingest_answers_not_taken_total").await;
        let cut_off = || async { app.metric("view_ingest_answers_not_taken_total").await > before };
        let taking = async {
            let mut buffer = vec![0; bytes];
            // 512 bytes a second, for half a minute at most.
            for _ in 0..300 {
                if bytes > 0 && stream.read_exact(&mut buffer).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = eventually("it is cut off", SOON, cut_off) => {}
            () = taking => panic!("nobody was cut off who takes {bytes} bytes a time"),
        }
    }
    assert_eq!(app.http.get("/livez").await.status, 200);
}
