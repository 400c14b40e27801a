//! A small HTTP client, and bare bytes for requests that no client would send.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client as Connections;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any timeout of the programs, so that a test sees their answer and not ours.
const DEADLINE: Duration = Duration::from_secs(30);

/// A client of one server that keeps its connections alive. It belongs to the runtime that used it first.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    connections: Connections<HttpConnector, Full<Bytes>>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, which must be UTF-8.
    pub body: String,
}

impl Response {
    /// Returns the body as JSON.
    ///
    /// # Panics
    /// When it is something else.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// Returns a header's value; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("headers of the programs are ASCII"))
    }
}

impl Client {
    /// Returns a client that connects when it is first used.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, connections: Connections::builder(TokioExecutor::new()).build_http() }
    }

    /// Returns a client that opens a new connection for every request.
    pub fn without_keep_alive(address: SocketAddr) -> Self {
        Self { address, connections: Connections::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http() }
    }

    /// Returns a client that connects from one address of this machine, which is how a server tells clients apart.
    pub fn from_address(local: IpAddr, address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_local_address(Some(local));
        Self { address, connections: Connections::builder(TokioExecutor::new()).build(connector) }
    }

    /// `GET` without a token.
    pub async fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], "").await
    }

    /// `POST` of a JSON body.
    pub async fn post_json(&self, path: &str, token: Option<&str>, body: &Value) -> Response {
        self.try_post_json(path, token, body).await.unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// Any request.
    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response {
        self.try_request(method, path, headers, body).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Like [`Self::post_json`], for a server that may go away meanwhile.
    pub async fn try_post_json(&self, path: &str, token: Option<&str>, body: &Value) -> Result<Response, String> {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![(CONTENT_TYPE.as_str(), "application/json")];
        headers.extend(authorization.as_deref().map(|value| (AUTHORIZATION.as_str(), value)));
        self.try_request("POST", path, &headers, body.to_string()).await
    }

    /// Like [`Self::request`], for a server that may go away meanwhile: no answer is an error and not a panic.
    pub async fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Response, String> {
        let method: Method = method.parse().expect("the method is valid");
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("the request is valid");
        let exchange = async {
            let response = self.connections.request(request).await.map_err(|error| format!("{error:?}"))?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
            let body = String::from_utf8(body.into()).map_err(|error| error.to_string())?;
            Ok(Response { status: parts.status.as_u16(), headers: parts.headers, body })
        };
        timeout(DEADLINE, exchange).await.unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}")))
    }
}

/// Sends bytes over a new connection and returns all that comes back until the server closes it.
///
/// A request that leaves the connection open must say `Connection: close`. A connection that the server resets after
/// its answer, because it left a part of the request unread, counts as closed.
///
/// # Panics
/// When the server cannot be reached or does not close the connection within 30 seconds.
pub async fn raw(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap_or_else(|error| panic!("cannot connect: {error}"));
    let mut answer = Vec::new();
    let (mut reader, mut writer) = stream.split();
    let exchange = async {
        let write = async {
            // The server may answer and close before it has read everything.
            let _ = writer.write_all(request.as_ref()).await;
        };
        let read = async {
            let _ = reader.read_to_end(&mut answer).await;
        };
        tokio::join!(write, read);
    };
    let finished = timeout(DEADLINE, exchange).await.is_ok();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(finished, "the connection is still open after {DEADLINE:?}; received: {answer:?}");
    answer
}
