//! One connection: HTTP/1.1 until the client is done, too slow, or the process stops.
//!
//! hyper's own header time-out counts from the end of the last answer, so it cannot tell a slow client from an idle one. A watch over
//! each connection does: a sweep once in a while ends what has been in one phase for too long, without a timer per connection.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::{StatusCode, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use shared::respond;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::{Notify, watch},
};

use crate::{app::App, cli::Limits, messages, router};

/// What hyper may buffer of a connection, in bytes. A head that does not fit is answered by hyper, with a bare 431.
const MAX_BUFFER: usize = 64 * 1024;
/// How long a refusal may take to be written to a client that is being closed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a connection that waits for a request is kept when the process stops: one may be on its way, and closing the connection under it
/// would fail a request for a mere restart.
const LINGER: Duration = Duration::from_millis(500);

/// Between two requests.
const IDLE: u8 = 0;
/// A request's head has begun to arrive.
const HEAD: u8 = 1;
/// A request is being answered.
const BUSY: u8 = 2;

/// In which phase a connection is, and since when. Written by the connection, read by the sweep.
#[derive(Debug)]
pub(crate) struct Watch {
    phase: AtomicU8,
    since_ms: AtomicU64,
    clock: Arc<Clock>,
    overdue: Notify,
}

/// A clock of one worker that is read without asking the system, and as exact as it is swept.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    now_ms: AtomicU64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), now_ms: AtomicU64::new(0) }
    }

    /// Brings the clock up to date.
    pub(crate) fn tick(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.now_ms.store(now, Relaxed);
    }
}

impl Watch {
    pub(crate) fn new(clock: Arc<Clock>) -> Self {
        let since_ms = AtomicU64::new(clock.now_ms.load(Relaxed));
        Self { phase: AtomicU8::new(IDLE), since_ms, clock, overdue: Notify::new() }
    }

    fn enter(&self, phase: u8) {
        self.phase.store(phase, Relaxed);
        self.since_ms.store(self.clock.now_ms.load(Relaxed), Relaxed);
    }

    /// Ends the connection when it has been in its phase for too long.
    pub(crate) fn sweep(&self, limits: &Limits) {
        if self.is_overdue(limits) {
            self.overdue.notify_one();
        }
    }

    /// Whether the connection has been in its phase for too long. A request that is being answered has its own deadlines.
    fn is_overdue(&self, limits: &Limits) -> bool {
        let limit = match self.phase.load(Relaxed) {
            IDLE => limits.idle_timeout,
            HEAD => limits.header_timeout,
            _ => return false,
        };
        let age = self.clock.now_ms.load(Relaxed).saturating_sub(self.since_ms.load(Relaxed));
        u128::from(age) > limit.as_millis()
    }
}

/// Serves a connection until its end. `stopping` turns true when the process stops: from then on every answer says that it is the last one,
/// and whoever has nothing to ask for a moment is sent away.
pub(crate) async fn serve(app: Arc<App>, stream: TcpStream, watch: Arc<Watch>, mut stopping: watch::Receiver<bool>) {
    let last = stopping.clone();
    let service = service_fn(|request| {
        watch.enter(BUSY);
        let (app, watch, last) = (Arc::clone(&app), Arc::clone(&watch), &last);
        async move {
            let Ok(answer) = router::answer(&app, request).await;
            watch.enter(IDLE);
            Ok::<_, Infallible>(if *last.borrow() { respond::closing(answer) } else { answer })
        }
    });
    let io = TokioIo::new(Watched { stream, watch: Arc::clone(&watch) });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(MAX_BUFFER)
        // One buffer and one write, as the bodies are small. `pipeline_flush` would do the same, but holds answers back while anything of a
        // next request is there, even one that never comes to its end or cannot be parsed, and lets them pile up without a bound.
        .writev(false)
        .serve_connection(io, service);
    let lingered = async {
        // The sender lives as long as the process listens to signals, and without it there is nothing to serve for either.
        let _ = stopping.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(LINGER).await;
    };
    let mut lingered = pin!(lingered);
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            result = Pin::new(&mut connection) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            () = &mut lingered, if !told => {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            // Between the sweep and now a request may have come in. Its view is taken, and whoever has sent it is to hear of it.
            () = watch.overdue.notified() => if watch.is_overdue(&app.limits) { break },
        }
    }
    if watch.phase.load(Relaxed) == HEAD {
        let answer = respond::error_body(StatusCode::REQUEST_TIMEOUT, messages::TOO_SLOW);
        app.metrics.answered(408);
        refuse(connection.into_parts().io.into_inner().stream, "408 Request Timeout", &answer).await;
    }
}

/// Turns a connection away for want of room.
pub(crate) async fn turn_away(app: &App, stream: TcpStream) {
    let answer = respond::error_body(StatusCode::SERVICE_UNAVAILABLE, messages::UNAVAILABLE);
    app.metrics.turned_away.inc();
    app.metrics.answered(503);
    refuse(stream, "503 Service Unavailable\r\nretry-after: 1", &answer).await;
}

/// Writes a last answer past hyper and closes.
async fn refuse(mut stream: TcpStream, status_and_headers: &str, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status_and_headers}\r\nconnection: close\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut answer = head.into_bytes();
    answer.extend_from_slice(body);
    let write = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        // Unread bytes would make the system reset the connection before the client has read the answer.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // Whether the client heard it makes no difference any more.
    let _ = tokio::time::timeout(LAST_WORDS, write).await;
}

/// A stream that tells its watch when a request begins to arrive.
struct Watched {
    stream: TcpStream,
    watch: Arc<Watch>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before && self.watch.phase.load(Relaxed) == IDLE {
            self.watch.enter(HEAD);
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_request_that_came_in_after_the_sweep_is_answered() {
        let limits = Limits {
            view_ttl: SECOND,
            max_batch: 1,
            max_connections: 1,
            max_queue: 1,
            reads_require_token: false,
            header_timeout: SECOND,
            body_timeout: SECOND,
            idle_timeout: SECOND,
        };
        let clock = Arc::new(Clock::new());
        let watch = Watch::new(Arc::clone(&clock));
        assert!(!watch.is_overdue(&limits));
        clock.now_ms.store(1_001, Relaxed);
        assert!(watch.is_overdue(&limits));
        // From the head to the answer, and after it.
        for phase in [HEAD, BUSY, IDLE] {
            watch.enter(phase);
            assert!(!watch.is_overdue(&limits), "{phase}");
        }
        clock.now_ms.store(3_000, Relaxed);
        watch.enter(BUSY);
        clock.now_ms.store(9_000, Relaxed);
        assert!(!watch.is_overdue(&limits), "a request has its own deadlines");
    }
}
