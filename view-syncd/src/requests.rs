//! Requests for a cycle, whoever makes them: SIGHUP and operators over HTTP.
//!
//! A request waits in a channel until the loop has time for it, and the loop takes all that wait at once. So those that arrive during a
//! cycle are served by one more cycle, together, and each is served by a cycle that began after it was made.

use tokio::sync::{mpsc, oneshot};

use crate::cycle::Synced;

/// Requests that may wait. More than this cannot come over the admin listener's connections.
const MAX_WAITING: usize = 128;

/// A request for a cycle. Whoever waits for it learns what came of it; when the request is dropped, he learns that nothing did.
#[derive(Debug)]
pub struct Request {
    /// Where the answer goes; `None` after a signal.
    pub reply: Option<oneshot::Sender<Synced>>,
}

/// Makes requests.
#[derive(Debug, Clone)]
pub struct Requester(mpsc::Sender<Request>);

/// The requests that wait.
pub type Requests = mpsc::Receiver<Request>;

/// The two ends.
#[must_use]
pub fn channel() -> (Requester, Requests) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (Requester(sender), receiver)
}

impl Requester {
    /// Asks for a cycle and does not wait for it.
    pub fn hurry(&self) {
        // Where the channel is full, a cycle is going to follow anyway.
        let _ = self.0.try_send(Request { reply: None });
    }

    /// Asks for a cycle and waits for it; `None` where it failed or there will be none.
    pub async fn wait(&self) -> Option<Synced> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Request { reply: Some(reply) }).await.ok()?;
        answer.await.ok()
    }
}

/// Takes all further requests that wait.
pub(crate) fn take_waiting(requests: &mut Requests, taken: &mut Vec<Request>) {
    while let Ok(request) = requests.try_recv() {
        taken.push(request);
    }
}
