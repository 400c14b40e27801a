//! An issuer of tokens: an HTTP server that publishes a set of keys, or whatever else a test has it answer.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

use crate::tokens::SigningKey;

/// An issuer on a free port of 127.0.0.1. It belongs to the runtime that it was started in, and ends when it is dropped.
pub struct Issuer {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    reply: Mutex<Reply>,
    asked: AtomicUsize,
}

#[derive(Clone)]
struct Reply {
    bytes: Vec<u8>,
    after: Duration,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Issuer {
    /// Starts an issuer that publishes keys with their ids.
    pub async fn start(keys: &[(&str, &SigningKey)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let reply = Mutex::new(Reply { bytes: Vec::new(), after: Duration::ZERO });
        let shared = Arc::new(Shared { reply, asked: AtomicUsize::new(0) });
        let serving = tokio::spawn(serve(listener, Arc::clone(&shared)));
        let issuer = Self { address, shared, serving };
        issuer.publish(keys);
        issuer
    }

    /// Returns the URL of the keys.
    pub fn url(&self) -> String {
        format!("http://{}/.well-known/jwks.json", self.address)
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how often it has been asked.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(SeqCst)
    }

    /// Publishes other keys from now on.
    pub fn publish(&self, keys: &[(&str, &SigningKey)]) {
        self.answer(200, &[], key_set(keys).to_string());
    }

    /// Answers something else from now on.
    pub fn answer(&self, status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
        self.set(|reply| reply.bytes = [head.as_bytes(), body].concat());
    }

    /// Answers these bytes from now on, and closes.
    pub fn answer_raw(&self, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.set(|reply| reply.bytes = bytes);
    }

    /// Takes its time for each answer from now on.
    pub fn delay(&self, after: Duration) {
        self.set(|reply| reply.after = after);
    }

    fn set(&self, change: impl FnOnce(&mut Reply)) {
        change(&mut self.shared.reply.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Returns the set (RFC 7517) of keys with their ids, as issuers publish it: each key says what it is for.
pub fn key_set(keys: &[(&str, &SigningKey)]) -> Value {
    let keys: Vec<_> = keys
        .iter()
        .map(|(id, key)| {
            let mut jwk = key.jwk();
            jwk["kid"] = json!(id);
            jwk["use"] = json!("sig");
            jwk
        })
        .collect();
    json!({ "keys": keys })
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&shared)));
    }
}

async fn answer(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
            return;
        }
    }
    shared.asked.fetch_add(1, SeqCst);
    let reply = shared.reply.lock().unwrap_or_else(PoisonError::into_inner).clone();
    sleep(reply.after).await;
    // Who does not listen any more has heard enough.
    let _ = stream.write_all(&reply.bytes).await;
    let _ = stream.shutdown().await;
}
