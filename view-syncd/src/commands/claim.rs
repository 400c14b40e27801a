//! `view-syncd claim`: makes this database the owner of the keys in Redis, after `views:owner` has refused it.

use std::process::ExitCode;

use anyhow::Context;
use views_core::settings::EXIT_CONFIG;
use views_redis::ownership;

use super::PATIENCE;
use crate::{cli::SyncSettings, stores::Stores};

/// Overwrites the owner's name, and says whose the keys were before.
///
/// # Errors
/// When a store is away.
pub async fn run(settings: SyncSettings) -> anyhow::Result<ExitCode> {
    let stores = Stores::open(&settings)?;
    let waited = tokio::time::timeout(PATIENCE, stores.wait_unowned()).await;
    if let Err(text) = waited.context("Claim failed: a store is away")? {
        tracing::error!("{text}");
        return Ok(ExitCode::from(EXIT_CONFIG));
    }
    let owner = stores.database.owner().await?;
    let key = stores.keys.owner();
    match ownership::claim(&stores.redis, &stores.keys, &owner).await? {
        Some(before) if before == owner.as_str() => tracing::info!("{key} was {:?} before: nothing to do", owner.as_str()),
        Some(before) => tracing::info!("{key} was {before:?}, and is {:?} now", owner.as_str()),
        None => tracing::info!("{key} was not there, and is {:?} now", owner.as_str()),
    }
    Ok(ExitCode::SUCCESS)
}
