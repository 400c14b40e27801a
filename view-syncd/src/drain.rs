//! One step of the drain: gather a batch from the outbox, store it, and only then acknowledge it.
//!
//! A crash anywhere repeats work and changes nothing: pairs that are in the ledger are not counted again, and entries that are gone are
//! not acknowledged again.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering::SeqCst,
    time::Instant,
};

use shared::{
    failpoints,
    ids::PostId,
    ledger::{self, Pair},
    postgres::schema::Schema,
};

use crate::{
    dead::DeadLetter,
    engine::{Engine, Failure},
    outbox::{self, Entry, EntryId, Gathered},
};

/// Why a viewer is dead whose id is one, but not one of this application's.
pub(crate) const VIEWER_DOES_NOT_FIT: &str = "the viewer's id does not fit the column's type";

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
        let Some(newest) = outbox::newest(&self.redis).await? else { return Ok(()) };
        loop {
            match self.drain(Urgency::AtOnce).await? {
                Drained::Stored { last, .. } if last < newest => self.go_on()?,
                _ => return Ok(()),
            }
        }
    }

    async fn try_drain(&mut self, urgency: Urgency) -> Result<Drained, Failure> {
        if self.health.obstacle().is_some() {
            // What can only be read would be stored, never acknowledged, and stored again.
            self.watch.writable(&self.redis).await?;
        }
        let length = outbox::length(&self.redis).await?;
        self.metrics.outbox_entries.set(length);
        let limit = self.settings.batch_size;
        if self.gathered.entries.is_empty() {
            // From the start: nothing that is there has been settled.
            self.gathered = Gathered::default();
            self.gathered.connection = self.connections.load(SeqCst);
        }
        self.gathered.read_on(&self.redis, limit).await?;
        if self.health.obstacle().is_some() {
            // Nothing to store would say nothing about PostgreSQL, and the obstacle would seem to be gone.
            self.database.ping().await?;
            self.database.schema().await?;
        }
        let (Some(since), Some(last)) = (self.gathered.since, self.gathered.entries.last()) else {
            return Ok(Drained::Idle);
        };
        let last = last.id;
        let until = since + self.settings.linger;
        if urgency == Urgency::Patient && self.gathered.pairs < limit && Instant::now() < until {
            return Ok(Drained::Waiting(until));
        }
        let gathered = std::mem::take(&mut self.gathered);
        let started = Instant::now();
        // Where there is more, Redis is read while PostgreSQL writes.
        let mut next = gathered.behind();
        let (redis, more) = (self.redis.clone(), if gathered.pairs < limit { 0 } else { limit });
        let (settled, read) = tokio::join!(self.settle(&gathered), next.read_on(&redis, more));
        settled?;
        read?;
        self.gathered = next;
        self.metrics.outbox_entries.set((length - gathered.entries.len() as i64).max(0));
        self.metrics.batches.inc();
        self.metrics.batch_seconds.observe(started.elapsed().as_secs_f64());
        Ok(Drained::Stored { last, pairs: gathered.pairs })
    }

    /// Stores entries, then acknowledges them.
    async fn settle(&mut self, gathered: &Gathered) -> Result<(), Failure> {
        let entries = &gathered.entries;
        let schema = self.database.schema().await?;
        let (pairs, mut dead) = sort(entries, &schema);
        if failpoints::is_broken(failpoints::ACK_BEFORE_COMMIT) {
            self.acknowledge(gathered, &HashMap::new()).await?;
        }
        failpoints::at("drain::before_commit");
        let outcome = self.store(&pairs).await?;
        // From here on everything is committed.
        failpoints::at("drain::after_commit");
        self.still_connected(gathered.connection)?;
        dead.extend(outcome.dead);
        let mut views: HashMap<PostId, i64> = HashMap::with_capacity(outcome.posts.len());
        let mut added = 0;
        for (post, stored) in outcome.posts {
            views.insert(post, stored.views);
            added += stored.added.unsigned_abs();
            if stored.added > 0 {
                self.changed(post, stored.views);
            }
        }
        let missing = self.missing(entries, &dead, &mut views).await?;
        // The dead before the deletion of their entries: none may be lost. The keys after it: what is deleted brings no key back.
        self.bury(&dead).await?;
        self.acknowledge(gathered, &views).await?;
        self.remove_posts(&missing.iter().copied().collect::<Vec<_>>()).await?;
        failpoints::at("publish::before");
        self.publish().await;

        let posts = entries.iter().flat_map(|entry| &entry.posts);
        let unknown: u64 = posts.filter(|(post, _)| missing.contains(*post)).map(|(_, pairs)| *pairs as u64).sum();
        self.metrics.new.inc_by(added);
        self.metrics.unknown_post.inc_by(unknown);
        self.metrics.known.inc_by((gathered.pairs as u64).saturating_sub(added + unknown + dead.len() as u64));
        Ok(())
    }

    /// The posts that do not exist. Those of which every pair is dead were in no statement, so their counts are looked up.
    async fn missing(
        &self,
        entries: &[Entry],
        dead: &[DeadLetter],
        views: &mut HashMap<PostId, i64>,
    ) -> Result<HashSet<PostId>, Failure> {
        let posts = entries.iter().flat_map(|entry| entry.posts.keys());
        let mut missing: HashSet<PostId> = posts.filter(|post| !views.contains_key(*post)).copied().collect();
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

/// Sorts out what can be stored and what never can. A post whose id does not fit the column does not exist: its pairs are in neither.
fn sort(entries: &[Entry], schema: &Schema) -> (Vec<Pair>, Vec<DeadLetter>) {
    let mut pairs = Vec::with_capacity(entries.iter().map(|entry| entry.pairs.len()).sum());
    let mut dead = Vec::new();
    for entry in entries {
        dead.extend(entry.dead.iter().cloned());
        for pair in entry.pairs.iter().filter(|pair| schema.post_type.accepts(pair.post.as_str())) {
            if schema.viewer_type.accepts(pair.viewer.as_str()) {
                pairs.push(*pair);
            } else {
                dead.push(DeadLetter::new(pair, VIEWER_DOES_NOT_FIT));
            }
        }
    }
    ledger::prepare(&mut pairs);
    (pairs, dead)
}
