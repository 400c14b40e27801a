//! The stream of pairs that could not be stored (`views:dead`), each with its reason and the time of its view.
//!
//! A pair whose reason may pass by itself is offered again with each cycle (see `dead/offer.rs`). All others wait for an operator, but for those
//! of posts that do not exist: of these only so many are kept.

mod read;
mod retry;

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use fred::error::Error;
use views_core::failpoints;
use views_redis::resp::{Commands, Replies, Reply};

pub(crate) use self::{read::StoredDeadLetter, retry::Selection};
use crate::engine::{Engine, refusal};

/// The reason of a pair whose post does not exist.
pub(crate) const NO_SUCH_POST: &str = "no such post";
/// The stream is not made longer than this by pairs of posts that do not exist. Clients can have as many of them as they like.
const MOST_WITHOUT_POST: i64 = 100_000;
/// Letters in one exchange.
const CHUNK: usize = 200;

/// The fields of a letter, in their order.
pub(crate) mod field {
    /// The post's id, as it was found.
    pub(crate) const POST: &str = "post";
    /// The viewer's id, as it was found.
    pub(crate) const VIEWER: &str = "viewer";
    /// Why the pair could not be stored.
    pub(crate) const REASON: &str = "reason";
    /// When the post was viewed, in milliseconds since 1970.
    pub(crate) const AT: &str = "at";
    /// There where the reason may pass by itself.
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

    /// The same of a reason that may pass.
    pub(crate) fn retryable(self) -> Self {
        Self { is_retryable: true, ..self }
    }
}

impl Engine {
    /// Adds letters to the stream. Done before their entries are deleted from the outbox: a crash in between repeats letters and loses none.
    pub(crate) async fn add_dead_letters(&mut self, mut dead_letters: Vec<DeadLetter>) -> Result<(), Error> {
        if dead_letters.is_empty() || failpoints::is_broken(failpoints::FORGET_THE_DEAD) {
            return Ok(());
        }
        let dropped = self.drop_surplus(&mut dead_letters).await?;
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        for chunk in dead_letters.chunks(CHUNK) {
            commands.clear();
            for dead_letter in chunk {
                commands.command("XADD", if dead_letter.is_retryable { 12 } else { 10 }).text(self.keys.dead()).text("*");
                commands.text(field::POST).blob(&dead_letter.post).text(field::VIEWER).blob(&dead_letter.viewer);
                commands.text(field::REASON).text(&dead_letter.reason).text(field::AT).number(dead_letter.at_ms);
                if dead_letter.is_retryable {
                    commands.text(field::RETRY).text("1");
                }
            }
            self.line.exchange(&commands, &mut replies).await?;
            if let Some(other) = replies.iter().find(|reply| !matches!(reply, Reply::Text(_))) {
                return Err(refusal(Some(other)));
            }
            self.progress.made();
        }
        failpoints::at("bury::after");
        self.tell(&dead_letters, dropped);
        Ok(())
    }

    /// Takes out letters of posts that do not exist where there is no more room for them. Returns how many.
    async fn drop_surplus(&mut self, dead_letters: &mut Vec<DeadLetter>) -> Result<usize, Error> {
        if dead_letters.iter().all(|dead_letter| dead_letter.reason != NO_SUCH_POST) {
            return Ok(0);
        }
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        commands.command("XLEN", 1).text(self.keys.dead());
        self.line.exchange(&commands, &mut replies).await?;
        let length = match replies.iter().next() {
            Some(Reply::Integer(length)) => length,
            other => return Err(refusal(other)),
        };
        let mut room = usize::try_from(MOST_WITHOUT_POST - length).unwrap_or(0);
        let before = dead_letters.len();
        dead_letters.retain(|dead_letter| {
            let has_room = dead_letter.reason != NO_SUCH_POST || room > 0;
            room = room.saturating_sub(usize::from(dead_letter.reason == NO_SUCH_POST));
            has_room
        });
        Ok(before - dead_letters.len())
    }

    /// One line for all letters of one reason, and each of them for those who look closely.
    fn tell(&self, dead_letters: &[DeadLetter], dropped: usize) {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for dead_letter in dead_letters {
            *reasons.entry(&dead_letter.reason).or_default() += 1;
            tracing::debug!(post = ?dead_letter.post, viewer = ?dead_letter.viewer, reason = &*dead_letter.reason, "a pair could not be stored");
        }
        let gone = reasons.get(NO_SUCH_POST).copied().unwrap_or(0);
        self.metrics.dead.inc_by((dead_letters.len() - gone) as u64);
        for (reason, pairs) in reasons {
            tracing::warn!(pairs, reason, "pairs that could not be stored are kept in {}", self.keys.dead());
        }
        if dropped > 0 {
            self.metrics.dropped.inc_by(dropped as u64);
            tracing::warn!(
                pairs = dropped,
                "pairs of posts that do not exist are dropped: {} has {MOST_WITHOUT_POST} already",
                self.keys.dead()
            );
        }
    }
}
