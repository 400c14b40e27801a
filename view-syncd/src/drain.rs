//! One step of the drain: gather a batch from the outbox, store it, and only then settle it in Redis.
//!
//! A crash anywhere repeats work and changes nothing: pairs that are in the ledger are not counted again, and entries that are gone are
//! not acknowledged again.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use indexmap::IndexSet;
use shared::{
    failpoints,
    ids::PostId,
    ledger::{self, Stored},
    postgres::schema::Schema,
};

use crate::{
    dead::DeadLetter,
    engine::{Engine, Failure},
    outbox::{self, Entries, EntryId, Gathered},
    store::Outcome,
};

/// Pairs that are stored without waiting for a full batch.
const FIRST_BATCH: usize = 20_000;
/// Full batches that one step takes. After as many, which is about a minute, the caller has its turn: there may be posts to be scanned.
const MOST_BATCHES: usize = 64;

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
    /// A batch was stored and acknowledged, up to this entry.
    Stored {
        /// The last entry of the batch.
        last: EntryId,
        /// The pairs that were taken out of the outbox.
        pairs: usize,
    },
}

impl Engine {
    /// Takes one step. When it fails, everything is still in the outbox.
    ///
    /// # Errors
    /// [`Failure`]: a store is away.
    pub async fn drain(&mut self, urgency: Urgency) -> Result<Drained, Failure> {
        let result = self.try_drain(urgency).await;
        if result.is_err() {
            // Read again from the start next time: who knows what the outbox looks like when Redis is back.
            self.gathered = Gathered::default();
            self.metrics.drain_failures.inc();
        }
        self.note(&result);
        result
    }

    /// Drains everything that is in the outbox now. What arrives meanwhile may stay, so that this ends under load too.
    ///
    /// # Errors
    /// [`Failure`]: a store is away, or the process is about to stop.
    pub async fn drain_all(&mut self) -> Result<(), Failure> {
        let Some(newest) = outbox::newest(&self.redis, &self.keys).await? else { return Ok(()) };
        loop {
            match self.drain(Urgency::AtOnce).await? {
                Drained::Stored { last, .. } if last < newest => self.go_on()?,
                _ => return Ok(()),
            }
        }
    }

    async fn try_drain(&mut self, urgency: Urgency) -> Result<Drained, Failure> {
        if self.health.obstacle().is_some() || self.watch.is_clustered() {
            // What can only be read would be stored, never acknowledged, and stored again.
            self.watch.writable(&self.redis).await?;
        }
        self.check_owner().await?;
        self.metrics.outbox_entries.set(outbox::length(&self.redis, &self.keys).await?);
        let limit = self.first_batch();
        if self.gathered.entries.is_empty() {
            // From the start: nothing that is there has been settled.
            self.gathered = Gathered::over(self.owned);
        }
        self.gathered.read_on(&mut self.line, &self.keys, limit).await?;
        if self.health.obstacle().is_some() {
            // Nothing to store would say nothing about PostgreSQL, and the obstacle would seem to be gone.
            self.database.ping().await?;
            self.database.schema().await?;
        }
        let (Some(since), Some(last)) = (self.gathered.since, self.gathered.entries.last()) else {
            return Ok(Drained::Idle);
        };
        let until = since + self.settings.linger;
        if urgency == Urgency::Patient && self.gathered.size < limit && Instant::now() < until {
            return Ok(Drained::Waiting(until));
        }
        self.drain_batches(last).await
    }

    /// How many pairs do not wait for more. Where there are many, PostgreSQL begins with these while the first full batch is read.
    fn first_batch(&self) -> usize {
        self.settings.batch_size.min(FIRST_BATCH)
    }

    /// Stores and settles what has been gathered and, where that is a full batch, some more: while PostgreSQL stores a batch, the one before
    /// it is settled in Redis, and the one behind it is read. `last` is the last entry of what has been gathered.
    async fn drain_batches(&mut self, mut last: EntryId) -> Result<Drained, Failure> {
        let mut limit = self.first_batch();
        let schema = self.database.schema().await?;
        let mut before: Option<Committed> = None;
        let mut pairs = 0;
        let was_stopping = self.stop.is_requested();
        for batches_left in (0..MOST_BATCHES).rev() {
            let started = Instant::now();
            if before.is_some() {
                self.check_owner().await?;
            }
            let mut batch = std::mem::take(&mut self.gathered);
            batch.prepare(&schema);
            last = batch.entries.last().unwrap_or(last);
            pairs += batch.size;
            let goes_on = batch.size >= limit && batches_left > 0 && self.stop.is_requested() == was_stopping;
            self.gathered = batch.behind();
            if failpoints::is_broken(failpoints::ACK_BEFORE_COMMIT) {
                self.acknowledge(&batch.entries, batch.pairs.posts(), batch.link, &HashMap::new()).await?;
            }
            failpoints::at("drain::before_commit");
            let store = self.store.clone();
            let (outcome, beside) = tokio::join!(store.run(&batch.pairs), self.work_beside(before.take(), goes_on, &schema));
            let outcome = outcome?;
            // From here on everything is committed.
            failpoints::at("drain::after_commit");
            before = Some(Committed::new(batch, outcome));
            beside?;
            self.metrics.batches.inc();
            self.metrics.batch_seconds.observe(started.elapsed().as_secs_f64());
            limit = self.settings.batch_size;
            if !goes_on || self.gathered.size < limit {
                break;
            }
        }
        if let Some(before) = before {
            self.settle(before).await?;
        }
        Ok(Drained::Stored { last, pairs })
    }

    /// What is done in Redis while PostgreSQL stores a batch.
    async fn work_beside(&mut self, before: Option<Committed>, goes_on: bool, schema: &Schema) -> Result<(), Failure> {
        if let Some(before) = before {
            self.settle(before).await?;
        }
        if goes_on {
            self.gathered.read_on(&mut self.line, &self.keys, self.settings.batch_size).await?;
            if self.gathered.size >= self.settings.batch_size {
                self.gathered.prepare(schema);
            }
        }
        Ok(())
    }

    /// Settles in Redis what is committed: the counts, the entries, the dead.
    async fn settle(&mut self, committed: Committed) -> Result<(), Failure> {
        let Committed { entries, posts, link, size, dead, stored } = committed;
        let mut views: HashMap<PostId, i64> = HashMap::with_capacity(stored.len());
        let mut added = 0;
        for (post, stored) in stored {
            views.insert(post, stored.views);
            added += stored.added.unsigned_abs();
            if stored.added > 0 {
                self.changed(post, stored.views);
            }
        }
        let missing = self.missing(&posts, &dead, &mut views).await?;
        // The dead before the deletion of their entries: none may be lost. The keys after it: what is deleted brings no key back.
        self.bury(&dead).await?;
        self.acknowledge(&entries, &posts, link, &views).await?;
        self.metrics.outbox_entries.dec_by(i64::try_from(entries.len()).unwrap_or(i64::MAX));
        self.remove_posts(&missing.iter().copied().collect::<Vec<_>>()).await?;
        failpoints::at("publish::before");
        self.publish().await;

        let unknown = entries.named().iter().filter(|post| missing.contains(&posts[**post as usize])).count() as u64;
        self.metrics.new.inc_by(added);
        self.metrics.unknown_post.inc_by(unknown);
        self.metrics.known.inc_by((size as u64).saturating_sub(added + unknown + dead.len() as u64));
        Ok(())
    }

    /// The posts that do not exist. Those of which every pair is dead were in no statement, so their counts are looked up.
    async fn missing(
        &self,
        posts: &IndexSet<PostId>,
        dead: &[DeadLetter],
        views: &mut HashMap<PostId, i64>,
    ) -> Result<HashSet<PostId>, Failure> {
        let mut missing: HashSet<PostId> = posts.iter().filter(|post| !views.contains_key(*post)).copied().collect();
        if !missing.is_empty() && !dead.is_empty() {
            let buried: HashSet<&[u8]> = dead.iter().map(|letter| &*letter.post).collect();
            let unasked: Vec<PostId> = missing.iter().filter(|post| buried.contains(post.as_str().as_bytes())).copied().collect();
            let counts = if unasked.is_empty() { HashMap::new() } else { ledger::counts(&self.database, &unasked).await? };
            for (post, count) in counts {
                missing.remove(&post);
                views.insert(post, count);
            }
        }
        Ok(missing)
    }
}

/// A batch that PostgreSQL has committed. The pairs themselves are forgotten.
struct Committed {
    entries: Entries,
    /// The posts, by their places.
    posts: IndexSet<PostId>,
    /// By which link the entries were read.
    link: u64,
    /// Pairs in the entries, dead ones too.
    size: usize,
    dead: Vec<DeadLetter>,
    /// What PostgreSQL says of the posts that exist.
    stored: HashMap<PostId, Stored>,
}

impl Committed {
    fn new(batch: Gathered, outcome: Outcome) -> Self {
        let Gathered { entries, pairs, mut dead, link, size, .. } = batch;
        dead.extend(outcome.dead);
        Self { entries, posts: pairs.into_posts(), link, size, dead, stored: outcome.posts }
    }
}
