//! What all drains of the process and its reconciler have in common.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{insert::Inserter, publish::Publisher};
use crate::context::Context;

/// How soon dead letters are retried for which a lock was in the way.
const SOON: Duration = Duration::from_secs(5);

/// What all drains of the process and its reconciler have in common. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// All learn together how many pairs the server manages in one statement.
    pub(crate) inserter: Inserter,
    pub(crate) publisher: Publisher,
    pub(crate) dead_letter_timer: RetryTimer,
}

/// When dead letters are retried before the next cycle, because locks were in the way of some. There is one stream of
/// them for all outboxes.
#[derive(Debug, Clone, Default)]
pub(crate) struct RetryTimer(Arc<Mutex<Option<Instant>>>);

impl Shared {
    pub(crate) fn new(context: &Context) -> Self {
        let inserter = Inserter::new(Arc::clone(&context.database), context.progress.clone());
        Self { inserter, publisher: Publisher::default(), dead_letter_timer: RetryTimer::default() }
    }
}

impl RetryTimer {
    /// Has dead letters retried before the next cycle.
    pub(crate) fn start(&self) {
        self.at().get_or_insert_with(|| Instant::now() + SOON);
    }

    /// Returns whether they are to be retried now.
    pub(crate) fn is_due(&self) -> bool {
        self.at().is_some_and(|at| Instant::now() >= at)
    }

    /// Notes that they are being retried.
    pub(crate) fn stop(&self) {
        *self.at() = None;
    }

    fn at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
