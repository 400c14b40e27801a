//! What signals ask for. The order to stop is passed on at once, whatever the work is waiting for.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use views_auth::Verifier;
use views_service::{notify, readiness::Readiness, signals::Signal};

use super::triggers::TriggerSender;

/// How much more time than it needs systemd is asked for.
pub(super) const MARGIN: Duration = Duration::from_secs(60);

/// What signals have to do with.
pub(super) struct Followers {
    pub(super) stop: CancellationToken,
    pub(super) trigger_sender: TriggerSender,
    pub(super) verifier: Arc<Verifier>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) shutdown_timeout: Duration,
}

/// Does what signals ask for, for as long as the process lives.
pub(super) async fn follow(mut signals: UnboundedReceiver<Signal>, followers: Followers) {
    while let Some(signal) = signals.recv().await {
        match signal {
            Signal::Hangup => {
                followers.verifier.reload_aside();
                tracing::info!("SIGHUP: a synchronization follows");
                followers.trigger_sender.trigger();
            }
            Signal::Stop => {
                tracing::info!("stopping: the outbox is drained a last time");
                followers.readiness.draining();
                notify::stopping();
                notify::extend_timeout(followers.shutdown_timeout + MARGIN);
                followers.stop.cancel();
            }
        }
    }
    // The listening thread lives as long as the process.
    std::future::pending::<()>().await;
}
