//! A full synchronization: drain, scan, drain, and the lines about it that operators grep for.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::engine::{Engine, Failure};

/// What a cycle has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// Posts whose count in Redis is right now.
    pub successful: u64,
    /// Posts that could not be brought into order.
    pub errors: u64,
}

impl Engine {
    /// Runs one cycle.
    ///
    /// # Errors
    /// [`Failure`]: a store is away, or the process is about to stop.
    pub async fn cycle(&mut self) -> Result<Synced, Failure> {
        tracing::info!("Starting views synchronization");
        let result = self.try_cycle().await;
        self.note(&result);
        match &result {
            Ok(synced) => {
                tracing::info!("Sync completed: {} successful, {} errors", synced.successful, synced.errors);
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                self.metrics.last_sync.set(now.as_secs_f64());
            }
            Err(Failure::Stopped) => tracing::info!("Sync abandoned: the process is about to stop"),
            Err(failure) => {
                self.metrics.cycle_failures.inc();
                tracing::error!("Sync failed: {failure}");
            }
        }
        result
    }

    async fn try_cycle(&mut self) -> Result<Synced, Failure> {
        self.drain_all().await?;
        self.go_on()?;
        let scanned = self.scan().await?;
        tracing::info!("Found {} posts with views in Redis", scanned.found);
        self.drain_all().await?;
        self.repair(scanned.unsettled).await?;
        Ok(Synced { successful: scanned.successful, errors: scanned.errors })
    }
}
