//! A pair that could not be stored, with its reason and the time of its view.

use std::borrow::Cow;

use bytes::Bytes;

/// The reason of a pair whose post does not exist.
pub(crate) const NO_SUCH_POST: &str = "no such post";

/// The fields of a dead letter in the stream, in their order.
pub(crate) mod field {
    /// The post's id, as it was found.
    pub(crate) const POST: &str = "post";
    /// The viewer's id, as it was found.
    pub(crate) const VIEWER: &str = "viewer";
    /// Why the pair could not be stored.
    pub(crate) const REASON: &str = "reason";
    /// When the post was viewed, in milliseconds since 1970.
    pub(crate) const AT: &str = "at";
    /// Set where the reason may pass by itself.
    pub(crate) const RETRY: &str = "retry";
}

/// A pair as it was found, and why it cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    pub(crate) post: Bytes,
    pub(crate) viewer: Bytes,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) at_ms: i64,
    /// Whether the reason may pass by itself.
    pub(crate) is_retryable: bool,
}

impl DeadLetter {
    pub(crate) fn new(post: &[u8], viewer: &[u8], reason: impl Into<Cow<'static, str>>, at_ms: i64) -> Self {
        let (post, viewer) = (Bytes::copy_from_slice(post), Bytes::copy_from_slice(viewer));
        Self { post, viewer, reason: reason.into(), at_ms, is_retryable: false }
    }

    /// Returns the same pair, to be retried: its reason may pass by itself.
    pub(crate) fn retryable(self) -> Self {
        Self { is_retryable: true, ..self }
    }
}
