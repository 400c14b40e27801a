//! `view-syncd sync`: one cycle, and its success as the exit status.

use std::process::ExitCode;

use anyhow::bail;
use views_core::settings::EXIT_CONFIG;

use super::{connect, take_leases};
use crate::{cli::SyncSettings, daemon::synchronizer::Synchronizer};

/// Runs one cycle.
///
/// # Errors
/// When a store is away, or a post could not be brought into order.
pub async fn run(settings: SyncSettings) -> anyhow::Result<ExitCode> {
    let Some(context) = connect(&settings, "Sync failed: a store is away").await? else { return Ok(ExitCode::from(EXIT_CONFIG)) };
    let mut synchronizer = Synchronizer::new(&context);
    synchronizer.set_leases(take_leases(&context).await);
    // The cycle itself logs what went wrong.
    let Ok(synced) = synchronizer.cycle().await else { return Ok(ExitCode::FAILURE) };
    if synced.errors > 0 {
        bail!("{} posts could not be synchronized", synced.errors);
    }
    Ok(ExitCode::SUCCESS)
}
