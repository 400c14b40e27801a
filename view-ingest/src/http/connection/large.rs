//! Large requests, which a worker reads one at a time, in turn with everything else: a stranger's head of 30 KB costs as much as many views.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// From this size on, in bytes, a request is large. A hundred posts are not.
const LARGE: usize = 6 * 1024;

/// The large requests of one worker.
#[derive(Debug, Clone)]
pub(crate) struct LargeRequests(Arc<Semaphore>);

impl Default for LargeRequests {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl LargeRequests {
    /// Returns a connection's way to its turns, and the other end of it.
    pub(super) fn turns(self) -> (Turns, TurnEnd) {
        let end = TurnEnd::default();
        (Turns { semaphore: PollSemaphore::new(self.0), end: end.clone() }, end)
    }
}

/// The turns of one connection at reading a large request.
pub(super) struct Turns {
    semaphore: PollSemaphore,
    end: TurnEnd,
}

/// Ends the turn of a connection, if it has one.
#[derive(Debug, Clone, Default)]
pub(super) struct TurnEnd(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Turns {
    /// Waits for a turn where so much of a request has been read already that it is large.
    pub(super) fn poll_turn(&mut self, read: usize, cx: &mut Context<'_>) -> Poll<()> {
        if read < LARGE || self.end.permit().is_some() {
            return Poll::Ready(());
        }
        let permit = ready!(self.semaphore.poll_acquire(cx));
        *self.end.permit() = permit;
        Poll::Ready(())
    }

    /// Ends the turn: there is nothing more to read for now.
    pub(super) fn end(&self) {
        self.end.end();
    }
}

impl TurnEnd {
    /// Gives the turn to another connection, as soon as everything that is ready by now has been polled.
    pub(super) fn end(&self) {
        if let Some(permit) = self.permit().take() {
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                drop(permit);
            });
        }
    }

    fn permit(&self) -> std::sync::MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;

    use super::*;

    fn turn(turns: &mut Turns, read: usize) -> impl Future<Output = ()> {
        poll_fn(move |cx| turns.poll_turn(read, cx))
    }

    fn has_turn(turns: &mut Turns, read: usize) -> bool {
        turn(turns, read).now_or_never().is_some()
    }

    #[tokio::test]
    async fn one_large_request_is_read_at_a_time() {
        let worker = LargeRequests::default();
        let ((mut first, first_end), (mut second, _)) = (worker.clone().turns(), worker.turns());
        assert!(has_turn(&mut first, LARGE));
        assert!(has_turn(&mut first, 2 * LARGE), "it keeps its turn");
        assert!(has_turn(&mut second, LARGE - 1), "a small one needs none");
        assert!(!has_turn(&mut second, LARGE));
        first_end.end();
        turn(&mut second, LARGE).await;
        drop((second, first));
    }

    #[tokio::test]
    async fn a_connection_that_ends_leaves_its_turn() {
        let worker = LargeRequests::default();
        let ((mut first, end), (mut second, _)) = (worker.clone().turns(), worker.turns());
        assert!(has_turn(&mut first, LARGE));
        drop((first, end));
        turn(&mut second, LARGE).await;
    }
}
