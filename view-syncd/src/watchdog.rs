//! Tells systemd's watchdog that the work goes on, and falls silent when it does not.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use views_core::ticks;
use views_service::notify;

/// No single step takes longer: a statement may wait for a connection and then run into its own time limit, a command in Redis has a far
/// shorter one.
const LONGEST_STEP: Duration = Duration::from_secs(120);

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
    /// A step has been taken.
    pub fn made(&self) {
        self.last_step_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// How long the step takes already that is being taken.
    pub(crate) fn age(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.last_step_ms.load(Ordering::Relaxed)))
    }

    fn is_recent(&self) -> bool {
        self.age() < LONGEST_STEP
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Does the work and, in the same task, keeps the watchdog content as long as the work makes progress.
///
/// A statement may well take longer than the watchdog's interval; a task that hangs, or one step that never ends, is what it is to notice.
pub async fn while_working<T>(progress: &Progress, work: impl Future<Output = T>) -> T {
    let Some(interval) = notify::watchdog_interval() else { return work.await };
    let mut tick = ticks::every(interval);
    let mut work = pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = tick.tick() => {
                if progress.is_recent() {
                    notify::alive();
                }
            }
        }
    }
}
