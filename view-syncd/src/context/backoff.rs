//! Pauses after failures.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use views_postgres::DatabaseError;

use crate::error::Failure;

/// The first pause after a failure, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause; jitter may double it, so that many daemons do not come back all at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause where somebody has locked a whole table.
const LONGEST_LOCK_PAUSE: Duration = Duration::from_secs(1);

/// Returns pauses after failures: capped, with jitter, without an end.
pub(crate) fn pauses() -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE);
    builder.without_max_times().with_jitter().build()
}

/// Returns the next pause after a failure of the drain. A lock is gone without anybody's telling, and to ask for it
/// costs next to nothing.
pub(crate) fn pause_after(failure: &Failure, pauses: &mut ExponentialBackoff) -> Duration {
    let pause = next_pause(pauses);
    if matches!(failure, Failure::Database(DatabaseError::Locked(_))) { pause.min(LONGEST_LOCK_PAUSE) } else { pause }
}

/// Returns the next pause; they never end.
pub(crate) fn next_pause(pauses: &mut ExponentialBackoff) -> Duration {
    pauses.next().unwrap_or(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_never_end() {
        let pauses: Vec<Duration> = pauses().take(100).collect();
        assert_eq!(pauses.len(), 100);
        assert!(pauses.iter().all(|pause| *pause <= 2 * LONGEST_PAUSE));
        assert!(pauses[99] >= LONGEST_PAUSE);
    }
}
