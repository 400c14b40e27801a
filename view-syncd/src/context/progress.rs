//! When the work last took a step, for the watchdog and for `/readyz`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// When the work last took a step.
#[derive(Debug, Clone)]
pub struct Progress {
    started: Instant,
    last_step_ms: Arc<AtomicU64>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { started: Instant::now(), last_step_ms: Arc::default() }
    }
}

impl Progress {
    /// Notes that a step has been taken.
    pub fn made(&self) {
        self.last_step_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Returns how long the step takes already that is being taken.
    pub(crate) fn age(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.last_step_ms.load(Ordering::Relaxed)))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
