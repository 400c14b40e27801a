//! How many posts that nobody could look up are accepted, while PostgreSQL is away: anybody with a token can make ids
//! up, and each of them takes memory in Redis until PostgreSQL is there to say that there is no such post.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How long no look-up must have failed before the budget begins anew. Of a PostgreSQL that answers now and then, each
/// answer would give out a whole one.
const RESET_AFTER: Duration = Duration::from_secs(1);

/// The budget of a process, shared by its recorders.
#[derive(Debug, Clone)]
pub(crate) struct UnverifiedPosts(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    limit: usize,
    taken: AtomicUsize,
    /// Whether it has been said that it is used up.
    is_told: AtomicBool,
    started: Instant,
    /// When a look-up last failed, in milliseconds since the start.
    failed_ms: AtomicU64,
}

impl UnverifiedPosts {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Budget {
            limit,
            taken: AtomicUsize::new(0),
            is_told: AtomicBool::new(false),
            started: Instant::now(),
            failed_ms: AtomicU64::new(0),
        }))
    }

    /// Returns whether one more post may be accepted.
    pub(super) fn take(&self) -> bool {
        let Budget { limit, taken, is_told, .. } = &*self.0;
        let has_room = taken.fetch_update(Relaxed, Relaxed, |taken| (taken < *limit).then_some(taken + 1)).is_ok();
        if !has_room && !is_told.swap(true, Relaxed) {
            tracing::warn!(
                posts = limit,
                "as many posts as may be were accepted unseen: views of others are refused until PostgreSQL is back"
            );
        }
        has_room
    }

    /// Returns how many posts have been accepted since the budget last began.
    pub(crate) fn taken(&self) -> usize {
        self.0.taken.load(Relaxed)
    }

    /// Notes that PostgreSQL did not answer a look-up.
    pub(super) fn failed(&self) {
        self.failed_at(self.0.started.elapsed());
    }

    /// Notes that PostgreSQL has answered a look-up. The budget begins anew once it has done so for a while.
    pub(super) fn answered(&self) {
        // Mostly it is zero and stays so, and all recorders share it.
        if self.0.taken.load(Relaxed) != 0 {
            self.answered_at(self.0.started.elapsed());
        }
    }

    fn failed_at(&self, now: Duration) {
        self.0.failed_ms.store(milliseconds(now), Relaxed);
    }

    fn answered_at(&self, now: Duration) {
        let Budget { taken, is_told, failed_ms, .. } = &*self.0;
        if milliseconds(now).saturating_sub(failed_ms.load(Relaxed)) >= milliseconds(RESET_AFTER) {
            taken.store(0, Relaxed);
            is_told.store(false, Relaxed);
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_posts_as_the_budget_are_accepted_in_one_outage() {
        let unverified = UnverifiedPosts::new(2);
        assert_eq!([unverified.take(), unverified.take(), unverified.take()], [true, true, false]);
        unverified.failed_at(Duration::from_secs(100));
        unverified.answered_at(Duration::from_millis(100_999));
        assert!(!unverified.take(), "one answer does not end an outage");
        unverified.answered_at(Duration::from_secs(101));
        assert!(unverified.take());
        assert_eq!(unverified.taken(), 1);
        assert!(!UnverifiedPosts::new(0).take());
    }
}
