//! The operators' listener: `/livez`, `/readyz`, `/metrics`, and what a binary adds.
//!
//! A probe is answered whoever else is connected: connections are always let in, and the one that has been silent for
//! longest gives way.

mod slots;

use std::{future::Future, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use hyper::{Method, Request, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use serde::Serialize;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use self::slots::{Slot, Slots};
use crate::{
    checks::{self, Audience},
    failed_request,
    metrics::exposition,
    readiness::Readiness,
    request,
    respond::{self, Answer},
};

/// A client that is silent for this long is closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// What is buffered of a connection, in bytes.
const MAX_BUFFER: usize = 32 * 1024;
/// The pause after the system refuses to accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a route answers.
pub enum RouteAnswer {
    /// At once.
    Now(Answer),
    /// When something is done. Connections that wait for it are beyond the listener's bound: the route has one of its own.
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

/// A route of the binary's own: gives back nothing for paths that are not its own.
pub type Route = Box<dyn Fn(&Request<Incoming>) -> Option<RouteAnswer> + Send + Sync>;

/// What the listener answers with.
pub struct Admin {
    /// The answer of `/readyz`.
    pub readiness: Arc<Readiness>,
    /// The numbers of `/metrics`.
    pub registry: Registry,
    /// The binary's own route.
    pub route: Option<Route>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// Opens the listener and logs its address.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(listener = "admin", address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// Serves until it is dropped: an operator may look on until the very end.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let slots = Arc::new(Slots::default());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve_connection(stream, Arc::clone(&admin), slots.take()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, admin: Arc<Admin>, slot: Slot) {
    let slot = &slot;
    let service = service_fn(move |request| {
        slot.used();
        let admin = Arc::clone(&admin);
        async move {
            let answer = admin.answer(&request, slot).await;
            slot.used();
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // What has been asked is answered before the connection gives way.
        biased;
        result = connection => if let Err(error) = result {
            tracing::debug!(%error, "an operator's connection ended");
        },
        () = slot.wanted() => tracing::debug!("an operator's connection gave way to another one"),
    }
}

impl Admin {
    async fn answer(&self, request: &Request<Incoming>, slot: &Slot) -> Answer {
        if request::is_ambiguous(request) {
            let message = "There must be one Host header, and one Authorization at most";
            return respond::closing(respond::error(StatusCode::BAD_REQUEST, message));
        }
        if request::is_coded(request) {
            let message = "No Transfer-Encoding but chunked is taken";
            return respond::closing(respond::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        if let Some(answer) = self.route.as_ref().and_then(|route| route(request)) {
            let mut answer = match answer {
                RouteAnswer::Now(answer) => answer,
                RouteAnswer::Later(answering) => slot.waiting(answering).await,
            };
            failed_request::note(request.method(), request.uri().path(), request.headers(), &mut answer);
            return answer;
        }
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/livez" | "/readyz" | "/metrics" if *request.method() == Method::OPTIONS => options(),
            "/livez" | "/readyz" | "/metrics" if !read => respond::method_not_allowed("Method not allowed", METHODS),
            "/livez" => live(),
            "/readyz" => ready(&self.readiness, request.uri().query(), Audience::Operators),
            "/metrics" => exposition::answer(&self.registry, request.headers()),
            _ => respond::error(StatusCode::NOT_FOUND, "Not found"),
        }
    }
}

/// What the probes take.
pub const METHODS: &str = "GET, HEAD, OPTIONS";

/// Returns the answer of the probes to OPTIONS, which some monitors send first.
#[must_use]
pub fn options() -> Answer {
    respond::options(METHODS)
}

/// Returns the answer of `/livez`: the process runs.
#[must_use]
pub fn live() -> Answer {
    respond::json(StatusCode::OK, r#"{"status":"ok"}"#)
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Value>,
}

/// Returns the answer of `/readyz`: the process should get work, or why not. With `verbose` in the query, it tells how
/// everything is that the process depends on.
#[must_use]
pub fn ready(readiness: &Readiness, query: Option<&str>, audience: Audience) -> Answer {
    let checks = checks::is_verbose(query).then(|| readiness.checks().tell(audience));
    match readiness.obstacle() {
        None => {
            let ready = Ready { status: "ok", role: readiness.role(), checks };
            // Strings and what is JSON already always have a JSON form.
            respond::json(StatusCode::OK, serde_json::to_vec(&ready).unwrap_or_default())
        }
        Some(obstacle) => respond::unavailable_with(&obstacle, checks),
    }
}
