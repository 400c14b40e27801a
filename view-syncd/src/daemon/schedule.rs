//! When the next cycle and the next step of the drain are due.

use std::time::{Duration, Instant};

use backon::ExponentialBackoff;

use crate::{
    context::backoff::{pause_after, pauses},
    drain::Drained,
    error::Failure,
};

/// The outbox is looked at as often as this even with a long linger: a full batch does not wait.
pub(super) const LONGEST_POLL: Duration = Duration::from_secs(1);
/// The outbox is not looked at more often than this even without any linger.
const SHORTEST_POLL: Duration = Duration::from_millis(10);
/// A cycle that failed is tried again after this time, unless the interval is shorter.
const CYCLE_RETRY: Duration = Duration::from_secs(10);

/// When the next things are due.
pub(super) struct Schedule {
    pub(super) cycle: Instant,
    pub(super) drain: Instant,
    pauses: ExponentialBackoff,
}

impl Schedule {
    /// Returns a schedule of which everything is due now.
    pub(super) fn starting_now() -> Self {
        let now = Instant::now();
        Self { cycle: now, drain: now, pauses: pauses() }
    }

    /// Sets when the next cycle is due.
    pub(super) fn after_cycle(&mut self, is_ok: bool, interval: Duration) {
        self.cycle = Instant::now() + if is_ok { interval } else { interval.min(CYCLE_RETRY) };
    }

    /// Sets when the next step of the drain is due.
    pub(super) fn after_drain(&mut self, drained: &Result<Drained, Failure>, linger: Duration) {
        let now = Instant::now();
        let poll = now + linger.clamp(SHORTEST_POLL, LONGEST_POLL);
        self.drain = match drained {
            Ok(Drained::Idle) => poll,
            Ok(Drained::Waiting(until)) => poll.min(*until),
            Ok(Drained::Deferred(until)) => *until,
            Ok(Drained::Stored { .. }) => now,
            Err(failure) => {
                let pause = pause_after(failure, &mut self.pauses);
                tracing::warn!("the outbox cannot be drained: {failure}");
                now + pause
            }
        };
        // A batch that waits for more shows nothing of what was in the way of the last one.
        if !matches!(drained, Ok(Drained::Waiting(_)) | Err(_)) {
            self.pauses = pauses();
        }
    }
}
