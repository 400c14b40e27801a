//! The scan's throttle: it rests as long as it works, so that a scan of a million posts leaves the stores and the
//! processors to the views.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// Work after which it is time for a rest. No shorter, as timers tick in milliseconds, and the scan would only rest.
const SPELL: Duration = Duration::from_micros(500);
/// How long a rest is, against the work before it.
const REST_PER_WORK: f64 = 1.0;
/// The longest rest: after a store that was slow for once, say.
const LONGEST_REST: Duration = Duration::from_millis(50);

/// Since when there has been no rest.
#[derive(Debug)]
pub(crate) struct Throttle(Instant);

impl Throttle {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// Rests, when it is time. A scan of a few posts is over before.
    pub(crate) async fn rest(&mut self) {
        if let Some(rest) = rest_after(self.0.elapsed()) {
            sleep(rest).await;
            self.restart();
        }
    }

    /// Notes that what has been done until now was not the scan's work.
    pub(crate) fn restart(&mut self) {
        self.0 = Instant::now();
    }
}

fn rest_after(work: Duration) -> Option<Duration> {
    (work >= SPELL).then(|| work.mul_f64(REST_PER_WORK).min(LONGEST_REST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_in_proportion_to_the_work_and_has_an_end() {
        assert_eq!(rest_after(SPELL / 2), None);
        assert_eq!(rest_after(SPELL * 2), Some((SPELL * 2).mul_f64(REST_PER_WORK)));
        assert_eq!(rest_after(Duration::from_secs(60)), Some(LONGEST_REST));
    }
}
