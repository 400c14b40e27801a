//! What all drains of the process and its reconciler have in common.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{insert::Inserter, publish::Publisher};
use crate::context::Context;

/// How soon dead letters are retried for which a lock was in the way.
const SOON: Duration = Duration::from_secs(5);

/// What all drains of the process and its reconciler have in common. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// All learn together how many pairs the server manages in one statement.
    pub(crate) inserter: Inserter,
    pub(crate) publisher: Publisher,
    pub(crate) dead_letter_timer: RetryTimer,
    pub(crate) places: Places,
}

/// The places of those drains that store at the moment. One whose Redis does not answer takes none.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    places: Arc<Semaphore>,
    /// Whether nobody is to wait for a place.
    paused: watch::Sender<bool>,
}

/// As long as there is one, nobody waits for a place.
pub(crate) struct Pause(watch::Sender<bool>);

/// When dead letters are retried before the next cycle, because locks were in the way of some. There is one stream of
/// them for all outboxes.
#[derive(Debug, Clone, Default)]
pub(crate) struct RetryTimer(Arc<Mutex<Option<Instant>>>);

impl Shared {
    pub(crate) fn new(context: &Context) -> Self {
        let inserter = Inserter::new(Arc::clone(&context.database), context.progress.clone());
        let places = Places { places: Arc::new(Semaphore::new(context.settings.drains)), paused: watch::Sender::new(false) };
        Self { inserter, publisher: Publisher::default(), dead_letter_timer: RetryTimer::default(), places }
    }
}

impl Places {
    /// Takes a place, as soon as there is one; none where the drain is to leave, or nobody is to wait.
    pub(crate) async fn take(&self, leaving: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        let mut paused = self.paused.subscribe();
        tokio::select! {
            biased;
            place = Arc::clone(&self.places).acquire_owned() => place.ok(),
            () = leaving.cancelled() => None,
            () = paused_now(&mut paused) => None,
        }
    }

    /// Has those go on without who wait for a place.
    pub(crate) fn pause(&self) -> Pause {
        self.paused.send_replace(true);
        Pause(self.paused.clone())
    }
}

/// Waits until nobody is to wait for a place.
async fn paused_now(paused: &mut watch::Receiver<bool>) {
    if paused.wait_for(|is_paused| *is_paused).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

impl RetryTimer {
    /// Has dead letters retried before the next cycle.
    pub(crate) fn start(&self) {
        self.at().get_or_insert_with(|| Instant::now() + SOON);
    }

    /// Returns whether they are to be retried now.
    pub(crate) fn is_due(&self) -> bool {
        self.at().is_some_and(|at| Instant::now() >= at)
    }

    /// Notes that they are being retried.
    pub(crate) fn stop(&self) {
        *self.at() = None;
    }

    fn at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
