//! What time it is, for those who ask very often.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

/// A clock of the process that is read without asking the system, and as exact as it is swept.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    now_ms: AtomicU64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), now_ms: AtomicU64::new(0) }
    }

    /// Brings the clock up to date.
    pub(crate) fn tick(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Two threads may do this at once, and time goes only forwards.
        self.now_ms.fetch_max(now, Relaxed);
    }

    /// Returns the milliseconds since the start, as of the last tick.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms.load(Relaxed)
    }

    /// Sets the time.
    #[cfg(test)]
    pub(super) fn set_ms(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Relaxed);
    }
}
