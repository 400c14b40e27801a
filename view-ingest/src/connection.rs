//! One connection: HTTP/1.1 until the client is done, too slow, or the process stops.
//!
//! hyper's own header time-out counts from the end of the last answer, so it cannot tell a slow client from an idle one. A watch over
//! each connection does: a sweep once in a while ends what has been in one phase for too long, without a timer per connection.
//!
//! A head that begins behind a whole request, in the same packet or while that is being answered, is in hyper's buffer already when the
//! answer goes out, and hyper shows its buffer only to who takes the connection apart. That is done once where nothing has come for as long
//! as a head may take, so it costs a connection in use nothing.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
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

/// Between two requests, unless the next one has begun together with the last one.
const IDLE: u8 = 0;
/// A request's head has begun to arrive.
const HEAD: u8 = 1;
/// A request is being answered.
const BUSY: u8 = 2;
/// Between two requests, and nothing of the next one has come.
const QUIET: u8 = 3;

/// In which phase a connection is, and since when. Written by the connection, read by the sweep.
#[derive(Debug)]
pub(crate) struct Watch {
    phase: AtomicU8,
    since_ms: AtomicU64,
    /// Whether the client has yet to take a part of an answer.
    writing: AtomicBool,
    clock: Arc<Clock>,
    overdue: Notify,
}

/// What is to be done about a connection.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// To find out whether the next request has begun.
    Look,
    End,
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
        Self { phase: AtomicU8::new(IDLE), since_ms, writing: AtomicBool::new(false), clock, overdue: Notify::new() }
    }

    fn enter(&self, phase: u8) {
        self.phase.store(phase, Relaxed);
        self.since_ms.store(self.clock.now_ms.load(Relaxed), Relaxed);
    }

    /// Enters the phase that a look has shown the connection to be in since its last answer.
    fn looked(&self, has_begun: bool) {
        self.phase.store(if has_begun { HEAD } else { QUIET }, Relaxed);
    }

    /// Wakes the connection when it has been in its phase for too long.
    pub(crate) fn sweep(&self, limits: &Limits) {
        if self.due(limits) != Due::Nothing {
            self.overdue.notify_one();
        }
    }

    /// Whether the connection has been in its phase for too long. A request that is being answered has its own deadlines.
    fn due(&self, limits: &Limits) -> Due {
        let writing = self.writing.load(Relaxed);
        let (limit, due) = match self.phase.load(Relaxed) {
            // To take the connection apart would lose the rest of the answer.
            IDLE if !writing => (limits.header_timeout.min(limits.idle_timeout), Due::Look),
            IDLE | QUIET => (limits.idle_timeout, Due::End),
            HEAD => (limits.header_timeout, Due::End),
            _ => return Due::Nothing,
        };
        let age = self.clock.now_ms.load(Relaxed).saturating_sub(self.since_ms.load(Relaxed));
        if u128::from(age) > limit.as_millis() { due } else { Due::Nothing }
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
    let mut http = http1::Builder::new();
    http.header_read_timeout(None)
        .max_buf_size(MAX_BUFFER)
        // One buffer and one write, as the bodies are small. `pipeline_flush` would do the same, but holds answers back while anything of a
        // next request is there, even one that never comes to its end or cannot be parsed, and lets them pile up without a bound.
        .writev(false);
    let io = TokioIo::new(Watched { stream, early: Bytes::new(), watch: Arc::clone(&watch) });
    let mut connection = http.serve_connection(io, service);
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
            () = watch.overdue.notified() => match watch.due(&app.limits) {
                Due::Nothing => {}
                Due::Look => {
                    let mut parts = connection.into_parts();
                    // hyper passes over empty lines before a head; some clients send one behind a body.
                    let has_begun = parts.read_buf.iter().any(|byte| !b"\r\n".contains(byte));
                    if has_begun {
                        parts.io.inner_mut().early = parts.read_buf;
                    }
                    connection = http.serve_connection(parts.io, parts.service);
                    if told {
                        Pin::new(&mut connection).graceful_shutdown();
                    }
                    watch.looked(has_begun);
                    // The phase that it really is in may be over, too.
                    watch.sweep(&app.limits);
                }
                Due::End => break,
            },
        }
    }
    // A refusal in the middle of an answer would be taken for a part of it.
    if watch.phase.load(Relaxed) == HEAD && !watch.writing.load(Relaxed) {
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

/// A stream that tells its watch when a request begins to arrive, and whether an answer is yet to be taken.
struct Watched {
    stream: TcpStream,
    /// What was read of the next request before the connection was taken apart.
    early: Bytes,
    watch: Arc<Watch>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let length = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before && matches!(self.watch.phase.load(Relaxed), IDLE | QUIET) {
            self.watch.enter(HEAD);
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.watch.writing.store(true, Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // hyper flushes when it has written all that there is.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch.writing.store(false, Relaxed);
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

    fn limits() -> Limits {
        Limits {
            view_ttl: SECOND,
            max_batch: 1,
            max_connections: 1,
            max_queue: 1,
            viewer_rate: None,
            reads_require_token: false,
            header_timeout: SECOND,
            body_timeout: SECOND,
            idle_timeout: SECOND,
        }
    }

    #[test]
    fn a_request_that_came_in_after_the_sweep_is_answered() {
        let limits = limits();
        let clock = Arc::new(Clock::new());
        let watch = Watch::new(Arc::clone(&clock));
        assert_eq!(watch.due(&limits), Due::Nothing);
        clock.now_ms.store(1_001, Relaxed);
        assert_eq!(watch.due(&limits), Due::Look);
        watch.looked(false);
        assert_eq!(watch.due(&limits), Due::End);
        // From the head to the answer, and after it.
        for phase in [HEAD, BUSY, IDLE] {
            watch.enter(phase);
            assert_eq!(watch.due(&limits), Due::Nothing, "{phase}");
        }
        clock.now_ms.store(3_000, Relaxed);
        watch.enter(BUSY);
        clock.now_ms.store(9_000, Relaxed);
        assert_eq!(watch.due(&limits), Due::Nothing, "a request has its own deadlines");
    }

    #[test]
    fn a_connection_is_not_taken_apart_under_an_answer() {
        let limits = Limits { idle_timeout: 3 * SECOND, ..limits() };
        let clock = Arc::new(Clock::new());
        let watch = Watch::new(Arc::clone(&clock));
        watch.writing.store(true, Relaxed);
        clock.now_ms.store(3_000, Relaxed);
        assert_eq!(watch.due(&limits), Due::Nothing);
        clock.now_ms.store(3_001, Relaxed);
        assert_eq!(watch.due(&limits), Due::End, "nobody takes for ever");
    }
}
