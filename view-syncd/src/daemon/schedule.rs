//! When the next cycle and the next steps of the drains are due.

use std::time::{Duration, Instant};

use backon::ExponentialBackoff;

use crate::{
    context::backoff::{pause_after, pauses},
    drain::Drained,
    error::Failure,
};

/// The outbox is looked at as often as this even with a long linger: a full batch does not wait.
pub(super) const LONGEST_POLL: Duration = Duration::from_secs(1);
/// The outbox is not looked at more often than this even without any linger. Of many outboxes, each is looked at less
/// often: a look costs what it costs, whether there is anything or not.
const SHORTEST_POLL: Duration = Duration::from_millis(10);
/// So many outboxes are looked at as often as one.
const FEW_OUTBOXES: u32 = 4;
/// A cycle that failed is tried again after this time, unless the interval is shorter.
const CYCLE_RETRY: Duration = Duration::from_secs(10);

/// Returns when the next cycle is due after one that has ended now.
pub(super) fn next_cycle(is_ok: bool, interval: Duration) -> Instant {
    Instant::now() + if is_ok { interval } else { interval.min(CYCLE_RETRY) }
}

/// When the next step of one drain is due. What is in the way of one delays no other.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) due: Instant,
    pauses: ExponentialBackoff,
}

impl Schedule {
    /// Returns a schedule of a drain whose next step is due now.
    pub(super) fn starting_now() -> Self {
        Self { due: Instant::now(), pauses: pauses() }
    }

    /// Sets when the next step is due of a drain that is one of so many.
    pub(super) fn after(&mut self, drained: &Result<Drained, Failure>, linger: Duration, outboxes: usize) {
        let now = Instant::now();
        let times = u32::try_from(outboxes).unwrap_or(1).div_ceil(FEW_OUTBOXES).max(1);
        let poll = now + linger.clamp(SHORTEST_POLL * times, LONGEST_POLL);
        self.due = match drained {
            Ok(Drained::Idle) => poll,
            Ok(Drained::Waiting(until)) => poll.min(*until),
            Ok(Drained::Deferred(until)) => *until,
            Ok(Drained::Stored { .. }) => now,
            Err(failure) => now + pause_after(failure, &mut self.pauses),
        };
        // A batch that waits for more shows nothing of what was in the way of the last one.
        if !matches!(drained, Ok(Drained::Waiting(_)) | Err(_)) {
            self.pauses = pauses();
        }
    }
}
