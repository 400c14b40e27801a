//! `view-syncd sync`: one cycle, and its success as the exit status.

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, bail};
use prometheus_client::registry::Registry;
use views_core::settings::EXIT_CONFIG;

use super::PATIENCE;
use crate::{cli::SyncSettings, engine::Engine, leader, metrics::Metrics, stop::Stop, stores::Stores};

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
    let mut leadership = leader::campaign(Arc::clone(&stores.database), metrics.clone());
    let mut engine = Engine::new(&stores, settings.work, metrics, Stop::never());
    leadership.decided().await;
    // Where a daemon leads, it drains, and this process waits for that.
    engine.set_drains(leadership.works());
    engine.set_leadership(leadership);
    // The cycle itself logs what went wrong.
    let Ok(synced) = engine.cycle().await else { return Ok(ExitCode::FAILURE) };
    if synced.errors > 0 {
        bail!("{} posts could not be synchronized", synced.errors);
    }
    Ok(ExitCode::SUCCESS)
}
