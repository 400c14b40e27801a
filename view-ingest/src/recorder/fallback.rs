//! Redis away: views go straight into PostgreSQL, by the drain's own way, a batch at a time (section 6 of the design).
//!
//! A post that somebody has locked there, and a view that PostgreSQL refuses, fail by themselves. What was stored this way, Redis does not know.
//! The posts are remembered, and each is brought up to date in Redis before Redis is believed about it again.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    time::{Duration, Instant},
};

use shared::{
    failpoints,
    ids::{PostId, ViewerId},
    ledger::{self, Pair},
    postgres::{
        Database, DatabaseError,
        insert::{Insert, Options, Outcome as Inserted},
        schema::Schema,
    },
};

use super::{Outcome, Status, Stores, Unavailable, batch::Group, tickets::Tickets};

/// Posts and viewers that are remembered at most, per recorder. What an outage touches beyond that is brought up to date by the scan.
const MAX_REMEMBERED: usize = 200_000;
/// How long views may be searched for that PostgreSQL refuses. Whoever is not done by then is told to come again.
const SEARCH_TIME: Duration = Duration::from_millis(1_500);
/// How long the lock on a post is waited for, with nothing else held.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);
/// How long locks are waited for in one batch. The next one waits behind it.
const LOCKS_TIME: Duration = Duration::from_millis(300);
/// No post has so few views that this look-up brings its viewers along.
const WITHOUT_VIEWERS: i64 = -1;

/// What was stored in PostgreSQL while Redis was away.
#[derive(Default)]
pub(super) struct Bypassed {
    posts: HashMap<PostId, Missed>,
    remembered: usize,
    /// Grows with each outage's write, so that a refresh that began before it does not count as having seen it.
    generation: u64,
    /// Whether it has been said that there is no room for more. A long outage would say it with every post.
    overflowed: bool,
}

/// What Redis has missed of a post.
#[derive(Debug, Clone, Default)]
pub(super) struct Missed {
    pub(super) generation: u64,
    pub(super) viewers: Vec<ViewerId>,
}

impl Bypassed {
    pub(super) fn is_empty(&self) -> bool {
        self.posts.is_empty()
    }

    pub(super) fn get(&self, post: &PostId) -> Option<&Missed> {
        self.posts.get(post)
    }

    /// Some of the posts, to be brought up to date.
    pub(super) fn some(&self, number: usize) -> Vec<PostId> {
        self.posts.keys().take(number).copied().collect()
    }

    /// Redis knows of a post what was missed up to a generation.
    pub(super) fn refreshed(&mut self, post: &PostId, generation: u64) {
        if self.posts.get(post).is_some_and(|missed| missed.generation == generation)
            && let Some(missed) = self.posts.remove(post)
        {
            self.remembered -= 1 + missed.viewers.len();
            self.overflowed = false;
        }
    }

    fn add(&mut self, post: PostId, viewers: &[ViewerId]) {
        let known = self.posts.contains_key(&post);
        let more = viewers.len() + usize::from(!known);
        if self.remembered + more > MAX_REMEMBERED {
            // Without its viewers a post is still worth remembering; without room, not even that.
            if !known && !std::mem::replace(&mut self.overflowed, true) {
                tracing::warn!(%post, "too many posts were viewed past Redis: from this one on their counts lag until the next scan");
            }
            return;
        }
        self.generation += 1;
        self.remembered += more;
        let missed = self.posts.entry(post).or_default();
        missed.generation = self.generation;
        missed.viewers.extend_from_slice(viewers);
    }
}

/// What PostgreSQL says of a post.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    views: i64,
    author: String,
    /// The viewers whose view was new.
    new: Vec<ViewerId>,
    /// The viewers whose view it does not take now.
    refused: Vec<ViewerId>,
}

/// What became of the posts of a batch.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    known: HashMap<PostId, Verdict>,
    missing: HashSet<PostId>,
    /// Posts that somebody has locked.
    locked: HashSet<PostId>,
}

impl Verdicts {
    /// Whether nothing more is to be said of a post for now.
    fn is_decided(&self, post: &PostId) -> bool {
        !self.locked.contains(post)
    }

    fn take(&mut self, pairs: &[Pair], inserted: Inserted) {
        for (post, stored) in inserted.stored {
            let verdict = self.known.entry(post).or_default();
            (verdict.views, verdict.author) = (stored.views, stored.author);
            verdict.new.extend(stored.new);
        }
        for refused in &inserted.refused {
            if let Some(pair) = pairs.get(refused.place) {
                self.known.entry(pair.post).or_default().refused.push(pair.viewer);
            }
        }
        self.missing.extend(inserted.missing);
        self.locked.extend(inserted.held.into_keys());
    }
}

/// A batch on its way into PostgreSQL.
pub(super) struct Fallback<'a> {
    stores: &'a Stores,
    database: &'a Database,
    groups: &'a [Group],
    pairs: Vec<Pair>,
    verdicts: Verdicts,
}

impl<'a> Fallback<'a> {
    pub(super) fn new(stores: &'a Stores, database: &'a Database, groups: &'a [Group]) -> Self {
        Self { stores, database, groups, pairs: Vec::new(), verdicts: Verdicts::default() }
    }

    /// Stores and reads what Redis did not take, and remembers what Redis has missed. Returns whether PostgreSQL is there and takes views.
    pub(super) async fn store(&mut self, bypassed: &mut Bypassed) -> bool {
        failpoints::at("fallback::before");
        let result = self.try_store().await;
        failpoints::at("fallback::after");
        for (post, verdict) in self.verdicts.known.iter().filter(|(_, verdict)| !verdict.new.is_empty()) {
            bypassed.add(*post, &verdict.new);
        }
        result.map_err(|error| self.stores.health.complain("neither Redis nor PostgreSQL takes views", &error)).is_ok()
    }

    async fn try_store(&mut self) -> Result<(), DatabaseError> {
        let fits = |group: &Group, schema: &Schema| {
            schema.accepts_post(&group.post) && group.viewers.iter().all(|viewer| schema.accepts_viewer(&viewer.id))
        };
        let schema = self.database.schema_that(|schema| self.groups.iter().all(|group| fits(group, schema))).await?;
        let at_ms = now_ms();
        let mut only_read = Vec::new();
        for group in self.groups.iter().filter(|group| !self.stores.unknown.contains_key(&group.post)) {
            let storable = group.viewers.iter().filter(|viewer| schema.accepts_viewer(&viewer.id));
            let before = self.pairs.len();
            if schema.accepts_post(&group.post) {
                self.pairs.extend(storable.map(|viewer| Pair { post: group.post, viewer: viewer.id, at_ms }));
            }
            if self.pairs.len() == before {
                only_read.push(group.post);
            }
        }
        self.read(&only_read).await?;
        ledger::prepare(&mut self.pairs);
        let options = Options { names_new: true, ..Options::default() };
        let mut insert = Insert::new(self.database, &self.pairs, 0..self.pairs.len(), options);
        let result = insert.run(Some(Instant::now() + SEARCH_TIME), || ()).await;
        let inserted = insert.take_finished();
        self.verdicts.take(&self.pairs, inserted);
        self.read_refused().await?;
        result.map(drop)
    }

    /// Looks up posts of which only the count is wanted.
    async fn read(&mut self, posts: &[PostId]) -> Result<(), DatabaseError> {
        if posts.is_empty() {
            return Ok(());
        }
        let mut known = ledger::look_up(self.database, posts, WITHOUT_VIEWERS).await?;
        for post in posts {
            match known.remove(post) {
                Some(known) => {
                    let verdict = self.verdicts.known.entry(*post).or_default();
                    (verdict.views, verdict.author) = (known.views, known.author);
                }
                None => drop(self.verdicts.missing.insert(*post)),
            }
        }
        Ok(())
    }

    /// Looks up the posts of which every view was refused: their author's own views and their counts are told all the same.
    async fn read_refused(&mut self) -> Result<(), DatabaseError> {
        let refused = self.verdicts.known.iter().filter(|(_, verdict)| !verdict.refused.is_empty() && verdict.author.is_empty());
        let refused: Vec<PostId> = refused.map(|(post, _)| *post).collect();
        self.read(&refused).await
    }

    /// Whether some posts are locked by others.
    pub(super) fn has_locked(&self) -> bool {
        !self.verdicts.locked.is_empty()
    }

    /// Waits a moment for the locks of posts, one after the other, and stores their views.
    pub(super) async fn store_locked(&mut self, bypassed: &mut Bypassed) {
        let until = Instant::now() + LOCKS_TIME;
        let mut left = Vec::new();
        for post in std::mem::take(&mut self.verdicts.locked) {
            if Instant::now() >= until {
                left.push(post);
                continue;
            }
            let Range { start, end } = self.pairs_of(&post);
            let options = Options { names_new: true, patience: Some(LOCK_PATIENCE), ..Options::default() };
            let mut insert = Insert::new(self.database, &self.pairs, start..end, options);
            if let Err(error) = insert.run(Some(until), || ()).await {
                self.stores.health.complain("PostgreSQL does not take the views of a post that others have locked", &error);
            }
            let inserted = insert.take_finished();
            self.verdicts.take(&self.pairs, inserted);
            if let Some(verdict) = self.verdicts.known.get(&post).filter(|verdict| !verdict.new.is_empty()) {
                bypassed.add(post, &verdict.new);
            }
        }
        left.extend(std::mem::take(&mut self.verdicts.locked));
        // Whoever only reads is told the count; whoever views is told to come again.
        if let Err(error) = self.read(&left).await {
            self.stores.health.complain("cannot read the counts of posts that others have locked", &error);
        }
        for post in left {
            let refused: Vec<ViewerId> = self.pairs[self.pairs_of(&post)].iter().map(|pair| pair.viewer).collect();
            if let Some(verdict) = self.verdicts.known.get_mut(&post) {
                verdict.refused = refused;
            }
        }
    }

    fn pairs_of(&self, post: &PostId) -> Range<usize> {
        let start = self.pairs.partition_point(|pair| pair.post < *post);
        start..self.pairs.partition_point(|pair| pair.post <= *post)
    }

    /// Answers everyone of whose post it is known what became of it. Returns the rest.
    pub(super) fn answer(&self, groups: Vec<&'a Group>, tickets: &mut Tickets) -> Vec<&'a Group> {
        let (decided, rest) = groups.into_iter().partition(|group: &&Group| self.verdicts.is_decided(&group.post));
        for group in decided {
            self.answer_one(group, tickets);
        }
        rest
    }

    fn answer_one(&self, group: &Group, tickets: &mut Tickets) {
        let Self { stores, verdicts, .. } = self;
        if let Some(verdict) = verdicts.known.get(&group.post) {
            settle(group, verdict, stores, tickets);
        } else if verdicts.missing.contains(&group.post) {
            stores.remember_unknown(group.post);
            super::refuse(&group.items, stores, tickets);
        } else if stores.unknown.contains_key(&group.post) {
            super::refuse(&group.items, stores, tickets);
        } else {
            super::batch::fail(group, tickets, &stores.metrics);
        }
    }
}

fn settle(group: &Group, verdict: &Verdict, stores: &Stores, tickets: &mut Tickets) {
    let mut new = verdict.new.clone();
    for item in &group.items {
        let viewer = tickets.subject(item).and_then(|(_, viewer)| viewer);
        let status = match viewer {
            // Nobody knew at the door. The next try is told.
            Some(viewer) if !stores.can_hold(viewer) => Err(Unavailable),
            Some(viewer) => status(viewer, verdict, &mut new),
            None => Ok(Status::Read),
        };
        match status {
            Ok(status) => {
                stores.metrics.count(status);
                tickets.settle(item, Ok(Outcome { status, views: verdict.views }));
            }
            Err(Unavailable) => {
                stores.metrics.failed.inc();
                tickets.settle(item, Err(Unavailable));
            }
        }
    }
    stores.metrics.bypassed.inc_by(verdict.new.len() as u64);
}

fn status(viewer: &ViewerId, verdict: &Verdict, new: &mut Vec<ViewerId>) -> Result<Status, Unavailable> {
    if verdict.author == viewer.as_str() {
        return Ok(Status::Own);
    }
    if verdict.refused.contains(viewer) {
        return Err(Unavailable);
    }
    Ok(match new.iter().position(|candidate| candidate == viewer) {
        Some(place) => {
            new.swap_remove(place);
            Status::Counted
        }
        None => Status::Duplicate,
    })
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
