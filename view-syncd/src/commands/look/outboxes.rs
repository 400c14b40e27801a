//! What is in the outboxes, of each partition.

use std::time::Duration;

use views_core::partition::Partition;
use views_redis::{
    RedisError,
    resp::{Commands, Replies, Reply},
};

use super::Look;
use crate::{entry_id::EntryId, error::refusal};

/// What is in an outbox.
pub(crate) struct SeenOutbox {
    pub(crate) partition: Partition,
    pub(crate) entries: u64,
    /// The first entry.
    pub(crate) oldest: Option<EntryId>,
}

/// What is in all outboxes.
pub(crate) struct SeenOutboxes {
    pub(crate) outboxes: Vec<SeenOutbox>,
    /// How many of several cannot be read, and why the first of them.
    pub(crate) unread: Option<(usize, RedisError)>,
}

impl SeenOutboxes {
    /// Returns how many entries all of them have.
    pub(crate) fn entries(&self) -> u64 {
        self.outboxes.iter().map(|outbox| outbox.entries).sum()
    }

    /// Returns the oldest entry of all.
    pub(crate) fn oldest(&self) -> Option<EntryId> {
        self.outboxes.iter().filter_map(|outbox| outbox.oldest).min()
    }

    /// Returns how old that is.
    pub(crate) fn age(&self, look: &Look) -> Duration {
        self.oldest().map(|oldest| look.age(oldest)).unwrap_or_default()
    }
}

/// Looks at all outboxes.
///
/// # Errors
/// [`RedisError`]: none can be read.
pub(crate) async fn measure(look: &mut Look) -> Result<SeenOutboxes, RedisError> {
    let keys = look.context.keys.clone();
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for partition in keys.drained_partitions() {
        let outbox = keys.outbox_of(partition);
        commands.command("XLEN", 1).text(outbox);
        commands.command("XRANGE", 5).text(outbox).text("-").text("+").text("COUNT").number(1);
    }
    look.session.exchange(&commands, &mut replies).await?;
    let mut all = replies.iter();
    let (mut outboxes, mut unread) = (Vec::new(), Vec::new());
    for partition in keys.drained_partitions() {
        match (all.next(), all.next()) {
            (Some(Reply::Integer(entries)), Some(Reply::List(page))) => {
                let first =
                    page.iter().next().and_then(|entry| if let Reply::List(entry) = entry { entry.iter().next() } else { None });
                let oldest = first.and_then(Reply::text).and_then(|id| id.parse().ok());
                outboxes.push(SeenOutbox { partition, entries: entries.unsigned_abs(), oldest });
            }
            (length, first) => unread.push(refusal(length.filter(|reply| matches!(reply, Reply::Error(_))).or(first))),
        }
    }
    let number = unread.len();
    match unread.into_iter().next() {
        Some(error) if outboxes.is_empty() => Err(error),
        error => Ok(SeenOutboxes { outboxes, unread: error.map(|error| (number, error)) }),
    }
}
