//! A client's socket under hyper: it tells the connection's phase timer what comes and goes, and closes without harm to
//! the last answer.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::turns::Turns;
use crate::http::phase_timer::PhaseTimer;

/// From this size on, in bytes, a request takes turns whoever sends it: reading a head of 30 KB costs as much as many
/// views. A hundred posts are less.
const LARGE: usize = 6 * 1024;
/// How much of what a client sends behind its last answer is thrown away, in bytes: a picture that was sent to the
/// wrong address.
const MAX_REST: usize = 8 * 1024 * 1024;

/// A stream that tells its timer when a request begins to arrive, and whether an answer is yet to be taken.
pub(super) struct TimedStream {
    pub(super) stream: TcpStream,
    /// What was read of the next request before the connection was taken apart.
    pub(super) early: Bytes,
    timer: Arc<PhaseTimer>,
    turns: Turns,
    /// How much may still be thrown away, from the last answer on.
    rest: Option<usize>,
}

impl TimedStream {
    pub(super) fn new(stream: TcpStream, timer: Arc<PhaseTimer>, turns: Turns) -> Self {
        Self { stream, early: Bytes::new(), timer, turns, rest: None }
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let length = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early.split_to(length));
            return Poll::Ready(Ok(()));
        }
        if !self.timer.is_trusted() || self.timer.unanswered() >= LARGE {
            // A connection that only waits has no turn.
            ready!(self.stream.poll_read_ready(cx))?;
            ready!(self.turns.poll_turn(cx));
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let length = buf.filled().len() - before;
        if length > 0 {
            self.timer.received(length);
        }
        if result.is_pending() {
            self.turns.end();
        }
        result
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.turns.end();
        self.timer.writes(buf.len());
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
        self.timer.written();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    // A socket that is closed with unread bytes, or that gets some afterwards, is reset, and the client's system then
    // throws away an answer that the client has not read yet. So only the writing side is closed, and what still comes
    // is read until the client closes, too.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.rest = Some(MAX_REST);
            self.timer.lingers();
        }
        let is_stopping = self.timer.is_stopping();
        let Self { stream, rest: Some(rest), .. } = &mut *self else { return Poll::Ready(Ok(())) };
        match poll_discard(stream, rest, cx) {
            Poll::Pending if !is_stopping => Poll::Pending,
            // Whether the client heard it makes no difference any more.
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// Reads and forgets until the client closes or has sent as much as `rest`.
fn poll_discard(stream: &mut TcpStream, rest: &mut usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    while *rest > 0 {
        let mut buffer = ReadBuf::uninit(&mut buffer);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        match buffer.filled().len() {
            0 => break,
            length => *rest = rest.saturating_sub(length),
        }
    }
    Poll::Ready(Ok(()))
}

/// Closes the writing side of a stream that hyper does not have, and listens until the client closes, too.
pub(super) async fn close(stream: &mut TcpStream) -> io::Result<()> {
    tokio::io::AsyncWriteExt::shutdown(stream).await?;
    let mut rest = MAX_REST;
    std::future::poll_fn(|cx| poll_discard(stream, &mut rest, cx)).await
}
