//! One connection: HTTP/1.1 until the client is done, too slow, or the process stops.
//!
//! hyper's own header time-out counts from the end of the last answer, so it cannot tell a slow client from an idle
//! one. A phase timer for each connection does: a sweep once in a while ends what has been in one phase for too long,
//! without a timer per connection.
//!
//! A head that begins behind a whole request, in the same packet or while that is being answered, is in hyper's buffer
//! already when the answer goes out, and hyper shows its buffer only to who takes the connection apart. That is done
//! once where nothing has come for as long as a head may take, so it costs a connection in use nothing. It also gives
//! large buffers back, and for that is done sooner.

mod stream;
mod turns;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hyper::{Request, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_util::sync::CancellationToken;
use views_service::respond::{self, Answer};

pub(crate) use self::turns::Rounds;
use self::{stream::TimedStream, turns::Turns};
use crate::{
    cli::Limits,
    http::{
        body::Upload,
        phase_timer::{Due, PhaseTimer},
    },
    metrics::Metrics,
};

/// What hyper may buffer of a connection, in bytes, where a list of posts needs no more. A head that does not fit is
/// answered by hyper, with a bare 431.
const BUFFER: usize = 32 * 1024;
/// The same where it does: a longer target would be refused by hyper in any case.
const MAX_BUFFER: usize = 64 * 1024;
/// How long a refusal may take to be written to a client that is being closed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a connection that waits for a request is kept when the process stops: one may be on its way, and closing
/// the connection under it would fail a request for a mere restart.
const LINGER: Duration = Duration::from_millis(500);

/// Answers requests, whatever they are.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Returns how long clients are waited for.
    fn limits(&self) -> &Limits;

    /// Returns the process's numbers, as the worker that serves the connection adds to them.
    fn metrics(&self) -> &Metrics;

    /// Returns how long a head may be that is worth being read, in bytes.
    fn longest_head(&self) -> usize;

    /// Answers a request, whose body may be yet to come, and counts the answer.
    fn handle(&self, request: Request<&mut Upload<'_>>) -> impl Future<Output = Answer> + Send;

    /// Returns the body of the last answer to a client that no request is read from any more.
    fn refusal(&self, status: StatusCode) -> Vec<u8>;

    /// Returns the lines of further headers that such an answer has.
    fn refusal_headers(&self) -> &str;
}

/// Serves a connection until its end. Once the process stops, every answer says that it is the last one, and whoever
/// has nothing to ask for a moment is sent away.
pub(crate) async fn serve<H: Handler>(
    handler: Arc<H>,
    stream: TcpStream,
    timer: Arc<PhaseTimer>,
    rounds: Rounds,
    stopping: CancellationToken,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let is_another = timer.begin();
        let (handler, timer, stopping) = (Arc::clone(&handler), Arc::clone(&timer), &stopping);
        async move {
            // Whoever sends many requests at once is answered one at a time, in turn with everybody else.
            if is_another {
                tokio::task::yield_now().await;
            }
            let (head, body) = request.into_parts();
            let mut upload = Upload::new(body, &timer);
            let answer = handler.handle(Request::from_parts(head, &mut upload)).await;
            // Where a part of the body is yet to come, no request can follow it.
            let is_whole = upload.is_whole().await;
            let is_last = timer.answered() || stopping.is_cancelled();
            Ok::<_, Infallible>(if is_last || !is_whole { respond::closing(answer) } else { answer })
        }
    });
    let mut http = http1::Builder::new();
    http.header_read_timeout(None)
        .max_buf_size(handler.longest_head().clamp(BUFFER, MAX_BUFFER))
        // One buffer and one write, as the bodies are small. `pipeline_flush` would do the same, but holds answers back
        // while anything of a next request is there, even one that never comes to its end or cannot be parsed, and lets
        // them pile up without a bound.
        .writev(false)
        // Who has nothing more to ask may close the writing side and wait for the answer.
        .half_close(true);
    let io = TokioIo::new(TimedStream::new(stream, Arc::clone(&timer), Turns::new(rounds)));
    let mut connection = http.serve_connection(io, service);
    let lingered = async {
        stopping.cancelled().await;
        tokio::time::sleep(LINGER).await;
    };
    let mut lingered = pin!(lingered);
    let due = loop {
        let turn = poll_fn(|cx| {
            timer.turn();
            Pin::new(&mut connection).poll(cx)
        });
        tokio::select! {
            biased;
            result = turn => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            () = &mut lingered, if !timer.is_stopping() => {
                timer.stop();
                if timer.is_lingering() {
                    return;
                }
                Pin::new(&mut connection).graceful_shutdown();
            }
            // Between the sweep and now a request may have come in. Its view is taken, and whoever has sent it is to
            // hear of it.
            () = timer.overdue() => match timer.due(handler.limits()) {
                Due::Nothing => {}
                Due::Look => {
                    let mut parts = connection.into_parts();
                    // hyper passes over empty lines before a head; some clients send one behind a body.
                    let has_begun = parts.read_buf.iter().any(|byte| !b"\r\n".contains(byte));
                    if has_begun {
                        parts.io.inner_mut().early = parts.read_buf;
                    }
                    connection = http.serve_connection(parts.io, parts.service);
                    if timer.is_stopping() {
                        Pin::new(&mut connection).graceful_shutdown();
                    }
                    timer.looked(has_begun);
                    // The phase that it really is in may be over, too.
                    timer.sweep(handler.limits());
                }
                due => break due,
            },
        }
    };
    let is_writing = timer.is_writing();
    let stream = connection.into_parts().io.into_inner().stream;
    match due {
        Due::TooSlow => {
            handler.metrics().worker.refused(408);
            refuse(stream, &*handler, "408 Request Timeout", StatusCode::REQUEST_TIMEOUT).await;
        }
        Due::NoRoom => turn_away(&*handler, stream).await,
        Due::NotTaken => {
            handler.metrics().not_taken.inc();
            forget(&stream);
        }
        _ if is_writing => forget(&stream),
        _ => {}
    }
}

/// Has the system throw away what it holds for a client who does not take it, instead of offering it for minutes after
/// the end.
fn forget(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a connection was gone before it was closed");
    }
}

/// Turns a connection away for want of room.
pub(crate) async fn turn_away(handler: &impl Handler, stream: TcpStream) {
    tracing::warn!("a connection was turned away: as many as --max-connections allows are being answered");
    handler.metrics().turned_away.inc();
    handler.metrics().worker.refused(503);
    refuse(stream, handler, "503 Service Unavailable\r\nretry-after: 1", StatusCode::SERVICE_UNAVAILABLE).await;
}

/// Writes a last answer past hyper and closes.
async fn refuse(mut stream: TcpStream, handler: &impl Handler, first_lines: &str, status: StatusCode) {
    let body = handler.refusal(status);
    let head = format!(
        "HTTP/1.1 {first_lines}\r\n{}connection: close\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {}\r\n\r\n",
        handler.refusal_headers(),
        body.len()
    );
    let mut answer = head.into_bytes();
    answer.extend_from_slice(&body);
    let write = async {
        stream.write_all(&answer).await?;
        stream::close(&mut stream).await
    };
    // Whether the client heard it makes no difference any more.
    let _ = tokio::time::timeout(LAST_WORDS, write).await;
}
