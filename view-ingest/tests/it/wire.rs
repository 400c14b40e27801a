//! A connection whose bytes a test decides on one by one.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::token;

/// Longer than any time-out that a test sets.
const DEADLINE: Duration = Duration::from_secs(30);

/// A connection and all that has come back on it.
pub(crate) struct Wire {
    stream: TcpStream,
    received: String,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), received: String::new() }
    }

    /// A connection on which a request has been answered, so that the server has certainly let it in.
    pub(crate) async fn admitted(address: SocketAddr) -> Self {
        let mut wire = Self::connect(address).await;
        wire.send("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
        wire.read_answers(1).await;
        wire
    }

    /// A request of a viewer whose body the server waits for: it has said so with `100 Continue`.
    pub(crate) async fn post_without_body(address: SocketAddr, path: &str, viewer: &str, length: usize) -> Self {
        let mut wire = Self::connect(address).await;
        let token = token(viewer);
        wire.send(&format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nexpect: 100-continue\r\n\r\n"
        ))
        .await;
        wire.read_until("100 Continue\r\n\r\n").await;
        wire.received.clear();
        wire
    }

    /// A view that is sent likewise.
    pub(crate) async fn view_without_body(address: SocketAddr, viewer: &str, length: usize) -> Self {
        Self::post_without_body(address, "/posts/view", viewer, length).await
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Sends, unless the server has closed the connection.
    pub(crate) async fn try_send(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).await.is_ok()
    }

    /// Reads until the answer so far contains `pattern`.
    pub(crate) async fn read_until(&mut self, pattern: &str) -> &str {
        while !self.received.contains(pattern) {
            assert!(self.read().await, "closed before {pattern:?}; received: {:?}", self.received);
        }
        &self.received
    }

    /// Reads until this many answers have come back, all of them short.
    pub(crate) async fn read_answers(&mut self, number: usize) {
        while self.received.matches(r#"{"status":"ok"}"#).count() < number {
            assert!(self.read().await, "closed before answer {number}; received: {:?}", self.received);
        }
    }

    /// Reads until the server closes the connection, and gives all that has come back.
    pub(crate) async fn read_to_end(mut self) -> String {
        while self.read().await {}
        self.received
    }

    /// Reads one answer, whose body is JSON, and gives all that has come back; nothing where the server has closed the
    /// connection.
    pub(crate) async fn read_to_end_of_answer(mut self) -> String {
        while !self.received.ends_with('}') && self.read().await {}
        self.received
    }

    /// Reads once; gives whether there was something to read.
    async fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let read = timeout(DEADLINE, self.stream.read(&mut buffer)).await;
        let read = read.unwrap_or_else(|_| panic!("nothing within {DEADLINE:?}; received: {:?}", self.received));
        // A reset is an end, too: the server may have left bytes unread.
        let length = read.unwrap_or(0);
        self.received += &String::from_utf8_lossy(&buffer[..length]);
        length > 0
    }
}
