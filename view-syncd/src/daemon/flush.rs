//! The last drain before the end.

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use views_core::partition::Partition;

use super::{partition_drain::PartitionDrain, synchronizer::Synchronizer};
use crate::{
    context::{
        Context,
        backoff::{pause_after, pauses},
    },
    drain::{Drain, Drained, Urgency, batch::Batch, outbox},
    entry_id::EntryId,
    error::Failure,
    owned_session::OwnedSession,
};

/// How long the outbox may take to become empty once everything is stored that was in it at the stop: other processes
/// may go on recording.
const GRACE: Duration = Duration::from_secs(2);
/// How soon a drain that waits takes its next step.
const WAITING_PAUSE: Duration = Duration::from_millis(10);
/// How long it is tried, once everything else is stored, to store the views of posts that others have locked in PostgreSQL.
const DEFERRED_GRACE: Duration = Duration::from_secs(3);
/// How long the count of what is left may take.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);
/// Pairs that are counted; of more it is only said that they are more.
const MOST_COUNTED: usize = 100_000;

/// How the flush of one outbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flushed {
    /// Nothing is left.
    Empty,
    /// What is left was recorded since the stop.
    BeforeStop,
    /// Something is left, as the log says.
    Left,
}

/// Drains until the outboxes are empty, for ever: the caller sets the deadline. What others have locked in PostgreSQL is
/// left after a moment. Each partition is given back as soon as this is done with it.
///
/// Where others go on recording, an outbox may never be empty. Then it is enough that all that was recorded before the
/// stop is stored.
pub(crate) async fn run(synchronizer: &mut Synchronizer) -> ExitCode {
    synchronizer.drains.follow();
    let is_one_of_many = synchronizer.drains.are_many();
    let context = Arc::clone(&synchronizer.context);
    let parts = synchronizer.drains.take_all().await;
    let flushing: FuturesUnordered<_> = parts.into_iter().map(|part| flush(&context, part, is_one_of_many)).collect();
    let flushed: Vec<Flushed> = flushing.collect().await;
    // What waits for it is among the dead letters: where it is not stored now, that is done after the next start.
    let _ = synchronizer.retry_dead_letters_when_due().await;
    if flushed.contains(&Flushed::Left) {
        return ExitCode::FAILURE;
    }
    if flushed.contains(&Flushed::BeforeStop) {
        tracing::info!("all views from before the stop are stored; those that others go on recording wait for the next start");
    } else {
        tracing::info!("the outbox is empty");
    }
    ExitCode::SUCCESS
}

/// Drains one outbox until it is empty.
async fn flush(context: &Context, mut part: PartitionDrain, is_one_of_many: bool) -> Flushed {
    let name = is_one_of_many.then(|| part.drain.partition().name());
    let mut failure_pauses = pauses();
    let mut newest = None;
    let mut grace_until = None;
    let mut deferred_until = None;
    let mut told = None;
    loop {
        match step(context, &mut part.drain, &mut newest).await {
            Ok(Drained::Idle) => return Flushed::Empty,
            Ok(Drained::Stored { last, .. }) if newest.is_some_and(|newest| last >= newest) => {
                let now = Instant::now();
                if now >= *grace_until.get_or_insert(now + GRACE) {
                    if !part.drain.deferred().is_empty() {
                        return leave_deferred(&mut part.drain, name).await;
                    }
                    return Flushed::BeforeStop;
                }
            }
            Ok(Drained::Deferred(next)) => {
                let now = Instant::now();
                if now >= *deferred_until.get_or_insert(now + DEFERRED_GRACE) {
                    return leave_deferred(&mut part.drain, name).await;
                }
                tokio::time::sleep_until(next.into()).await;
            }
            Ok(drained) => {
                (failure_pauses, deferred_until) = (pauses(), None);
                // It waits for a place among the drains, which another one may have taken over.
                if let Drained::Waiting(until) = drained {
                    tokio::time::sleep_until(until.max(Instant::now() + WAITING_PAUSE).into()).await;
                }
            }
            Err(failure @ Failure::Foreign(_)) => {
                tracing::error!(partition = name, "nothing is drained, and everything stays in Redis: {failure}");
                return Flushed::Left;
            }
            Err(failure) => {
                let text = failure.to_string();
                // Of several outboxes, a node that is away has many.
                if !is_one_of_many || told.as_ref() != Some(&text) {
                    tracing::warn!(partition = name, "the outbox cannot be drained: {text}");
                    told = Some(text);
                }
                tokio::time::sleep(pause_after(&failure, &mut failure_pauses)).await;
            }
        }
    }
}

/// Says what is left because of others' locks.
async fn leave_deferred(drain: &mut Drain, partition: Option<&str>) -> Flushed {
    let (posts, why) = {
        let deferred = drain.deferred();
        let why = if deferred.first_is_full() {
            "whose counts have no room in their column"
        } else {
            "that others have locked in PostgreSQL"
        };
        (deferred.len(), why)
    };
    // Their entries may have pairs of other posts, and earlier ones of these, which are stored.
    let outbox = &mut drain.outbox;
    let mut rest = Batch::of(outbox.deferred.unacknowledged().collect(), EntryId::LAST, outbox.session.redis.number());
    let mut views = Left::default();
    let views = if views.add(&mut rest, outbox.partition, &mut outbox.session).await { views.text() } else { "views".to_owned() };
    tracing::error!(
        partition,
        posts,
        "{views} of posts {why} are left in the outbox: they stay safe in Redis until the next start"
    );
    Flushed::Left
}

async fn step(context: &Context, drain: &mut Drain, newest: &mut Option<EntryId>) -> Result<Drained, Failure> {
    if newest.is_none() {
        *newest = outbox::newest(context, drain.partition()).await?;
    }
    drain.step(Urgency::AtOnce).await
}

/// Says what could not be stored in time of these partitions.
pub(crate) async fn report_rest(context: &Arc<Context>, partitions: impl IntoIterator<Item = Partition>) {
    let (mut left, mut read, mut unread) = (Left::default(), 0, 0);
    for partition in partitions {
        let is_read = left.add(&mut Batch::default(), partition, &mut OwnedSession::new(context)).await;
        *(if is_read { &mut read } else { &mut unread }) += 1;
    }
    let text = left.text();
    match (read, unread) {
        (_, 0) => tracing::error!("{text} are left in the outbox: they stay safe in Redis until the next start"),
        (0, 2..) => tracing::error!(
            "{unread} outboxes could not be drained, nor read: what is left stays safe in Redis until the next start"
        ),
        (0, _) => {
            tracing::error!("the outbox could not be drained, nor read: what is left stays safe in Redis until the next start");
        }
        _ => tracing::error!(
            "{text} are left in {read} of the outboxes, and {unread} others could not be read: what is left stays safe in Redis until \
             the next start"
        ),
    }
}

/// What is left in outboxes.
struct Left {
    views: usize,
    entries: usize,
    until: Instant,
}

impl Default for Left {
    fn default() -> Self {
        Self { views: 0, entries: 0, until: Instant::now() + REPORT_PATIENCE }
    }
}

impl Left {
    /// Adds what is in an outbox, as far as it is asked for. Returns whether it could be read.
    async fn add(&mut self, rest: &mut Batch, partition: Partition, session: &mut OwnedSession) -> bool {
        let limit = MOST_COUNTED.saturating_sub(self.views);
        let read = tokio::time::timeout_at(self.until.into(), rest.read_on(session, partition, limit)).await;
        self.views += rest.size;
        self.entries += rest.entries.len();
        matches!(read, Ok(Ok(())))
    }

    fn text(&self) -> String {
        let at_least = if self.views < MOST_COUNTED { "" } else { "at least " };
        format!("{at_least}{} views in {} entries", self.views, self.entries)
    }
}
