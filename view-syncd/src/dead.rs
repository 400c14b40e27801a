//! The stream of pairs that could not be stored (`views:dead`), each with its reason and the time of its view.
//!
//! A pair whose reason may pass by itself is offered again with each cycle (see `dead/offer.rs`). All others wait for an operator, but for those
//! of posts that do not exist: of these only so many are kept.

mod offer;
mod read;

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use fred::error::Error;
use views_core::failpoints;
use views_redis::resp::{Commands, Replies, Reply};

pub(crate) use self::{offer::Selection, read::Letter};
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
    pub(crate) may_pass: bool,
}

impl DeadLetter {
    pub(crate) fn new(post: &[u8], viewer: &[u8], reason: impl Into<Cow<'static, str>>, at_ms: i64) -> Self {
        let (post, viewer) = (Bytes::copy_from_slice(post), Bytes::copy_from_slice(viewer));
        Self { post, viewer, reason: reason.into(), at_ms, may_pass: false }
    }

    /// The same of a reason that may pass.
    pub(crate) fn that_may_pass(self) -> Self {
        Self { may_pass: true, ..self }
    }
}

impl Engine {
    /// Adds letters to the stream. Done before their entries are deleted from the outbox: a crash in between repeats letters and loses none.
    pub(crate) async fn bury(&mut self, mut letters: Vec<DeadLetter>) -> Result<(), Error> {
        if letters.is_empty() || failpoints::is_broken(failpoints::FORGET_THE_DEAD) {
            return Ok(());
        }
        let dropped = self.leave_out_surplus(&mut letters).await?;
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        for chunk in letters.chunks(CHUNK) {
            commands.clear();
            for letter in chunk {
                commands.command("XADD", if letter.may_pass { 12 } else { 10 }).text(self.keys.dead()).text("*");
                commands.text(field::POST).blob(&letter.post).text(field::VIEWER).blob(&letter.viewer);
                commands.text(field::REASON).text(&letter.reason).text(field::AT).number(letter.at_ms);
                if letter.may_pass {
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
        self.tell(&letters, dropped);
        Ok(())
    }

    /// Takes out letters of posts that do not exist where there is no more room for them. Returns how many.
    async fn leave_out_surplus(&mut self, letters: &mut Vec<DeadLetter>) -> Result<usize, Error> {
        if letters.iter().all(|letter| letter.reason != NO_SUCH_POST) {
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
        let before = letters.len();
        letters.retain(|letter| {
            let has_room = letter.reason != NO_SUCH_POST || room > 0;
            room = room.saturating_sub(usize::from(letter.reason == NO_SUCH_POST));
            has_room
        });
        Ok(before - letters.len())
    }

    /// One line for all letters of one reason, and each of them for those who look closely.
    fn tell(&self, letters: &[DeadLetter], dropped: usize) {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for letter in letters {
            *reasons.entry(&letter.reason).or_default() += 1;
            tracing::debug!(post = ?letter.post, viewer = ?letter.viewer, reason = &*letter.reason, "a pair could not be stored");
        }
        let gone = reasons.get(NO_SUCH_POST).copied().unwrap_or(0);
        self.metrics.dead.inc_by((letters.len() - gone) as u64);
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
