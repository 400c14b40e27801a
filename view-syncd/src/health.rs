//! What is in the way of views on their way to PostgreSQL, as `/readyz` tells it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    deferred::DeferReason,
    outbox::{EntryId, now_ms},
};

/// How long a post may wait for a lock before that is told. Applications lock their rows all the time, for a moment.
const DEFERRED_PATIENCE: Duration = Duration::from_secs(3);

/// What is in the way.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

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

#[derive(Debug, Default)]
struct State {
    drain: Drain,
    /// Of the last cycle.
    cycle: Option<String>,
    /// How many posts wait for locks; since when the first of them does, and why.
    deferred: Option<(usize, Instant, DeferReason)>,
    /// The oldest entry of the outbox.
    oldest: Option<EntryId>,
}

impl Health {
    /// Returns what is in the way, if anything is, and how old the oldest entry of the outbox is.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        let state = self.state();
        let obstacle = match &state.drain {
            Drain::Unseen => return Some("starting: nothing has been drained yet".to_owned()),
            Drain::Well => None,
            Drain::Fails(obstacle) => Some(obstacle.clone()),
            Drain::OnlyDeferred => {
                Some(state.deferred(Duration::ZERO).unwrap_or_else(|| "nothing has been stored yet".to_owned()))
            }
        };
        let obstacle = obstacle.or_else(|| state.cycle.clone()).or_else(|| state.deferred(DEFERRED_PATIENCE))?;
        Some(state.with_age(obstacle))
    }

    /// What is in the way where somebody else has found it, with the age of the oldest entry.
    pub(crate) fn with_age(&self, obstacle: &str) -> String {
        self.state().with_age(obstacle.to_owned())
    }

    /// Whether the drain got on when it was last seen.
    pub(crate) fn is_healthy(&self) -> bool {
        matches!(self.state().drain, Drain::Unseen | Drain::Well)
    }

    pub(crate) fn note_drain(&self, obstacle: Option<String>) {
        self.state().drain = obstacle.map_or(Drain::Well, Drain::Fails);
    }

    /// Notes that everything in the outbox is held.
    pub(crate) fn note_only_deferred(&self) {
        let mut state = self.state();
        state.drain = match state.drain {
            Drain::Unseen | Drain::Well => Drain::Well,
            Drain::Fails(_) | Drain::OnlyDeferred => Drain::OnlyDeferred,
        };
    }

    pub(crate) fn note_cycle(&self, obstacle: Option<String>) {
        self.state().cycle = obstacle;
    }

    pub(crate) fn note_deferred(&self, posts: usize, oldest: Option<(Instant, DeferReason)>) {
        self.state().deferred = oldest.map(|(since, why)| (posts, since, why));
    }

    /// Notes the oldest entry.
    pub(crate) fn note_oldest(&self, oldest: Option<EntryId>) {
        self.state().oldest = oldest;
    }

    /// The age of the oldest entry; zero where there is none.
    pub(crate) fn oldest_age(&self) -> Duration {
        self.state().oldest.map_or(Duration::ZERO, age)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn with_age(&self, obstacle: String) -> String {
        match self.oldest.map(age) {
            Some(age) => format!("{obstacle}; the oldest entry of the outbox is {} s old", age.as_secs()),
            None => obstacle,
        }
    }

    /// What posts wait for, where the first of them has done so for longer than `patience`.
    fn deferred(&self, patience: Duration) -> Option<String> {
        let (posts, since, why) = self.deferred.filter(|(_, since, _)| since.elapsed() >= patience)?;
        let why = match why {
            DeferReason::Locked | DeferReason::PairLocked => "locks that others hold in PostgreSQL",
            DeferReason::Full => "room in the column of its count, which is full: make it a bigint",
        };
        Some(format!("views of {posts} posts wait, the first for {} s, for {why}", since.elapsed().as_secs()))
    }
}

/// The age of an entry, by the clock of Redis that is in its id and our own.
fn age(entry: EntryId) -> Duration {
    let ms = now_ms().saturating_sub(i64::try_from(entry.ms).unwrap_or(i64::MAX));
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
