//! How many posts that nobody could look up are accepted, while PostgreSQL is away: anybody with a token can make ids up, and each of them takes
//! memory in Redis until PostgreSQL is there to say that there is no such post.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

/// The budget of a process, shared by its recorders.
#[derive(Debug, Clone)]
pub(crate) struct UnverifiedPosts(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    limit: usize,
    taken: AtomicUsize,
    /// Whether it has been said that it is used up.
    told: AtomicBool,
}

impl UnverifiedPosts {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Budget { limit, taken: AtomicUsize::new(0), told: AtomicBool::new(false) }))
    }

    /// Whether one more post may be accepted.
    pub(super) fn take(&self) -> bool {
        let Budget { limit, taken, told } = &*self.0;
        let has_room = taken.fetch_update(Relaxed, Relaxed, |taken| (taken < *limit).then_some(taken + 1)).is_ok();
        if !has_room && !told.swap(true, Relaxed) {
            tracing::warn!(
                posts = limit,
                "as many posts as may be were accepted unseen: views of others are refused until PostgreSQL is back"
            );
        }
        has_room
    }

    /// PostgreSQL answers: posts are looked up again.
    pub(super) fn reset(&self) {
        let Budget { taken, told, .. } = &*self.0;
        // Mostly it is zero and stays so, and all recorders share it.
        if taken.load(Relaxed) != 0 {
            taken.store(0, Relaxed);
        }
        if told.load(Relaxed) {
            told.store(false, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_posts_as_the_budget_are_accepted_in_one_outage() {
        let unverified = UnverifiedPosts::new(2);
        assert_eq!([unverified.take(), unverified.take(), unverified.take()], [true, true, false]);
        unverified.reset();
        assert!(unverified.take());
        assert!(!UnverifiedPosts::new(0).take());
    }
}
