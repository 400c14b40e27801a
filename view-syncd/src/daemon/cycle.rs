//! A full synchronization: drain, scan, drain, and the lines about it that operators grep for.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use views_core::log_names;

use super::synchronizer::Synchronizer;
use crate::{
    context::health::Health,
    drain::{Drained, Urgency},
    error::Failure,
    reconcile::{repair::repair, retry_dead_letters},
};

/// How long the process that leads may take for its next step.
const LEADER_PATIENCE: Duration = Duration::from_secs(8);
/// How often it is looked what it has done.
const LEADER_POLL: Duration = Duration::from_millis(50);
/// How long others may go on holding the locks of posts before these are errors of the cycle: applications lock their
/// rows all the time, for a moment.
const DEFERRED_PATIENCE: Duration = Duration::from_secs(1);

/// What a cycle has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// Posts whose count in Redis is right now.
    pub successful: u64,
    /// Posts that could not be brought into order.
    pub errors: u64,
}

impl Synchronizer {
    /// Runs one cycle.
    ///
    /// # Errors
    /// [`Failure`]: a store is away, or the process is about to stop.
    pub async fn cycle(&mut self) -> Result<Synced, Failure> {
        tracing::info!("Starting views synchronization");
        let started = Instant::now();
        let result = self.try_cycle().await;
        self.note_cycle(&result);
        match &result {
            Ok(synced) => {
                self.note_for_others();
                tracing::info!("Sync completed: {} successful, {} errors", synced.successful, synced.errors);
                self.count(*synced, started.elapsed());
            }
            Err(Failure::Stopped) => tracing::info!("Sync abandoned: the process is about to stop"),
            Err(failure) => {
                self.context.metrics.cycle_failures.inc();
                tracing::error!(name: log_names::STATE, "Sync failed: {failure}");
            }
        }
        result
    }

    /// Counts a cycle that did not fail.
    fn count(&self, synced: Synced, took: Duration) {
        let metrics = &self.context.metrics;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        metrics.last_sync.set(now.as_secs_f64());
        metrics.cycle_seconds.observe(took.as_secs_f64());
        metrics.posts_successful.set(i64::try_from(synced.successful).unwrap_or(i64::MAX));
        metrics.posts_with_errors.set(i64::try_from(synced.errors).unwrap_or(i64::MAX));
    }

    async fn try_cycle(&mut self) -> Result<Synced, Failure> {
        self.reconciler.session.check_owner().await?;
        self.drain_or_await_leader().await?;
        self.context.checkpoint()?;
        if self.drains {
            retry_dead_letters::retry(&mut self.reconciler).await?;
        }
        let scanned = self.scan().await?;
        tracing::info!("Found {} posts with views in Redis", scanned.found);
        self.drain_or_await_leader().await?;
        self.wait_for_deferred().await?;
        if self.drains {
            // Where another process drains, its own repairs see to this.
            let (reconciler, mut drains) = self.parts();
            repair(reconciler, &mut drains, scanned.unacknowledged).await?;
        }
        let deferred = self.drain.deferred().len() as u64;
        if deferred > 0 {
            tracing::warn!(posts = deferred, "views wait for locks that others hold in PostgreSQL");
        }
        Ok(Synced { successful: scanned.successful.saturating_sub(deferred), errors: scanned.errors + deferred })
    }

    /// Gives views that wait for locks a little time.
    async fn wait_for_deferred(&mut self) -> Result<(), Failure> {
        let since = Instant::now();
        while !self.drain.deferred().is_empty() && since.elapsed() < DEFERRED_PATIENCE {
            if let Drained::Deferred(until) = self.drain(Urgency::AtOnce).await? {
                tokio::time::sleep_until(until.into()).await;
            }
            self.context.checkpoint()?;
        }
        Ok(())
    }

    /// Has everything drained that is in the outbox now: by this process, or by the one that leads. Where that one does
    /// not get on, by this one all the same: two that drain at once do no harm, but for counts that are a little off
    /// until both are done.
    pub(crate) async fn drain_or_await_leader(&mut self) -> Result<(), Failure> {
        if self.drains {
            return self.drain_all().await;
        }
        let Some(newest) = self.drain.newest().await? else { return Ok(()) };
        let (mut seen, mut since) = (None, Instant::now());
        loop {
            let oldest = self.drain.oldest().await?;
            if oldest.is_none_or(|oldest| oldest > newest) {
                return Ok(());
            }
            if oldest != seen {
                (seen, since) = (oldest, Instant::now());
            } else if since.elapsed() >= LEADER_PATIENCE {
                tracing::warn!("the view-syncd that leads does not get on with the outbox: this one drains it, too");
                return self.drain_all().await;
            }
            self.context.checkpoint()?;
            tokio::time::sleep(LEADER_POLL).await;
        }
    }

    /// Has others know when the last cycle succeeded.
    fn note_for_others(&self) {
        if let Some(leases) = &self.leases {
            leases.note_cycle();
        }
    }

    /// Notes for operators how a cycle ended.
    fn note_cycle(&self, result: &Result<Synced, Failure>) {
        self.context.progress.made();
        match result {
            Ok(_) => self.context.health.note_cycle(None),
            // Where it was the drain that failed, it is a drain that shows that it is well again.
            Err(_) if !self.context.health.is_healthy() => {}
            Err(failure) => self.context.note_failure(failure, Health::note_cycle),
        }
    }
}
