//! The stream of pairs that PostgreSQL can never take, each with its reason. Nothing reads it but operators.

use bytes::Bytes;
use fred::{error::Error, interfaces::StreamsInterface, types::Value};
use shared::{ids::PostId, redis};

use crate::engine::Engine;

/// Letters in one pipeline.
const CHUNK: usize = 500;

/// A pair as it was found, and why it cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    pub(crate) post: Bytes,
    pub(crate) viewer: Bytes,
    pub(crate) reason: String,
}

impl DeadLetter {
    pub(crate) fn new(post: &PostId, viewer: &str, reason: impl Into<String>) -> Self {
        Self::of_bytes(post.as_str().as_bytes(), viewer.as_bytes(), reason)
    }

    pub(crate) fn of_bytes(post: &[u8], viewer: &[u8], reason: impl Into<String>) -> Self {
        Self { post: Bytes::copy_from_slice(post), viewer: Bytes::copy_from_slice(viewer), reason: reason.into() }
    }
}

impl Engine {
    /// Adds the letters to the stream. Done before their entries are deleted from the outbox: a crash in between repeats letters and
    /// loses none.
    pub(crate) async fn bury(&self, letters: &[DeadLetter]) -> Result<(), Error> {
        for chunk in letters.chunks(CHUNK) {
            let pipeline = self.redis.pipeline();
            for letter in chunk {
                let fields: Vec<(&str, Value)> = vec![
                    ("post", letter.post.clone().into()),
                    ("viewer", letter.viewer.clone().into()),
                    ("reason", letter.reason.as_str().into()),
                ];
                let () = pipeline.xadd(self.keys.dead(), false, None, "*", fields).await?;
            }
            redis::send::<Value>(&self.redis, &pipeline).await.into_iter().try_for_each(|reply| reply.map(drop))?;
        }
        if let Some(first) = letters.first() {
            self.metrics.dead.inc_by(letters.len() as u64);
            tracing::warn!(
                pairs = letters.len(),
                reason = first.reason,
                "pairs that PostgreSQL can never take are kept in {}",
                self.keys.dead()
            );
        }
        Ok(())
    }
}
