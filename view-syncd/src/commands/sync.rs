//! `view-syncd sync`: one cycle, and its success as the exit status.

use std::process::ExitCode;

use anyhow::{Context, bail};
use prometheus_client::registry::Registry;
use shared::settings::EXIT_CONFIG;

use super::PATIENCE;
use crate::{cli::SyncSettings, engine::Engine, metrics::Metrics, stop::Stop, stores::Stores};

/// Runs one cycle.
///
/// # Errors
/// When a store is away, or a post could not be brought into order.
pub async fn run(settings: SyncSettings) -> anyhow::Result<ExitCode> {
    let stores = Stores::open(&settings)?;
    let waited = tokio::time::timeout(PATIENCE, stores.wait(|_| ())).await;
    if let Err(text) = waited.context("Sync failed: a store is away")? {
        tracing::error!("{text}");
        return Ok(ExitCode::from(EXIT_CONFIG));
    }
    let metrics = Metrics::new(&mut Registry::default());
    let mut engine = Engine::new(&stores, settings.work, metrics, Stop::never());
    // The cycle itself logs what went wrong.
    let Ok(synced) = engine.cycle().await else { return Ok(ExitCode::FAILURE) };
    if synced.errors > 0 {
        bail!("{} posts could not be synchronized", synced.errors);
    }
    Ok(ExitCode::SUCCESS)
}
