//! How long Redis keeps a post that nobody views.

use std::time::Duration;

/// A time to live in Redis, in the whole seconds that `EXPIRE` takes. At least one: a key with less would be gone at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl(i64);

impl Ttl {
    /// The shortest time to live.
    pub const LEAST: Duration = Duration::from_secs(1);

    /// Returns a time to live, without what it has beyond whole seconds.
    #[must_use]
    pub const fn new(time: Duration) -> Self {
        let seconds = time.as_secs().cast_signed();
        // What does not fit is more than Redis can keep anything.
        Self(match seconds {
            1.. => seconds,
            0 => 1,
            _ => i64::MAX,
        })
    }

    /// Returns the whole seconds.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_is_whole_seconds_and_never_none() {
        for (ms, seconds) in [(86_400_000, 86_400), (1_999, 1), (999, 1), (0, 1)] {
            assert_eq!(Ttl::new(Duration::from_millis(ms)).seconds(), seconds, "{ms} ms");
        }
        assert_eq!(Ttl::new(Duration::MAX).seconds(), i64::MAX);
    }
}
