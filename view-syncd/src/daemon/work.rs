//! What a daemon does from its first decision to its end.

use std::{process::ExitCode, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{flush, leases::Leases, serve, synchronizer::Synchronizer, triggers::TriggerReceiver};

/// Works until the stop, drains a last time what this process holds, and hands it over.
pub async fn until_done(
    synchronizer: &mut Synchronizer,
    mut triggers: TriggerReceiver,
    leases: &mut Leases,
    stop: &CancellationToken,
    interval: Duration,
) -> ExitCode {
    if !stop.is_cancelled() {
        serve::until_stopped(synchronizer, &mut triggers, leases, stop, interval).await;
    }
    // Whoever waits for a cycle learns now that there will be none.
    drop(triggers);
    if !leases.works() {
        tracing::info!("the outbox is left to the view-syncd that leads");
        return ExitCode::SUCCESS;
    }
    leases.end();
    let code = flush::run(synchronizer).await;
    leases.ended().await;
    code
}
