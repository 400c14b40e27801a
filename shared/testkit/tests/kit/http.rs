//! The HTTP client, against a server of a few lines.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;
use testkit::http::{Client, raw};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers every request with JSON: its head and body, the number of the connection, and the client's address.
async fn parrot() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for connection in 1.. {
            let (mut stream, peer) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    let body = json!({ "connection": connection, "peer": peer.ip(), "request": request }).to_string();
                    let answer = format!("HTTP/1.1 418 Teapot\r\nX-Kind: parrot\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if request.contains("lose") {
                        break;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn requests_arrive_whole_and_connections_are_kept_alive() {
    let client = Client::new(parrot().await);
    let response = client.post_json("/posts/view?x=1", Some("t.o.k"), &json!({ "postId": "a" })).await;
    assert_eq!((response.status, response.header("x-kind")), (418, "parrot"));
    let body = response.json();
    let request = body["request"].as_str().unwrap();
    assert!(request.starts_with("POST /posts/view?x=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer t.o.k\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"postId\":\"a\"}"), "{request}");

    let again = client.request("PATCH", "/", &[("x-test", "1")], "").await;
    assert_eq!(again.json()["connection"], 1);
}

#[tokio::test]
async fn a_client_may_have_an_address_of_its_own() {
    let local = IpAddr::from([127, 0, 0, 7]);
    let answer = Client::from_address(local, parrot().await).get("/").await;
    assert_eq!(answer.json()["peer"], local.to_string());
}

#[tokio::test]
async fn bare_bytes_are_sent_as_they_are() {
    let answer = raw(parrot().await, "lose \x00 this\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 418 Teapot\r\n"), "{answer}");
    assert!(answer.contains(r"lose \u0000 this"), "{answer}");
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_of_try_request() {
    let address = SocketAddr::from(([127, 0, 0, 1], testkit::ports::free()));
    assert!(Client::new(address).try_request("GET", "/", &[], "").await.is_err());
}
