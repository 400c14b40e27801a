//! One connection: HTTP/1.1 until the client is done, too slow, or the process stops.
//!
//! hyper's own header time-out counts from the end of the last answer, so it cannot tell a slow client from an idle one. A watch over
//! each connection does: a sweep once in a while ends what has been in one phase for too long, without a timer per connection.
//!
//! A head that begins behind a whole request, in the same packet or while that is being answered, is in hyper's buffer already when the
//! answer goes out, and hyper shows its buffer only to who takes the connection apart. That is done once where nothing has come for as long
//! as a head may take, so it costs a connection in use nothing. It also gives large buffers back, and for that is done sooner.

mod stream;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hyper::{StatusCode, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::watch as channel};
use views_service::respond;

use self::stream::Watched;
use crate::{
    app::App,
    messages, router,
    watch::{Due, Watch},
};

/// What hyper may buffer of a connection, in bytes, where a list of posts needs no more. A head that does not fit is answered by hyper, with a
/// bare 431.
const BUFFER: usize = 32 * 1024;
/// The same where it does: a longer target would be refused by hyper in any case.
const MAX_BUFFER: usize = 64 * 1024;
/// What a post takes of a target, in bytes: the longest id, and a comma.
const BYTES_PER_POST: usize = 65;
/// How long a refusal may take to be written to a client that is being closed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a connection that waits for a request is kept when the process stops: one may be on its way, and closing the connection under it
/// would fail a request for a mere restart.
const LINGER: Duration = Duration::from_millis(500);

/// Serves a connection until its end. `stopping` turns true when the process stops: from then on every answer says that it is the last one,
/// and whoever has nothing to ask for a moment is sent away.
pub(crate) async fn serve(app: Arc<App>, stream: TcpStream, watch: Arc<Watch>, mut stopping: channel::Receiver<bool>) {
    let last = stopping.clone();
    let service = service_fn(|request| {
        let is_another = watch.begin();
        let (app, watch, last) = (Arc::clone(&app), Arc::clone(&watch), &last);
        async move {
            // Whoever sends many requests at once is answered one at a time, in turn with everybody else.
            if is_another {
                tokio::task::yield_now().await;
            }
            let answer = router::answer(&app, &watch, request).await;
            let is_last = watch.answered() || *last.borrow();
            Ok::<_, Infallible>(if is_last { respond::closing(answer) } else { answer })
        }
    });
    let mut http = http1::Builder::new();
    http.header_read_timeout(None)
        .max_buf_size((app.limits.max_batch * BYTES_PER_POST + router::MAX_HEADERS).clamp(BUFFER, MAX_BUFFER))
        // One buffer and one write, as the bodies are small. `pipeline_flush` would do the same, but holds answers back while anything of a
        // next request is there, even one that never comes to its end or cannot be parsed, and lets them pile up without a bound.
        .writev(false);
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&watch)));
    let mut connection = http.serve_connection(io, service);
    let lingered = async {
        // The sender lives as long as the process listens to signals, and without it there is nothing to serve for either.
        let _ = stopping.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(LINGER).await;
    };
    let mut lingered = pin!(lingered);
    let due = loop {
        let turn = poll_fn(|cx| {
            watch.turn();
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
            () = &mut lingered, if !watch.is_stopping() => {
                watch.stop();
                if watch.is_lingering() {
                    return;
                }
                Pin::new(&mut connection).graceful_shutdown();
            }
            // Between the sweep and now a request may have come in. Its view is taken, and whoever has sent it is to hear of it.
            () = watch.overdue() => match watch.due(&app.limits) {
                Due::Nothing => {}
                Due::Look => {
                    let mut parts = connection.into_parts();
                    // hyper passes over empty lines before a head; some clients send one behind a body.
                    let has_begun = parts.read_buf.iter().any(|byte| !b"\r\n".contains(byte));
                    if has_begun {
                        parts.io.inner_mut().early = parts.read_buf;
                    }
                    connection = http.serve_connection(parts.io, parts.service);
                    if watch.is_stopping() {
                        Pin::new(&mut connection).graceful_shutdown();
                    }
                    watch.looked(has_begun);
                    // The phase that it really is in may be over, too.
                    watch.sweep(&app.limits);
                }
                due => break due,
            },
        }
    };
    let is_writing = watch.is_writing();
    let stream = connection.into_parts().io.into_inner().stream;
    match due {
        Due::TooSlow => {
            let answer = respond::error_body(StatusCode::REQUEST_TIMEOUT, messages::TOO_SLOW);
            app.metrics.answered(408);
            refuse(stream, "408 Request Timeout", &answer).await;
        }
        Due::NotTaken => {
            app.metrics.not_taken.inc();
            forget(&stream);
        }
        _ if is_writing => forget(&stream),
        _ => {}
    }
}

/// Has the system throw away what it holds for a client who does not take it, instead of offering it for minutes after the end.
fn forget(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a connection was gone before it was closed");
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
        stream::close(&mut stream).await
    };
    // Whether the client heard it makes no difference any more.
    let _ = tokio::time::timeout(LAST_WORDS, write).await;
}
