//! What is done once.

pub mod adopt;
pub mod claim;
pub mod dead;
pub mod doctor;
pub mod explain;
pub mod forget;
mod look;
pub mod migrate;
mod output;
mod progress_bar;
pub mod reconcile;
pub mod recount;
pub mod status;
pub mod sync;
pub mod warm;

use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::SyncSettings,
    context::{Context, startup},
    daemon::leases::{Leases, Participant, campaign},
    metrics::Metrics,
};

/// Stores that are away for longer than this are somebody else's to bring back.
const PATIENCE: Duration = Duration::from_secs(10);

/// Begins to connect to both stores, for a command that simply ends.
fn open(settings: &SyncSettings) -> anyhow::Result<Arc<Context>> {
    Context::open(settings, Metrics::new(&mut Registry::default()), CancellationToken::new())
}

/// Takes the leases that no daemon has, for a command that drains, and waits until it is known which these are. Where
/// daemons have them, these drain, and the command waits for that.
async fn take_leases(context: &Context) -> Leases {
    let (database, keys, metrics) = (Arc::clone(&context.database), context.keys.clone(), context.metrics.clone());
    let mut leases = campaign(database, keys, metrics, Participant::Command);
    leases.decided().await;
    leases
}

/// Connects to both stores, for a command that simply ends. `away` is what is said where one is away. Returns nothing
/// where one of them cannot be used, which has been said then: the exit status is `EXIT_CONFIG`.
///
/// # Errors
/// When a store is away.
async fn connect(settings: &SyncSettings, away: &'static str) -> anyhow::Result<Option<Arc<Context>>> {
    let context = open(settings)?;
    let waited = tokio::time::timeout(PATIENCE, startup::wait(&context, |_| ())).await;
    let advice = "what is away is told above: run this again when it is back";
    Ok(match waited.map_err(|_| anyhow::anyhow!("{away}: {advice}"))? {
        Ok(()) => Some(context),
        Err(text) => {
            tracing::error!("{text}");
            None
        }
    })
}
