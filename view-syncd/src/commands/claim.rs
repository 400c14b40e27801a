//! `view-syncd claim`: makes this database the owner of the keys in Redis, after `views:owner` has refused it.

use std::process::ExitCode;

use anyhow::Context as _;
use views_core::settings::EXIT_CONFIG;
use views_redis::ownership;

use super::{PATIENCE, open};
use crate::{cli::SyncSettings, context::startup};

/// Overwrites the owner's name, and says whose the keys were before.
///
/// # Errors
/// When a store is away.
pub async fn run(settings: SyncSettings) -> anyhow::Result<ExitCode> {
    let context = open(&settings)?;
    let waited = tokio::time::timeout(PATIENCE, startup::wait_unowned(&context)).await;
    if let Err(text) = waited.context("Claim failed: a store is away")? {
        tracing::error!("{text}");
        return Ok(ExitCode::from(EXIT_CONFIG));
    }
    let owner = context.database.owner().await?;
    let key = context.keys.owner();
    match ownership::claim(&context.redis, &context.keys, &owner).await? {
        Some(before) if before == owner.as_str() => tracing::info!("{key} was {:?} before: nothing to do", owner.as_str()),
        Some(before) => tracing::info!("{key} was {before:?}, and is {:?} now", owner.as_str()),
        None => tracing::info!("{key} was not there, and is {:?} now", owner.as_str()),
    }
    Ok(ExitCode::SUCCESS)
}
