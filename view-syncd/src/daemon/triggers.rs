//! Triggers of a cycle, whoever sends them: SIGHUP and operators over HTTP.
//!
//! A trigger waits in a channel until the loop has time for it, and the loop takes all that wait at once. So those that
//! arrive during a cycle are served by one more cycle, together, and each is served by a cycle that began after it was
//! made.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::cycle::Synced;

/// Operators who may wait for a cycle at once, each with a connection.
const MAX_WAITING: usize = 64;

/// A trigger of a cycle. Whoever waits for it learns what came of it; when the trigger is dropped, he learns that
/// nothing did.
#[derive(Debug)]
pub struct Trigger {
    /// Where the answer goes; `None` after a signal.
    pub reply: Option<oneshot::Sender<Synced>>,
}

/// Sends triggers.
#[derive(Debug, Clone)]
pub struct TriggerSender {
    triggers: mpsc::Sender<Trigger>,
    places: Arc<Semaphore>,
}

/// The triggers that wait.
pub type TriggerReceiver = mpsc::Receiver<Trigger>;

/// Returns the two ends.
#[must_use]
pub fn channel() -> (TriggerSender, TriggerReceiver) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (TriggerSender { triggers: sender, places: Arc::new(Semaphore::new(MAX_WAITING)) }, receiver)
}

impl TriggerSender {
    /// Asks for a cycle and does not wait for it.
    pub fn trigger(&self) {
        // Where the channel is full, a cycle is going to follow anyway.
        let _ = self.triggers.try_send(Trigger { reply: None });
    }

    /// Asks for a cycle. Returns a future that ends with it, or with `None` where it failed or there will be none; no
    /// future at all where too many wait already.
    pub fn wait(&self) -> Option<impl Future<Output = Option<Synced>> + Send + use<>> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let triggers = self.triggers.clone();
        Some(async move {
            let (reply, answer) = oneshot::channel();
            triggers.send(Trigger { reply: Some(reply) }).await.ok()?;
            let synced = answer.await.ok();
            drop(place);
            synced
        })
    }
}

/// Takes all further triggers that wait.
pub(crate) fn take_waiting(triggers: &mut TriggerReceiver, taken: &mut Vec<Trigger>) {
    while let Ok(request) = triggers.try_recv() {
        taken.push(request);
    }
}
