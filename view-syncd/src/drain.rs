//! One step of the drain: gather a batch from the outbox, store it, and only then settle it in Redis.
//!
//! It waits for nobody: what others have locked in PostgreSQL is left for later (see `held.rs`), and everything else is stored.
//! A crash anywhere repeats work and changes nothing: pairs that are in the ledger are not counted again, and entries that are gone are
//! not acknowledged again.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use views_core::{failpoints, ids::PostId};
use views_postgres::schema::Schema;

use crate::{
    acknowledge::places_of,
    committed::Committed,
    engine::{Engine, Failure},
    outbox::{self, Batch, EntryId},
};

/// Pairs that are stored without waiting for a full batch.
const FIRST_BATCH: usize = 20_000;
/// Full batches that one step takes. After as many, which is about a minute, the caller has its turn: there may be posts to be scanned.
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

impl Engine {
    /// Takes one step. When it fails, everything that was not acknowledged is still in the outbox.
    ///
    /// # Errors
    /// [`Failure`]: a store is away.
    pub async fn drain(&mut self, urgency: Urgency) -> Result<Drained, Failure> {
        let result = self.try_drain(urgency).await;
        if result.is_err() {
            // Read again from the start next time: who knows what the outbox looks like when Redis is back.
            self.forget_outbox();
            self.metrics.drain_failures.inc();
        }
        self.note_drained(&result);
        result
    }

    /// Drains everything that is in the outbox now, but for what others have locked. What arrives meanwhile may stay, so that this ends under
    /// load too.
    ///
    /// # Errors
    /// [`Failure`]: a store is away, or the process is about to stop.
    pub async fn drain_all(&mut self) -> Result<(), Failure> {
        let Some(newest) = outbox::newest(&self.redis, &self.keys).await? else { return Ok(()) };
        loop {
            match self.drain(Urgency::AtOnce).await? {
                Drained::Stored { last, .. } if last < newest => self.checkpoint()?,
                _ => return Ok(()),
            }
        }
    }

    async fn try_drain(&mut self, urgency: Urgency) -> Result<Drained, Failure> {
        if !self.is_healthy() {
            // What can only be read would be stored, never acknowledged, and stored again.
            self.watch.writable(&self.redis).await?;
        }
        // First: how long views have waited is told also where nothing else can be done.
        self.measure_outbox().await?;
        self.check_owner().await?;
        let retried = self.retry_deferred().await?;
        self.retry_dead_letters_when_due().await?;
        let limit = self.first_batch();
        if self.batch.entries.is_empty() {
            self.batch = self.deferred.next_part(self.owned);
        }
        if !self.deferred.is_full() {
            self.batch.read_on(&mut self.line, &self.keys, limit).await?;
        }
        let (Some(since), Some(last)) = (self.batch.since, self.batch.entries.last()) else {
            return self.without_batch(retried).await;
        };
        let until = since + self.settings.linger;
        // Where something was in the way, it is a stored batch that shows that it is so no more.
        let is_patient = urgency == Urgency::Patient && self.health.is_healthy();
        if is_patient && self.batch.size < limit && Instant::now() < until {
            return Ok(Drained::Waiting(until));
        }
        let (last, pairs) = self.drain_batches(last).await?;
        if pairs + retried == 0 && !self.deferred.is_empty() {
            return Ok(Drained::Deferred(Instant::now() + DEFERRED_PAUSE));
        }
        Ok(Drained::Stored { last, pairs: pairs + retried })
    }

    /// What a step was that found nothing new in the outbox.
    async fn without_batch(&mut self, retried: usize) -> Result<Drained, Failure> {
        match self.deferred.read_to() {
            Some(last) if retried > 0 => return Ok(Drained::Stored { last, pairs: retried }),
            _ if !self.deferred.is_empty() => return Ok(Drained::Deferred(Instant::now() + DEFERRED_PAUSE)),
            _ => {}
        }
        if !self.health.is_healthy() {
            // That nothing is to be stored says nothing about what was in the way.
            self.prove_stores().await?;
        }
        // Looked up anew now and then: somebody may have taken a right away, or an index.
        self.database.schema().await?;
        Ok(Drained::Idle)
    }

    /// How many pairs do not wait for more. Where there are many, PostgreSQL begins with these while the first full batch is read.
    fn first_batch(&self) -> usize {
        self.settings.batch_size.min(FIRST_BATCH)
    }

    /// What the tables look like, looked up anew where an id seems not to fit: the application may have given a column another type.
    pub(crate) async fn schema_fitting(&self, batch: &Batch) -> Result<Arc<Schema>, Failure> {
        let schema = self.database.schema().await?;
        if batch.fits(&schema) { Ok(schema) } else { Ok(self.database.schema_to_give_up().await?) }
    }

    /// Stores and settles what has been gathered and, where that is a full batch, some more: while PostgreSQL stores a batch, the one before
    /// it is settled in Redis, and the one behind it is read. `last` is the last entry of what has been gathered. Returns the last entry of all
    /// batches, and how many pairs were stored and acknowledged.
    async fn drain_batches(&mut self, mut last: EntryId) -> Result<(EntryId, usize), Failure> {
        let mut limit = self.first_batch();
        let mut before: Option<Committed> = None;
        let mut pairs = 0;
        let was_stopping = self.stop.is_requested();
        for batches_left in (0..MOST_BATCHES).rev() {
            let started = Instant::now();
            if before.is_some() {
                self.check_owner().await?;
            }
            let mut batch = std::mem::take(&mut self.batch);
            let schema = self.schema_fitting(&batch).await?;
            batch.prepare(&schema);
            last = batch.entries.last().unwrap_or(last);
            let may_go_on = batches_left > 0 && self.stop.is_requested() == was_stopping && !self.deferred.is_overdue();
            let goes_on = may_go_on && batch.size >= limit;
            self.batch = batch.behind();
            failpoints::at("drain::before_commit");
            let (committed, settled) = self.store_batch(batch, before.take(), goes_on, &schema).await?;
            // From here on everything is committed.
            failpoints::at("drain::after_commit");
            before = Some(committed);
            pairs += settled;
            self.metrics.batches.inc();
            self.metrics.batch_seconds.observe(started.elapsed().as_secs_f64());
            limit = self.settings.batch_size;
            if !goes_on || self.batch.size < limit {
                break;
            }
        }
        if let Some(before) = before {
            pairs += self.acknowledge_all(before).await?;
        }
        Ok((last, pairs))
    }

    /// Stores a batch, and does in Redis meanwhile what can be done. Returns what is to be settled of it, and how many pairs of the batch before
    /// are settled.
    async fn store_batch(
        &mut self,
        batch: Batch,
        before: Option<Committed>,
        goes_on: bool,
        schema: &Schema,
    ) -> Result<(Committed, usize), Failure> {
        // Later pairs of a post that is locked wait behind its first ones, and the batch before this one has shown by now what is locked.
        let locked: HashSet<PostId> = self.deferred.posts().chain(before.iter().flat_map(Committed::locked)).copied().collect();
        let left_out = places_of(batch.pairs.posts(), locked.iter());
        let (mut committed, pairs) = Committed::new(batch, left_out);
        if failpoints::is_broken(failpoints::ACK_BEFORE_COMMIT) {
            let entries = committed.entry_ids();
            self.delete_entries(&entries, committed.link).await?;
            failpoints::at("drain::too_early");
        }
        let store = self.store.clone();
        let mut storing = store.begin(&pairs, false, None);
        let (mut result, beside) = tokio::join!(storing.run(), self.work_beside(before, goes_on, schema));
        let settled = beside?;
        loop {
            committed.take(storing.take_finished(), &pairs);
            match result {
                Ok(true) => return Ok((committed, settled)),
                Ok(false) => self.acknowledge(&mut committed, false).await?,
                Err(error) => {
                    // What is stored is acknowledged, whatever became of the rest.
                    self.acknowledge(&mut committed, false).await?;
                    return Err(error.into());
                }
            }
            result = storing.run().await;
        }
    }

    /// What is done in Redis while PostgreSQL stores a batch. Returns how many pairs of the batch before are settled.
    async fn work_beside(&mut self, before: Option<Committed>, goes_on: bool, schema: &Schema) -> Result<usize, Failure> {
        let settled = match before {
            Some(before) => self.acknowledge_all(before).await?,
            None => 0,
        };
        if goes_on && !self.deferred.is_full() {
            self.batch.read_on(&mut self.line, &self.keys, self.settings.batch_size).await?;
            if self.batch.size >= self.settings.batch_size && self.batch.fits(schema) {
                self.batch.prepare(schema);
            }
        }
        Ok(settled)
    }

    async fn acknowledge_all(&mut self, mut batch: Committed) -> Result<usize, Failure> {
        self.acknowledge(&mut batch, true).await?;
        Ok(batch.acknowledged)
    }
}
