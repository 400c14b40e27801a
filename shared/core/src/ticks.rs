//! Ticks for work that is done now and then.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

/// Returns an interval whose missed ticks are skipped: the first tick is due at once, and however long nobody has asked
/// for the next one, that is a single tick, after which the beat goes on as before.
///
/// By default, tokio makes up for each tick that was missed. Behind a guard that was closed for ten days, a quarter of
/// a second adds up to 3,456,000 ticks in a row.
///
/// # Panics
/// When `period` is zero.
#[must_use]
pub fn every(period: Duration) -> Interval {
    #[expect(clippy::disallowed_methods, reason = "the one place where what becomes of missed ticks is said")]
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep, timeout};

    use super::*;

    const PERIOD: Duration = Duration::from_millis(250);
    const TEN_DAYS: Duration = Duration::from_secs(10 * 24 * 3600);

    #[tokio::test(start_paused = true)]
    async fn a_guard_that_was_closed_for_days_lets_one_tick_through_and_then_the_beat() {
        let mut interval = every(PERIOD);
        let start = Instant::now();
        interval.tick().await;
        // As behind a guard of `select!`: nobody asks for a tick meanwhile.
        sleep(TEN_DAYS + PERIOD / 2).await;
        interval.tick().await;
        assert_eq!(start.elapsed(), TEN_DAYS + PERIOD / 2, "what is overdue is due at once");
        for beat in 1..=3 {
            interval.tick().await;
            assert_eq!(start.elapsed(), TEN_DAYS + beat * PERIOD);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_select_with_a_guard_ticks_as_often_as_time_has_passed_since_the_guard_opened() {
        let mut interval = every(PERIOD);
        let opened = Instant::now() + TEN_DAYS;
        let mut ticks = 0;
        let work = async {
            let mut opening = std::pin::pin!(tokio::time::sleep_until(opened));
            let mut open = false;
            loop {
                tokio::select! {
                    () = &mut opening, if !open => open = true,
                    _ = interval.tick(), if open => ticks += 1,
                }
            }
        };
        let ended = timeout(TEN_DAYS + 4 * PERIOD, work).await;
        assert!(ended.is_err());
        assert!((4..=5).contains(&ticks), "{ticks} ticks in a second");
    }
}
