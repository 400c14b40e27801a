//! Answers that are given before the request's body has come: the client gets them all the same.

use std::{io, net::SocketAddr};

use testkit::{SOON, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    support::{World, token},
    wire::Wire,
};

/// Sends a head, waits until the answer is there, sends the rest nevertheless and only then reads.
async fn answer(address: SocketAddr, head: &str, rest: &[u8]) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.peek(&mut [0]).await?;
    stream.write_all(rest).await?;
    // A byte by itself comes to a socket that has had time to be closed.
    stream.write_all(b"x").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn an_answer_is_not_lost_to_a_body_that_comes_behind_it() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let json = "host: x\r\ncontent-type: application/json\r\n";
    let bearer = format!("authorization: Bearer {}\r\n", token("ann"));
    let large = "content-length: 1000000\r\n\r\n";
    let chunk = format!("transfer-encoding: chunked\r\n\r\n11000\r\n{}\r\n", "x".repeat(0x1_1000));
    let many_headers = "a: b\r\n".repeat(120);
    let cases = [
        (413, format!("POST /posts/view HTTP/1.1\r\n{json}{bearer}{large}")),
        (413, format!("POST /posts/views-batch HTTP/1.1\r\n{json}{bearer}{chunk}")),
        (401, format!("POST /posts/view HTTP/1.1\r\n{json}{large}")),
        (401, format!("POST /posts/view HTTP/1.1\r\n{json}transfer-encoding: chunked\r\n\r\n5\r\n")),
        (415, format!("POST /posts/view HTTP/1.1\r\nhost: x\r\n{bearer}{large}")),
        (404, format!("POST /nowhere HTTP/1.1\r\n{json}{large}")),
        (405, format!("PUT /posts/view HTTP/1.1\r\n{json}{large}")),
        (400, format!("POST /posts/view HTTP/1.1\r\nhost: y\r\n{json}{large}")),
        (431, format!("POST /posts/view HTTP/1.1\r\n{json}a: {}\r\n{large}", "x".repeat(20_000))),
        (200, format!("GET /livez HTTP/1.1\r\n{json}{large}")),
        // hyper's own.
        (400, "no request\r\n\r\n".to_owned()),
        (431, format!("POST /posts/view HTTP/1.1\r\n{many_headers}\r\n")),
    ];
    for (status, head) in cases {
        for _ in 0..40 {
            let answer = answer(app.address, &head, &[b'x'; 300_000]).await;
            let answer = answer.unwrap_or_else(|error| panic!("{status}: {error}"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
            assert!(answer.contains("connection: close\r\n"), "{status}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        }
    }
}

#[tokio::test]
async fn a_client_that_asks_first_is_refused_without_being_told_to_go_on() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let refused = "POST /posts/view HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n";
    let answer = answer(app.address, refused, b"{\"a\":\"b\"}").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_refusal_of_a_whole_request_keeps_the_connection() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let bodies = ["content-length: 2\r\n\r\n{}", "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "\r\n"];
    for body in bodies {
        let mut wire = Wire::connect(app.address).await;
        wire.send(&format!("POST /posts/view HTTP/1.1\r\nhost: x\r\n{body}GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        wire.read_answers(1).await;
        wire.send("GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        let answers = wire.read_to_end().await;
        assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 2, "{answers}");
        assert!(answers.starts_with("HTTP/1.1 401 "), "{answers}");
    }
}

#[tokio::test]
async fn who_does_not_close_is_closed() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let mut wire = Wire::connect(app.address).await;
    wire.send("POST /posts/view HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n").await;
    wire.read_until("connection: close").await;
    eventually("it is closed", SOON, || async { app.metric("view_ingest_connections").await == 0.0 }).await;
}
