//! A web site on a port of its own: what people and browsers are shown here.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::repository;

/// The module for web pages.
pub(crate) const MODULE: &str = "deploy/web/views.js";

/// What a path shows: its type and its text.
pub(crate) type Page = (&'static str, String);

/// A page in HTML.
pub(crate) fn html(text: impl Into<String>) -> Page {
    ("text/html; charset=utf-8", text.into())
}

/// The module, as it is in the repository.
pub(crate) fn module() -> Page {
    ("text/javascript; charset=utf-8", repository::text(MODULE))
}

/// A site that has its port and shows nothing yet.
pub(crate) struct Port {
    listener: TcpListener,
    address: SocketAddr,
}

/// A site. It ends when this is dropped.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Port {
    /// Takes a port.
    ///
    /// # Panics
    /// When somebody else has it.
    pub(crate) async fn take(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"));
        let address = listener.local_addr().expect("a listener has an address");
        Self { listener, address }
    }

    /// Returns the address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shows pages from now on. What a path has none for is not found.
    pub(crate) fn show(self, pages: impl Fn(&str) -> Option<Page> + Send + Sync + 'static) -> Site {
        let Self { listener, address } = self;
        let pages = Arc::new(pages);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let pages = Arc::clone(&pages);
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer(pages(request.uri().path()));
                    async { Ok::<_, Infallible>(answer) }
                });
                // Whoever goes away before the answer does not want it.
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Site { address, serving }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn answer(page: Option<Page>) -> Response<Full<Bytes>> {
    let (status, (kind, text)) = match page {
        Some(page) => (StatusCode::OK, page),
        None => (StatusCode::NOT_FOUND, ("text/plain", "not found".to_owned())),
    };
    let answer = Response::builder().status(status).header(CONTENT_TYPE, kind).header(CACHE_CONTROL, "no-store");
    answer.body(Full::from(text)).expect("the headers are valid")
}
