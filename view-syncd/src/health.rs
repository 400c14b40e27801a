//! What is in the way of views on their way to PostgreSQL, as `/readyz` tells it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    held::Why,
    outbox::{EntryId, now_ms},
};

/// How long a post may wait for a lock before that is told. Applications lock their rows all the time, for a moment.
const HELD_PATIENCE: Duration = Duration::from_secs(3);

/// What is in the way.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Of the last step of the drain that could tell.
    drain: Option<String>,
    /// Of the last cycle.
    cycle: Option<String>,
    /// How many posts wait for locks; since when the first of them does, and why.
    held: Option<(usize, Instant, Why)>,
    /// The oldest entry of the outbox.
    oldest: Option<EntryId>,
}

impl Health {
    /// Returns what is in the way, if anything is, and how old the oldest entry of the outbox is.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        let state = self.state();
        let held = || {
            let (posts, since, why) = state.held.filter(|(_, since, _)| since.elapsed() >= HELD_PATIENCE)?;
            let why = match why {
                Why::Locked | Why::PairLocked => "locks that others hold in PostgreSQL",
                Why::Full => "room in the column of its count, which is full: make it a bigint",
            };
            Some(format!("views of {posts} posts wait, the first for {} s, for {why}", since.elapsed().as_secs()))
        };
        let obstacle = state.drain.clone().or_else(|| state.cycle.clone()).or_else(held)?;
        Some(match state.oldest.map(age) {
            Some(age) => format!("{obstacle}; the oldest entry of the outbox is {} s old", age.as_secs()),
            None => obstacle,
        })
    }

    /// Whether the drain got on when it was last seen.
    pub(crate) fn is_well(&self) -> bool {
        self.state().drain.is_none()
    }

    pub(crate) fn note_drain(&self, obstacle: Option<String>) {
        self.state().drain = obstacle;
    }

    pub(crate) fn note_cycle(&self, obstacle: Option<String>) {
        self.state().cycle = obstacle;
    }

    pub(crate) fn note_held(&self, posts: usize, oldest: Option<(Instant, Why)>) {
        self.state().held = oldest.map(|(since, why)| (posts, since, why));
    }

    /// Notes the oldest entry, and returns how old it is.
    pub(crate) fn note_oldest(&self, oldest: Option<EntryId>) -> Option<Duration> {
        self.state().oldest = oldest;
        oldest.map(age)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The age of an entry, by the clock of Redis that is in its id and our own.
fn age(entry: EntryId) -> Duration {
    let ms = now_ms().saturating_sub(i64::try_from(entry.ms).unwrap_or(i64::MAX));
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
