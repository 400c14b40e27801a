//! The drain of one outbox: read a batch, store it, and only then acknowledge it in Redis.
//!
//! It waits for nobody: what others have locked in PostgreSQL is left for later (see `drain/deferred.rs`), and
//! everything else is stored. A crash anywhere repeats work and changes nothing: pairs that are in the ledger are not
//! counted again, and entries that are gone are not acknowledged again.
//!
//! The way of an entry: `batch` reads it, `insert` brings the batch into PostgreSQL, `committed` has what PostgreSQL
//! has said of it, and `acknowledge` tells Redis and the world.

pub(crate) mod acknowledge;
pub(crate) mod batch;
pub(crate) mod committed;
pub(crate) mod dead_letter;
pub(crate) mod dead_letters;
pub(crate) mod deferred;
pub(crate) mod entries;
pub(crate) mod insert;
pub(crate) mod missing_posts;
#[cfg(feature = "failpoints")]
mod mistakes;
pub(crate) mod outbox;
pub(crate) mod pairs;
pub(crate) mod probe;
pub(crate) mod publish;
pub(crate) mod retry_deferred;
pub(crate) mod shared;

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use views_core::{failpoints, ids::PostId, partition::Partition};
use views_postgres::schema::Schema;
use views_redis::NodeId;

use self::{
    acknowledge::acknowledge, batch::Batch, committed::Committed, outbox::Outbox, retry_deferred::retry_deferred, shared::Shared,
};
use crate::{context::Context, entry_id::EntryId, error::Failure};

/// Pairs that are stored without waiting for a full batch.
const FIRST_BATCH: usize = 20_000;
/// Full batches that one step takes. After as many, which is about a minute, the caller has its turn: there may be
/// posts to be scanned.
const MOST_BATCHES: usize = 64;
/// How soon it is looked again at an outbox in which everything waits for locks.
const DEFERRED_PAUSE: Duration = Duration::from_millis(250);

/// Whether a batch may wait for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Until the linger has passed or the batch is full.
    Patient,
    /// What is there is stored now.
    AtOnce,
}

/// What a step of the drain did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// The outbox is empty.
    Idle,
    /// There is a batch, which waits for more until then.
    Waiting(Instant),
    /// All that is there waits for locks that others hold in PostgreSQL. It is looked at again then.
    Deferred(Instant),
    /// A batch was stored and acknowledged, up to this entry.
    Stored {
        /// The last entry of the batch.
        last: EntryId,
        /// The pairs that were taken out of the outbox.
        pairs: usize,
    },
}

/// Drains one outbox, one step at a time.
#[derive(Debug)]
pub(crate) struct Drain {
    context: Arc<Context>,
    pub(crate) outbox: Outbox,
    /// What has been read and waits for more.
    batch: Batch,
    /// Cancelled when another process is to go on: a step then ends as soon as a batch is stored.
    leaving: CancellationToken,
}

impl Drain {
    /// Returns a drain of a partition that has read nothing yet.
    pub(crate) fn new(context: &Arc<Context>, shared: &Shared, partition: Partition, leaving: CancellationToken) -> Self {
        let outbox = Outbox::new(context, shared, partition);
        Self { context: Arc::clone(context), outbox, batch: Batch::default(), leaving }
    }

    /// Returns a drain of what a node has of a partition's outbox although the owner of its slot does not know that: the slot
    /// is half moved. Where that goes wrong, it is not the partition's drain that fails.
    pub(crate) fn of_hidden(
        context: &Arc<Context>,
        shared: &Shared,
        partition: Partition,
        node: NodeId,
        leaving: CancellationToken,
    ) -> Self {
        let outbox = Outbox::of_hidden(context, shared, partition, node);
        Self { context: Arc::clone(context), outbox, batch: Batch::default(), leaving }
    }

    /// Returns the partition.
    pub(crate) fn partition(&self) -> Partition {
        self.outbox.partition
    }

    /// Takes one step. When it fails, everything that was not acknowledged is still in the outbox.
    pub(crate) async fn step(&mut self, urgency: Urgency) -> Result<Drained, Failure> {
        // On the heap: otherwise whatever gives the drain its turn would have room for a whole step in it.
        let result = Box::pin(self.try_step(urgency)).await;
        self.finish(result)
    }

    /// Notes how a step ended. After a failure the outbox is read again from its start: who knows what it looks like
    /// when Redis is back.
    pub(crate) fn finish(&mut self, result: Result<Drained, Failure>) -> Result<Drained, Failure> {
        if result.is_err() {
            self.forget();
            if !self.outbox.session.is_of_hidden() {
                self.context.metrics.drain_failures.inc();
            }
        }
        self.note(&result);
        result
    }

    /// Returns what of the outbox is deferred.
    pub(crate) fn deferred(&self) -> &deferred::DeferredPosts {
        &self.outbox.deferred
    }

    /// Turns to another partition, with nothing read of it yet.
    pub(crate) fn turn_to(&mut self, partition: Partition) {
        if self.partition() != partition {
            self.outbox.turn_to(partition);
            self.batch = Batch::default();
        }
    }

    /// Looks whether the work could be done, and leaves it to another process. Returns whether Redis would let it.
    pub(crate) async fn stand_by(&mut self) -> bool {
        self.forget();
        let result = probe::stand_by(&mut self.outbox.session, self.outbox.partition).await;
        let is_well = !matches!(result, Err(Failure::Redis(_) | Failure::Foreign(_)));
        self.note(&result.map(|()| Drained::Idle));
        is_well
    }

    /// Tells operators how a step ended. Only what was really stored, or that there is nothing to store, makes it well
    /// again.
    fn note(&mut self, result: &Result<Drained, Failure>) {
        self.context.progress.made();
        if self.outbox.session.is_of_hidden() {
            return;
        }
        let deferred = &mut self.outbox.deferred;
        let (health, partition) = (&self.context.health, self.outbox.partition);
        health.note_deferred(partition, deferred.summary());
        match result {
            Ok(Drained::Waiting(_)) => {}
            Ok(Drained::Deferred(_)) => {
                deferred.forget_before();
                // Nothing was stored that would show that it is well again.
                health.note_only_deferred(partition);
            }
            Ok(drained) => {
                if *drained == Drained::Idle {
                    deferred.forget_before();
                }
                health.note_drain(partition, None);
                if health.are_all_healthy() {
                    self.context.metrics.redis_up.set(1);
                    self.context.metrics.postgres_up.set(1);
                    self.context.store_failures.note_well();
                    self.context.metrics.postgres_misconfigured.set(0);
                }
            }
            Err(failure) => self.context.note_failure(failure, |health, obstacle| health.note_drain(partition, obstacle)),
        }
    }

    /// Forgets what has been read: the outbox is to be read again from its start.
    fn forget(&mut self) {
        self.batch = Batch::default();
        self.outbox.deferred = std::mem::take(&mut self.outbox.deferred).forgotten();
    }

    async fn try_step(&mut self, urgency: Urgency) -> Result<Drained, Failure> {
        probe::before_step(&mut self.outbox.session, self.outbox.partition).await?;
        // Only now: whoever waits for a node that does not answer is in no other one's way.
        let place = self.outbox.shared.places.take(&self.leaving).await;
        if place.is_none() {
            return Ok(Drained::Waiting(Instant::now()));
        }
        let retried = retry_deferred(&mut self.outbox).await?;
        let limit = self.first_batch();
        if self.batch.entries.is_empty() {
            self.batch = self.outbox.deferred.next_part(self.outbox.session.owned_over);
        }
        if !self.outbox.deferred.is_full() {
            self.batch.read_on(&mut self.outbox.session, self.outbox.partition, limit).await?;
        }
        let (Some(since), Some(last)) = (self.batch.since, self.batch.read_to) else {
            return self.without_batch(retried).await;
        };
        let until = since + self.context.settings.linger;
        // Where something was in the way, it is a stored batch that shows that it is so no more.
        let is_patient = urgency == Urgency::Patient && self.context.health.is_healthy(self.partition());
        if is_patient && self.batch.size < limit && Instant::now() < until {
            return Ok(Drained::Waiting(until));
        }
        let (last, pairs) = self.drain_batches(last).await?;
        if pairs + retried == 0 && !self.deferred().is_empty() {
            return Ok(Drained::Deferred(Instant::now() + DEFERRED_PAUSE));
        }
        Ok(Drained::Stored { last, pairs: pairs + retried })
    }

    /// Returns what a step was that found nothing new in the outbox.
    async fn without_batch(&mut self, retried: usize) -> Result<Drained, Failure> {
        match self.deferred().read_to() {
            Some(last) if retried > 0 => return Ok(Drained::Stored { last, pairs: retried }),
            _ if !self.deferred().is_empty() => return Ok(Drained::Deferred(Instant::now() + DEFERRED_PAUSE)),
            _ => {}
        }
        if !self.context.health.is_healthy(self.partition()) {
            // That nothing is to be stored says nothing about what was in the way.
            probe::prove_stores(&mut self.outbox.session).await?;
        }
        // Looked up anew now and then: somebody may have taken a right away, or an index.
        self.context.database.schema().await?;
        Ok(Drained::Idle)
    }

    /// Returns how many pairs do not wait for more. Where there are many, PostgreSQL begins with these while the first
    /// full batch is read.
    fn first_batch(&self) -> usize {
        self.context.settings.batch_size.min(FIRST_BATCH)
    }

    /// Stores and acknowledges what has been read and, where that is a full batch, some more: while PostgreSQL stores a
    /// batch, the one before it is acknowledged in Redis, and the one behind it is read. `last` is the last entry of
    /// what has been read. Returns the last entry of all batches, and how many pairs were stored and acknowledged.
    async fn drain_batches(&mut self, mut last: EntryId) -> Result<(EntryId, usize), Failure> {
        let mut limit = self.first_batch();
        let mut before: Option<Committed> = None;
        let mut pairs = 0;
        let was_stopping = self.context.stop.is_cancelled();
        for batches_left in (0..MOST_BATCHES).rev() {
            let started = Instant::now();
            if before.is_some() {
                self.outbox.session.check_owner().await?;
            }
            let mut batch = std::mem::take(&mut self.batch);
            let schema = batch.prepare_for(&self.context.database).await?;
            last = batch.read_to.unwrap_or(last);
            let is_stopped_now = self.context.stop.is_cancelled() != was_stopping;
            self.context.metrics.batch_pairs.observe(batch.size as f64);
            let is_leaving = is_stopped_now || self.leaving.is_cancelled();
            let may_go_on = batches_left > 0 && !is_leaving && !self.deferred().is_overdue();
            let goes_on = may_go_on && batch.size >= limit;
            self.batch = batch.behind();
            failpoints::at("drain::before_commit");
            let (committed, acknowledged) = self.store_batch(batch, before.take(), goes_on, &schema).await?;
            // From here on everything is committed.
            failpoints::at("drain::after_commit");
            before = Some(committed);
            pairs += acknowledged;
            self.context.metrics.batches.inc();
            self.context.metrics.batch_seconds.observe(started.elapsed().as_secs_f64());
            limit = self.context.settings.batch_size;
            if !goes_on || self.batch.size < limit {
                break;
            }
        }
        if let Some(mut before) = before {
            acknowledge(&mut self.outbox, &mut before, true).await?;
            pairs += before.acknowledged_pairs;
        }
        Ok((last, pairs))
    }

    /// Stores a batch, and does in Redis meanwhile what can be done. Returns what is to be acknowledged of it, and how
    /// many pairs of the batch before are acknowledged.
    async fn store_batch(
        &mut self,
        batch: Batch,
        before: Option<Committed>,
        goes_on: bool,
        schema: &Schema,
    ) -> Result<(Committed, usize), Failure> {
        // Later pairs of a post that is locked wait behind its first ones, and the batch before this one has shown by
        // now what is locked.
        let locked: HashSet<PostId> = self.deferred().posts().chain(before.iter().flat_map(Committed::locked)).copied().collect();
        let (mut committed, pairs) = Committed::new(batch, &locked);
        #[cfg(feature = "failpoints")]
        mistakes::before_commit(&mut self.outbox, &committed).await?;
        let inserter = self.outbox.shared.inserter.clone();
        let mut insertion = inserter.begin(&pairs, false, None);
        let ((mut outcome, mut is_done), beside) = tokio::join!(insertion.run(), self.work_beside(before, goes_on, schema));
        let acknowledged = beside?;
        loop {
            committed.take(outcome, &pairs);
            match is_done {
                Ok(true) => return Ok((committed, acknowledged)),
                Ok(false) => acknowledge(&mut self.outbox, &mut committed, false).await?,
                Err(error) => {
                    // What is stored is acknowledged, whatever became of the rest.
                    acknowledge(&mut self.outbox, &mut committed, false).await?;
                    return Err(error.into());
                }
            }
            (outcome, is_done) = insertion.run().await;
        }
    }

    /// Does in Redis what can be done while PostgreSQL stores a batch. Returns how many pairs of the batch before are
    /// acknowledged.
    async fn work_beside(&mut self, before: Option<Committed>, goes_on: bool, schema: &Schema) -> Result<usize, Failure> {
        let mut acknowledged = 0;
        if let Some(mut before) = before {
            acknowledge(&mut self.outbox, &mut before, true).await?;
            acknowledged = before.acknowledged_pairs;
        }
        let limit = self.context.settings.batch_size;
        if goes_on && !self.deferred().is_full() {
            self.batch.read_on(&mut self.outbox.session, self.outbox.partition, limit).await?;
            if self.batch.size >= limit && self.batch.fits(schema) {
                self.batch.prepare(schema);
            }
        }
        Ok(acknowledged)
    }
}
