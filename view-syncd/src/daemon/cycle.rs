//! A full synchronization: drain, scan, drain, and the lines about it that operators grep for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use views_core::{log_names, partition::Partition};

use super::{scope::Scope, synchronizer::Synchronizer};
use crate::{
    context::health::Health,
    drain::{Drain, Drained, Urgency, outbox},
    entry_id::EntryId,
    error::Failure,
    reconcile::{drains::Drains, repair::repair, retry_dead_letters},
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

/// An outbox that another process drains.
struct Awaited {
    /// Up to where it is to be drained.
    newest: EntryId,
    /// The oldest entry when it was last another one.
    seen: Option<EntryId>,
    since: Instant,
}

impl Synchronizer {
    /// Runs one cycle over everything.
    ///
    /// # Errors
    /// [`Failure`]: a store is away, or the process is about to stop.
    pub async fn cycle(&mut self) -> Result<Synced, Failure> {
        self.cycle_in(Scope::All).await
    }

    /// Runs one cycle over everything, or over the partitions that this process drains.
    pub(super) async fn cycle_in(&mut self, scope: Scope) -> Result<Synced, Failure> {
        tracing::info!("Starting views synchronization");
        let started = Instant::now();
        // A step that nobody takes further may hold what this waits for: the reading of the schema, a connection.
        self.drains.rest().await;
        let result = self.try_cycle(scope).await;
        self.drains.remove_guests();
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

    async fn try_cycle(&mut self, scope: Scope) -> Result<Synced, Failure> {
        self.reconciler.session.check_owner().await?;
        let failed = self.drain_in(scope).await?;
        self.context.checkpoint()?;
        if self.drains.is_own(self.context.keys.partition_of_dead()) {
            retry_dead_letters::retry(&mut self.reconciler).await?;
        }
        let scanned = self.scan_in(scope).await?;
        self.unseen = scanned.unseen.first().map(|why| format!("a part of Redis is away: {why}"));
        tracing::info!("Found {} posts with views in Redis", scanned.found);
        let failed = failed.max(self.drain_in(scope).await?);
        self.wait_for_deferred().await?;
        if !self.drains.own().is_empty() {
            // Where another process drains, its own repairs see to this.
            let (reconciler, mut drains) = self.parts(scope);
            let mut posts = scanned.unacknowledged;
            posts.retain(|post| drains.drains(post));
            repair(reconciler, &mut drains, posts).await?;
        }
        let deferred = self.drains.all().map(|drain| drain.deferred().len() as u64).sum();
        if deferred > 0 {
            tracing::warn!(posts = deferred, "views wait for locks that others hold in PostgreSQL");
        }
        // Of a partition that cannot be drained, it is not known how many posts it has.
        let errors = scanned.errors + deferred + failed as u64;
        Ok(Synced { successful: scanned.successful.saturating_sub(deferred), errors })
    }

    /// Gives views that wait for locks a little time.
    async fn wait_for_deferred(&mut self) -> Result<(), Failure> {
        let since = Instant::now();
        loop {
            let waiting = self.drains.all().filter(|drain| !drain.deferred().is_empty());
            let waiting: BTreeSet<Partition> = waiting.map(Drain::partition).collect();
            if waiting.is_empty() || since.elapsed() >= DEFERRED_PATIENCE {
                return Ok(());
            }
            let ended = self.drains.work_on(waiting, |part| part.step(Urgency::AtOnce)).await;
            if let (Drained::Deferred(until), _) = self.drains.sum_up(ended)? {
                tokio::time::sleep_until(until.into()).await;
            }
            self.context.checkpoint()?;
        }
    }

    /// Has everything drained that is in the outboxes now: by this process, or by those that hold the partitions. Where
    /// one of these does not get on, by this one all the same: two that drain at once do no harm, but for counts that are
    /// a little off until both are done.
    pub(crate) async fn drain_or_await_leader(&mut self) -> Result<(), Failure> {
        self.drain_in(Scope::All).await.map(drop)
    }

    /// Does that with what is to be worked on. Returns how many of several partitions could not be drained.
    async fn drain_in(&mut self, scope: Scope) -> Result<usize, Failure> {
        self.drains.follow();
        let own = self.drains.own();
        let failed = if own.is_empty() { 0 } else { self.drain_own().await? };
        Ok(if scope == Scope::All { failed + self.await_others(&own).await? } else { failed })
    }

    /// Waits until others have drained what is in their outboxes now.
    async fn await_others(&mut self, own: &BTreeSet<Partition>) -> Result<usize, Failure> {
        let (mut awaited, mut failed) = (BTreeMap::new(), 0);
        for partition in self.context.keys.drained_partitions().filter(|partition| !own.contains(partition)) {
            match outbox::newest(&self.context, partition).await {
                Ok(Some(newest)) => drop(awaited.insert(partition, Awaited { newest, seen: None, since: Instant::now() })),
                Ok(None) => {}
                Err(error) => failed += self.pass_over(partition, error.into())?,
            }
        }
        loop {
            let mut stuck = BTreeSet::new();
            for (partition, mut other) in std::mem::take(&mut awaited) {
                let oldest = match outbox::measure(&mut self.look, partition).await {
                    Ok(measured) => measured.oldest,
                    Err(error) => {
                        failed += self.pass_over(partition, error.into())?;
                        continue;
                    }
                };
                if oldest.is_none_or(|oldest| oldest > other.newest) {
                    continue;
                }
                if oldest == other.seen && other.since.elapsed() >= LEADER_PATIENCE {
                    stuck.insert(partition);
                    continue;
                }
                if oldest != other.seen {
                    (other.seen, other.since) = (oldest, Instant::now());
                }
                awaited.insert(partition, other);
            }
            failed += self.drain_beside(stuck).await?;
            if awaited.is_empty() {
                return Ok(failed);
            }
            self.context.checkpoint()?;
            // Others may wait for this process's own partitions meanwhile, and views come in.
            let due = self.drains.due(true);
            if due.is_empty() {
                tokio::time::sleep(LEADER_POLL).await;
            } else {
                let ended = self.drains.work_on(due, |part| part.step(Urgency::Patient)).await;
                self.drains.tell_failures(&ended);
            }
        }
    }

    /// Drains partitions that another process holds and does not get on with.
    async fn drain_beside(&mut self, stuck: BTreeSet<Partition>) -> Result<usize, Failure> {
        for partition in &stuck {
            let partition = self.drains.are_many().then(|| partition.name());
            tracing::warn!(partition, "the view-syncd that leads does not get on with the outbox: this one drains it, too");
        }
        for partition in &stuck {
            self.drains.add_guest(*partition);
        }
        let (context, number) = (Arc::clone(&self.context), stuck.len());
        let ended = self.drains.work_on(stuck, |part| part.drain_all(Arc::clone(&context))).await;
        match self.drains.sum_up(ended) {
            Ok((_, failed)) => Ok(failed),
            Err(Failure::Stopped) => Err(Failure::Stopped),
            Err(_) if self.drains.are_many() => Ok(number),
            Err(failure) => Err(failure),
        }
    }

    /// Passes over a partition that cannot be looked at, where there are others. Returns that it is one.
    fn pass_over(&mut self, partition: Partition, failure: Failure) -> Result<usize, Failure> {
        if !self.drains.are_many() {
            return Err(failure);
        }
        self.drains.tell(partition, &failure);
        Ok(1)
    }

    /// Has others know when the last cycle succeeded.
    fn note_for_others(&self) {
        if let Some(leases) = self.drains.leases() {
            leases.note_cycle();
        }
    }

    /// Notes for operators how a cycle ended.
    fn note_cycle(&mut self, result: &Result<Synced, Failure>) {
        self.context.progress.made();
        let unseen = self.unseen.take();
        // Where all drains get on, none of them will show that it is there again.
        self.has_unseen = unseen.is_some() && !self.context.health.are_all_healthy();
        match result {
            Ok(_) => self.context.health.note_cycle(unseen),
            // Where it was the drain that failed, it is a drain that shows that it is well again.
            Err(_) if !self.context.health.are_all_healthy() => {}
            Err(failure) => self.context.note_failure(failure, Health::note_cycle),
        }
    }
}
