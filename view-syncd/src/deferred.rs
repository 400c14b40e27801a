//! Posts whose pairs wait in the outbox because somebody has locked their rows in PostgreSQL, and the entries that stay there for their sake.
//!
//! All other posts of these entries are stored and acknowledged. Later pairs of a post that is held are held, too: a post is settled from
//! entry to entry, in their order. Nothing of this outlives a failure or the process: then the outbox is read again from its start, and what
//! has been settled of it changes nothing.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use views_core::ids::PostId;
use views_postgres::ledger;

use crate::{
    committed::Committed,
    engine::{Engine, Failure},
    outbox::{Batch, EntryId},
};

/// How often it is looked whether a lock is gone.
const RETRY: Duration = Duration::from_millis(250);
/// A post that was found locked for this long is waited for: others may take its lock again and again, and would never leave a gap.
const STARVING: Duration = Duration::from_secs(1);
/// How long its lock is waited for at first, with nothing else held. Twice as long each time, for there may be a queue of others.
const PATIENCE: Duration = Duration::from_millis(250);
/// The longest such wait. Nothing else is stored meanwhile.
const LONGEST_PATIENCE: Duration = Duration::from_secs(2);
/// The time from one such wait to the next is so many times as long as the wait.
const WAIT_SHARE: u32 = 3;
/// How long a pair may wait for a lock of its own before it is a dead letter, and its post goes on.
const PAIR_PATIENCE: Duration = Duration::from_secs(60);
/// Posts with such a pair are looked at less often, by the time that this takes: everything that the outbox has of them is offered again.
const PAIR_SHARE: u32 = 8;
/// As many of them are looked at together.
const PAIR_POSTS: usize = 50;
/// The longest that what has been held before a failure is remembered.
const MEMORY: Duration = Duration::from_secs(60);
/// What should have been looked at for as long as this has its turn before more is stored.
const OVERDUE: Duration = Duration::from_secs(1);
/// How many entries may stay for the sake of held posts. Past that, no more of the outbox is read.
pub(crate) const MOST_ENTRIES: usize = 1_000_000;

/// Why a post is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeferReason {
    /// Somebody has locked its row.
    Locked,
    /// Somebody has locked what one of its pairs needs.
    PairLocked,
    /// The column of its count is full.
    Full,
}

/// The posts that are held.
#[derive(Debug, Default)]
pub(crate) struct DeferredPosts {
    posts: HashMap<PostId, DeferredPost>,
    /// Entries that stay, and for the sake of how many posts each of them does.
    entries: BTreeMap<EntryId, usize>,
    /// Up to where the outbox has been read and, but for these posts, settled.
    read_to: Option<EntryId>,
    /// By which link.
    link: u64,
    retry_at: Option<Instant>,
    wait_at: Option<Instant>,
    /// Since when posts were held before the outbox was last read from its start, and when that was.
    before: Option<(Instant, HashMap<PostId, Instant>)>,
}

#[derive(Debug, Clone, Copy)]
struct DeferredPost {
    /// The first entry that has pairs of it to be stored.
    first: EntryId,
    since: Instant,
    why: DeferReason,
    /// Since when it waits for that.
    why_since: Instant,
    /// When it is looked at again, where that takes long.
    retry_at: Option<Instant>,
    waited: Option<Instant>,
    patience: Duration,
}

impl DeferredPost {
    fn is_due(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| now >= at)
    }
}

impl DeferredPosts {
    pub(crate) fn is_empty(&self) -> bool {
        self.posts.is_empty()
    }

    /// How many posts are held.
    pub(crate) fn len(&self) -> usize {
        self.posts.len()
    }

    /// The posts that are held.
    pub(crate) fn posts(&self) -> impl Iterator<Item = &PostId> {
        self.posts.keys()
    }

    /// The posts that are held, each with its first entry that is not settled.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = (PostId, EntryId)> {
        self.posts.iter().map(|(post, held)| (*post, held.first))
    }

    /// Up to where the outbox has been read.
    pub(crate) fn read_to(&self) -> Option<EntryId> {
        self.read_to
    }

    /// Whether there is no room for more entries.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= MOST_ENTRIES
    }

    pub(crate) fn holds(&self, post: &PostId) -> bool {
        self.posts.contains_key(post)
    }

    /// Since when the one has been held that has been so for longest, and why.
    pub(crate) fn oldest(&self) -> Option<(Instant, DeferReason)> {
        self.posts.values().map(|held| (held.since, held.why)).min_by_key(|(since, _)| *since)
    }

    /// What is to be gathered next: from the start where nothing is held, for nothing that is there has been settled, and over a certain link.
    pub(crate) fn next_part(&self, link: u64) -> Batch {
        match self.read_to.filter(|_| !self.posts.is_empty()) {
            Some(read_to) => Batch::after(read_to, self.link),
            None => Batch::over(link),
        }
    }

    /// Notes that the outbox is settled up to an entry, but for what is held.
    pub(crate) fn read_up_to(&mut self, entry: EntryId, link: u64) {
        (self.read_to, self.link) = (self.read_to.max(Some(entry)), link);
    }

    /// Notes that a post could not be stored, whose first pair is in that entry.
    pub(crate) fn hold(&mut self, post: PostId, first: EntryId, why: Option<DeferReason>) {
        let now = Instant::now();
        let since = self.before.as_mut().and_then(|(_, posts)| posts.remove(&post)).unwrap_or(now);
        let new = DeferredPost {
            first,
            since,
            why: DeferReason::Locked,
            why_since: now,
            retry_at: None,
            waited: None,
            patience: PATIENCE,
        };
        let held = self.posts.entry(post).or_insert(new);
        if let Some(why) = why.filter(|why| *why != held.why) {
            (held.why, held.why_since) = (why, now);
        }
    }

    /// Forgets everything but since when posts are held: the outbox is read again from its start, and finds those that still are.
    pub(crate) fn forgotten(self) -> Self {
        let (now, mut since) = match self.before {
            Some((at, posts)) if at.elapsed() < MEMORY => (at, posts),
            _ => (Instant::now(), HashMap::new()),
        };
        since.extend(self.posts.into_iter().map(|(post, held)| (post, held.since)));
        Self { before: (!since.is_empty()).then_some((now, since)), ..Self::default() }
    }

    /// Forgets what was held before, once the whole outbox has been read since.
    pub(crate) fn forget_before(&mut self) {
        self.before = None;
    }

    /// Notes that a post is settled up to an entry; for good, where that is all that has been read of it.
    fn settled(&mut self, post: &PostId, read_to: Option<EntryId>) {
        match read_to {
            Some(read_to) => {
                if let Some(held) = self.posts.get_mut(post) {
                    held.first = read_to.next();
                }
            }
            None => {
                self.posts.remove(post);
            }
        }
    }

    /// Notes of an entry how many of its posts are held and how many are settled. Returns whether it is to be deleted.
    pub(crate) fn finish(&mut self, entry: EntryId, held: usize, settled: usize) -> bool {
        match self.entries.get_mut(&entry) {
            Some(left) => {
                *left = left.saturating_sub(settled);
                let is_done = *left == 0;
                if is_done {
                    self.entries.remove(&entry);
                }
                is_done
            }
            None if held > 0 => {
                self.entries.insert(entry, held);
                false
            }
            None => true,
        }
    }

    /// Whether a post has waited for a single pair of its own for so long that the pair is to go.
    pub(crate) fn is_past_patience(&self, post: &PostId) -> bool {
        self.posts.get(post).is_some_and(|held| held.why == DeferReason::PairLocked && held.why_since.elapsed() >= PAIR_PATIENCE)
    }

    /// Whether there are posts that it is time to look at again, and has been for a while.
    pub(crate) fn is_overdue(&self) -> bool {
        !self.is_empty() && self.retry_at.is_none_or(|at| at.elapsed() >= OVERDUE)
    }

    /// Notes that posts were looked at that still wait for locks of their pairs, and how long that took.
    fn looked_at(&mut self, posts: &[PostId], took: Duration) {
        let retry_at = Instant::now() + took * PAIR_SHARE;
        for post in posts {
            if let Some(held) = self.posts.get_mut(post).filter(|held| held.why == DeferReason::PairLocked) {
                held.retry_at = Some(retry_at);
            }
        }
    }

    /// Those of the posts that are to be looked at now, apart by what they wait for.
    fn due(&self) -> (Vec<PostId>, Vec<PostId>) {
        let now = Instant::now();
        let is_pair = |held: &DeferredPost| held.why == DeferReason::PairLocked;
        let posts = self.posts.iter().filter(|(_, held)| !is_pair(held)).map(|(post, _)| *post).collect();
        let mut with_pairs: Vec<(&PostId, &DeferredPost)> =
            self.posts.iter().filter(|(_, held)| is_pair(held) && held.is_due(now)).collect();
        with_pairs.sort_unstable_by_key(|(_, held)| held.retry_at);
        (posts, with_pairs.into_iter().take(PAIR_POSTS).map(|(post, _)| *post).collect())
    }

    /// The post that is to be waited for now, if any, and how long.
    fn starving(&mut self) -> Option<(PostId, Duration)> {
        let now = Instant::now();
        if self.wait_at.is_some_and(|at| now < at) {
            return None;
        }
        let starving = |held: &DeferredPost| held.why == DeferReason::Locked && held.since.elapsed() >= STARVING;
        let (post, held) = self.posts.iter_mut().filter(|(_, held)| starving(held)).min_by_key(|(_, held)| held.waited)?;
        let patience = held.patience;
        held.waited = Some(now);
        held.patience = (patience * 2).min(LONGEST_PATIENCE);
        self.wait_at = Some(now + patience * (1 + WAIT_SHARE));
        Some((*post, patience))
    }
}

impl Engine {
    /// Stores the pairs of held posts whose locks are gone. Returns how many pairs were stored and acknowledged.
    pub(crate) async fn retry_deferred(&mut self) -> Result<usize, Failure> {
        let now = Instant::now();
        if self.deferred.is_empty() || self.deferred.retry_at.is_some_and(|at| now < at) {
            return Ok(0);
        }
        if self.deferred.posts.values().any(|held| held.why == DeferReason::Full) {
            // The column may have been made a larger one.
            self.database.schema_for_refusal().await?;
        }
        let (posts, with_pairs) = self.deferred.due();
        let free: HashSet<PostId> = ledger::unlocked(&self.database, &posts).await?;
        let mut pairs = self.store_deferred(free, None).await?;
        if !with_pairs.is_empty() {
            let started = Instant::now();
            pairs += self.store_deferred(with_pairs.iter().copied().collect(), None).await?;
            self.deferred.looked_at(&with_pairs, started.elapsed());
        }
        if let Some((post, patience)) = self.deferred.starving() {
            pairs += self.store_deferred([post].into(), Some(patience)).await?;
        }
        self.deferred.retry_at = Some(Instant::now() + RETRY);
        Ok(pairs)
    }

    /// Reads what the outbox has of held posts, batch by batch, and stores it as far as that can be done.
    async fn store_deferred(&mut self, mut posts: HashSet<PostId>, patience: Option<Duration>) -> Result<usize, Failure> {
        let mut pairs = 0;
        loop {
            // What an entry has of a post before that is settled, and must not be taken for one more reason to delete the entry.
            let wanted: HashMap<PostId, EntryId> = self.deferred.unsettled().filter(|(post, _)| posts.contains(post)).collect();
            posts.retain(|post| wanted.contains_key(post));
            let Some(until) = self.deferred.read_to.filter(|_| !wanted.is_empty()) else { return Ok(pairs) };
            let mut batch = Batch::of(wanted, until, self.deferred.link);
            batch.read_on(&mut self.line, &self.keys, self.settings.batch_size).await?;
            let schema = self.schema_fitting(&batch).await?;
            batch.prepare(&schema);
            let read_to = (!batch.is_at_end).then_some(batch.read_to).flatten();
            let committed = self.store_deferred_batch(batch, patience).await?;
            pairs += committed.acknowledged;
            posts.retain(|post| !committed.deferred.contains(post));
            for post in &posts {
                self.deferred.settled(post, read_to);
            }
            if read_to.is_none() {
                return Ok(pairs);
            }
            self.checkpoint()?;
        }
    }

    /// Stores and settles one batch of held posts.
    async fn store_deferred_batch(&mut self, batch: Batch, patience: Option<Duration>) -> Result<Committed, Failure> {
        let store = self.store.clone();
        let (mut committed, pairs) = Committed::new(batch, HashSet::new());
        let mut storing = store.begin(&pairs, true, patience);
        loop {
            let result = storing.run().await;
            committed.take(storing.take_finished(), &pairs);
            self.acknowledge(&mut committed, matches!(result, Ok(true))).await?;
            if result? {
                return Ok(committed);
            }
        }
    }
}
