//! The request to stop, as every part of the process sees it.

use tokio::sync::watch;

/// Makes the request.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Sees the request. There is no way back.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// A stop that has not been requested, and the means to do so.
#[must_use]
pub fn channel() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Requests the stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// A stop that is never requested, for commands that simply end.
    #[must_use]
    pub fn never() -> Self {
        channel().1
    }

    /// Whether the stop has been requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the request.
    pub async fn requested(&mut self) {
        if self.0.wait_for(|stop| *stop).await.is_err() {
            // Nobody is left who could request it.
            std::future::pending::<()>().await;
        }
    }
}
