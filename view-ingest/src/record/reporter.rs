//! Logging of what a store did not do. An outage makes every batch fail, many times a second.

use std::{
    fmt::Display,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Reports that follow the last one within this time are logged for those who look closely only.
const INTERVAL: Duration = Duration::from_secs(1);

/// Logs failures, of which only one in a while is a warning.
#[derive(Debug)]
pub(crate) struct Reporter {
    started: Instant,
    /// When a warning was last logged, in milliseconds since the start; zero where none was.
    warned_ms: AtomicU64,
}

impl Default for Reporter {
    fn default() -> Self {
        Self { started: Instant::now(), warned_ms: AtomicU64::new(0) }
    }
}

impl Reporter {
    /// Logs what a store did not do.
    pub(super) fn report(&self, what: &str, error: &dyn Display) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let last_ms = self.warned_ms.load(Relaxed);
        if last_ms == 0 || u128::from(now_ms.saturating_sub(last_ms)) >= INTERVAL.as_millis() {
            self.warned_ms.store(now_ms, Relaxed);
            tracing::warn!(%error, "{what}");
        } else {
            tracing::debug!(%error, "{what}");
        }
    }
}
