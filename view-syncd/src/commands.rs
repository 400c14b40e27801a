//! What is done once.

pub mod adopt;
pub mod claim;
pub mod dead;
pub mod migrate;
mod progress_bar;
pub mod recount;
pub mod sync;
pub mod warm;

use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::{cli::SyncSettings, context::Context, metrics::Metrics};

/// Stores that are away for longer than this are somebody else's to bring back.
const PATIENCE: Duration = Duration::from_secs(10);

/// Begins to connect to both stores, for a command that simply ends.
fn open(settings: &SyncSettings) -> anyhow::Result<Arc<Context>> {
    Context::open(settings, Metrics::new(&mut Registry::default()), CancellationToken::new())
}
