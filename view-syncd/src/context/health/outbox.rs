//! What is in the way of one outbox.

use std::time::{Duration, Instant};

use views_core::{log_names, partition::Partition};

use crate::entry_id::EntryId;

/// How long a post may wait for a lock before that is told. Applications lock their rows all the time, for a moment.
const DEFERRED_PATIENCE: Duration = Duration::from_secs(3);

/// How the last step of the drain ended that could tell.
#[derive(Debug, Default)]
enum Drain {
    /// There was none yet.
    #[default]
    Unseen,
    /// It got on, or had nothing to do.
    Well,
    /// This is in the way.
    Fails(String),
    /// What was in the way is so no more, but everything waits for locks: nothing has shown that it is well again.
    OnlyDeferred,
}

/// Posts whose views wait in the outbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeferredSummary {
    pub(crate) posts: usize,
    /// Since when the first of them waits.
    pub(crate) since: Instant,
    /// What it waits for.
    pub(crate) waits_for: &'static str,
}

/// How an outbox is, by the state that `/readyz?verbose` tells and what is in the way.
pub(super) enum Seen {
    Unseen,
    Well,
    /// Posts wait for locks: what they wait for, where that is known.
    Waiting(Option<String>),
    Fails(String),
}

/// What is known of one outbox.
#[derive(Debug, Default)]
pub(super) struct OutboxHealth {
    drain: Drain,
    pub(super) deferred: Option<DeferredSummary>,
    /// Whether the log has that they wait.
    is_told: bool,
    pub(super) entries: i64,
    /// The oldest entry.
    pub(super) oldest: Option<EntryId>,
}

impl OutboxHealth {
    /// Returns how it is.
    pub(super) fn seen(&self) -> Seen {
        match &self.drain {
            Drain::Unseen => Seen::Unseen,
            Drain::Fails(obstacle) => Seen::Fails(obstacle.clone()),
            Drain::OnlyDeferred => Seen::Waiting(self.waiting(Duration::ZERO)),
            Drain::Well => self.waiting(DEFERRED_PATIENCE).map_or(Seen::Well, |waiting| Seen::Waiting(Some(waiting))),
        }
    }

    /// Returns whether its drain got on when it was last seen.
    pub(super) fn is_healthy(&self) -> bool {
        matches!(self.drain, Drain::Unseen | Drain::Well)
    }

    /// Notes how a step of its drain ended that could tell. Returns whether it gets on again.
    pub(super) fn note_drain(&mut self, obstacle: Option<String>) -> bool {
        let now = obstacle.map_or(Drain::Well, Drain::Fails);
        let is_well = matches!(now, Drain::Well);
        let before = std::mem::replace(&mut self.drain, now);
        is_well && matches!(before, Drain::Fails(_) | Drain::OnlyDeferred)
    }

    /// Notes that everything in it is deferred.
    pub(super) fn note_only_deferred(&mut self) {
        self.drain = match self.drain {
            Drain::Unseen | Drain::Well => Drain::Well,
            Drain::Fails(_) | Drain::OnlyDeferred => Drain::OnlyDeferred,
        };
    }

    /// Notes which posts wait, and logs when they begin to wait for longer than a moment, and when none does any more.
    /// `partition` is one of many.
    pub(super) fn note_deferred(&mut self, partition: Option<Partition>, deferred: Option<DeferredSummary>) {
        self.deferred = deferred;
        let partition = partition.map(Partition::name);
        match deferred {
            Some(DeferredSummary { posts, since, waits_for }) if !self.is_told && since.elapsed() >= DEFERRED_PATIENCE => {
                self.is_told = true;
                tracing::warn!(name: log_names::STATE, partition, posts, "views wait for {waits_for}");
            }
            None if std::mem::take(&mut self.is_told) => tracing::info!(partition, "no views wait for others any more"),
            _ => {}
        }
    }

    /// Returns what posts wait for, where the first of them has done so for longer than `patience`.
    fn waiting(&self, patience: Duration) -> Option<String> {
        let DeferredSummary { posts, since, waits_for } =
            self.deferred.filter(|deferred| deferred.since.elapsed() >= patience)?;
        Some(format!("views of {posts} posts wait, the first for {} s, for {waits_for}", since.elapsed().as_secs()))
    }
}
