//! Reading a request's body: JSON, of bounded size, in bounded time. It may be called plain text: that is what browsers
//! send without asking first, and while a page is being closed they cannot ask.

use std::{pin::pin, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::{
    Request,
    body::{Body, Frame, Incoming},
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

use crate::http::phase_timer::PhaseTimer;

/// The largest body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// How much of a body that nobody has read is thrown away, in bytes, for the connection to be used again. To close a
/// connection costs a stranger more than to send the rest of a body.
const MAX_DRAINED: usize = 8 * 1024;

/// A request's body, which comes in while the request is looked at.
pub(crate) struct Upload<'a> {
    incoming: Incoming,
    timer: &'a PhaseTimer,
    has_ended: bool,
}

impl<'a> Upload<'a> {
    pub(crate) fn new(incoming: Incoming, timer: &'a PhaseTimer) -> Self {
        Self { incoming, timer, has_ended: false }
    }

    /// Returns the timer of the connection.
    pub(crate) fn timer(&self) -> &'a PhaseTimer {
        self.timer
    }

    /// Returns the next part, or `None` at the end.
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        let frame = self.incoming.frame().await;
        self.has_ended = frame.is_none() || self.incoming.is_end_stream();
        frame
    }

    /// Returns whether the whole body has come, so that another request can follow. What of it nobody has read is
    /// thrown away, without waiting for more: the answer is there, and the client may wait for it before it sends the
    /// rest.
    pub(crate) async fn is_whole(&mut self) -> bool {
        let mut thrown_away = 0;
        while !self.has_ended && !self.incoming.is_end_stream() {
            let mut frame = self.next().now_or_never();
            if frame.is_none() && thrown_away > 0 {
                // hyper hands over one part at a time. Before the first one it is not asked for more: it would tell a
                // client that expects to be told to go on.
                tokio::task::yield_now().await;
                frame = self.next().now_or_never();
            }
            match frame {
                Some(Some(Ok(frame))) if thrown_away <= MAX_DRAINED => thrown_away += frame.data_ref().map_or(1, Bytes::len),
                Some(None) => return true,
                _ => return false,
            }
        }
        true
    }
}

/// Reads the whole body of a request that must be JSON, within a time.
///
/// # Errors
/// [`BodyError`]: what is left of the body is not read.
pub(crate) async fn read_json(request: &mut Request<&mut Upload<'_>>, limit: Duration) -> Result<Bytes, BodyError> {
    if !announces_json(request) {
        return Err(BodyError::NotJson);
    }
    if is_encoded(request) {
        return Err(BodyError::Encoded);
    }
    let upload: &mut Upload<'_> = request.body_mut();
    if upload.incoming.size_hint().lower() > MAX_BODY as u64 {
        return Err(BodyError::TooLarge);
    }
    let timer = upload.timer;
    let mut body = pin!(collect(upload));
    // Nearly always the body has come with the head, and needs no timer.
    if let Some(read) = body.as_mut().now_or_never() {
        return read;
    }
    timer.awaits_body();
    let read = tokio::time::timeout(limit, body).await;
    timer.has_body();
    read.unwrap_or(Err(BodyError::TooSlow))
}

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It is not announced as JSON.
    NotJson,
    /// It is compressed, or otherwise not what it says it is.
    Encoded,
    /// It is larger than a body may be.
    TooLarge,
    /// It did not arrive whole.
    Lost,
    /// It did not arrive in time.
    TooSlow,
}

/// Reads a body to its end. One that has come in one piece, as nearly all do, is not copied.
async fn collect(body: &mut Upload<'_>) -> Result<Bytes, BodyError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.next().await {
        // What is no data are trailers, which nobody asked for.
        let Ok(data) = frame.map_err(|_| BodyError::Lost)?.into_data() else { continue };
        if whole.len() + data.len() > MAX_BODY {
            return Err(BodyError::TooLarge);
        }
        if whole.is_empty() {
            if body.has_ended {
                return Ok(data);
            }
            // As large as is announced, where the buffer would grow to twice the size by itself.
            let rest = usize::try_from(body.incoming.size_hint().lower()).unwrap_or(MAX_BODY);
            whole.reserve((data.len() + rest).min(MAX_BODY));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

fn announces_json<B>(request: &Request<B>) -> bool {
    let Some(value) = request.headers().get(CONTENT_TYPE) else { return false };
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let suffix = essence.len().checked_sub(b"+json".len()).and_then(|start| essence.get(start..));
    essence.eq_ignore_ascii_case(b"application/json")
        || essence.eq_ignore_ascii_case(b"text/plain")
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"))
            && essence.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"application/"))
}

/// Returns whether the body is compressed, or otherwise not what it says it is.
fn is_encoded<B>(request: &Request<B>) -> bool {
    let codings =
        request.headers().get_all(CONTENT_ENCODING).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    codings.map(<[u8]>::trim_ascii).any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}
