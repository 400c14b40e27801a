//! Limits for reads, which need no token: work is weighed by posts and not by requests, and a view finds only a little
//! of it before itself.
//!
//! A read takes its permit before its ids are even looked at. Whoever waits costs the worker nothing meanwhile, and for
//! more than may wait there is a refusal at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many posts of reads a worker deals with at once. A view waits for no more than that.
const POSTS_AT_ONCE: u32 = 256;
/// How many posts of reads may wait for their permit, per worker: a fraction of a second's work.
const MAX_WAITING_POSTS: usize = 65_536;
/// How long a read waits for its permit. Where the stores do not answer, those before it do not get on either.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many look-ups of reads in PostgreSQL may be under way, for all recorders together: a small part of the connections.
pub(super) const READ_QUERIES: usize = 2;

/// Returns the permits of look-ups of reads, for all recorders of a process.
pub(crate) fn read_queries() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(READ_QUERIES))
}

/// The permit of a read, held until its posts have been checked; shared by the recorders that have a part in it.
pub(crate) type ReadPermit = Arc<OwnedSemaphorePermit>;

/// The reads of one worker.
#[derive(Debug, Clone)]
pub(crate) struct ReadLimit {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Default for ReadLimit {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(POSTS_AT_ONCE as usize)), waiting: Arc::default() }
    }
}

impl ReadLimit {
    /// Waits for the permit of a read of so many posts. Returns nothing where too many wait already, or it takes too long.
    pub(crate) async fn permit(&self, posts: usize) -> Option<ReadPermit> {
        let weight = u32::try_from(posts).unwrap_or(u32::MAX).clamp(1, POSTS_AT_ONCE);
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_many_owned(weight) {
            return Some(Arc::new(permit));
        }
        let _place = Place::take(&self.waiting, posts)?;
        let permit = Arc::clone(&self.permits).acquire_many_owned(weight);
        // The semaphore is never closed.
        tokio::time::timeout(PATIENCE, permit).await.ok()?.ok().map(Arc::new)
    }
}

/// A place among those who wait, given back when dropped: a client may go away while it waits.
struct Place<'a>(&'a AtomicUsize, usize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, posts: usize) -> Option<Self> {
        let place = Self(waiting, posts);
        (waiting.fetch_add(posts, Relaxed) < MAX_WAITING_POSTS).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn reads_take_turns_by_their_posts() {
        let reads = ReadLimit::default();
        let all = reads.permit(1_000_000).now_or_never().unwrap().unwrap();
        let mut next = Box::pin(reads.permit(1));
        assert!(next.as_mut().now_or_never().is_none(), "it waits");
        drop(all);
        assert!(next.now_or_never().unwrap().is_some());
    }

    #[tokio::test]
    async fn more_than_may_wait_are_refused_at_once() {
        let reads = ReadLimit::default();
        let all = reads.permit(POSTS_AT_ONCE as usize).now_or_never().unwrap().unwrap();
        let mut waiting = Box::pin(reads.permit(MAX_WAITING_POSTS));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(reads.permit(1).now_or_never().unwrap().is_none());
        drop(waiting);
        let mut next = Box::pin(reads.permit(1));
        assert!(next.as_mut().now_or_never().is_none(), "one that goes away leaves its place");
        drop(all);
        assert!(next.now_or_never().unwrap().is_some());
    }
}
