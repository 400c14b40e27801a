//! Posts whose pairs wait in the outbox because somebody has locked their rows in PostgreSQL, and the entries that stay
//! there for their sake.
//!
//! All other posts of these entries are stored and acknowledged. Later pairs of a post that is deferred are deferred,
//! too: a post is acknowledged from entry to entry, in their order. Nothing of this outlives a failure or the process:
//! then the outbox is read again from its start, and what has been acknowledged of it changes nothing.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use views_core::ids::PostId;

use super::batch::Batch;
use crate::{context::health::DeferredSummary, entry_id::EntryId};

/// How often it is looked whether a lock is gone.
const RETRY: Duration = Duration::from_millis(250);
/// A post that was found locked for this long is waited for: others may take its lock again and again, and would never
/// leave a gap.
const STARVING: Duration = Duration::from_secs(1);
/// How long its lock is waited for at first, with nothing else held. Twice as long each time, for there may be a queue
/// of others.
const PATIENCE: Duration = Duration::from_millis(250);
/// The longest such wait. Nothing else is stored meanwhile.
const LONGEST_PATIENCE: Duration = Duration::from_secs(2);
/// The time from one such wait to the next is so many times as long as the wait.
const WAIT_SHARE: u32 = 3;
/// How long a pair may wait for a lock of its own before it is a dead letter, and its post goes on.
const PAIR_PATIENCE: Duration = Duration::from_secs(60);
/// Posts with such a pair are looked at less often, by the time that this takes: everything that the outbox has of them
/// is offered again.
const PAIR_SHARE: u32 = 8;
/// As many of them are looked at together.
const PAIR_POSTS: usize = 50;
/// The longest that what has been deferred before a failure is remembered.
const MEMORY: Duration = Duration::from_secs(60);
/// What should have been looked at for as long as this has its turn before more is stored.
const OVERDUE: Duration = Duration::from_secs(1);
/// How many entries may stay for the sake of deferred posts. Past that, no more of the outbox is read.
const MOST_ENTRIES: usize = 1_000_000;

/// Why a post is deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeferReason {
    /// Somebody has locked its row.
    Locked,
    /// Somebody has locked what one of its pairs needs.
    PairLocked,
    /// The column of its count is full.
    Full,
}

/// The posts that are deferred.
#[derive(Debug, Default)]
pub(crate) struct DeferredPosts {
    posts: HashMap<PostId, DeferredPost>,
    /// Entries that stay, and for the sake of how many posts each of them does.
    entries: BTreeMap<EntryId, usize>,
    /// Up to where the outbox has been read and, but for these posts, acknowledged.
    read_to: Option<EntryId>,
    /// The number of the connection by which it has been read.
    connection: u64,
    retry_at: Option<Instant>,
    wait_at: Option<Instant>,
    /// Since when posts were deferred before the outbox was last read from its start, and when that was.
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

impl DeferReason {
    fn waits_for(self) -> &'static str {
        match self {
            Self::Locked | Self::PairLocked => "locks that others hold in PostgreSQL",
            Self::Full => "room in the column of its count, which is full: make it a bigint",
        }
    }
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

    /// Returns the number of posts.
    pub(crate) fn len(&self) -> usize {
        self.posts.len()
    }

    /// Returns the posts.
    pub(crate) fn posts(&self) -> impl Iterator<Item = &PostId> {
        self.posts.keys()
    }

    /// Returns the posts, each with its first entry that is not acknowledged.
    pub(crate) fn unacknowledged(&self) -> impl Iterator<Item = (PostId, EntryId)> {
        self.posts.iter().map(|(post, deferred)| (*post, deferred.first))
    }

    /// Returns the entry up to which the outbox has been read.
    pub(crate) fn read_to(&self) -> Option<EntryId> {
        self.read_to
    }

    /// Returns whether there is no room for more entries.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= MOST_ENTRIES
    }

    /// Returns whether a post is deferred.
    pub(crate) fn contains(&self, post: &PostId) -> bool {
        self.posts.contains_key(post)
    }

    /// Returns what operators are told: how many posts wait, and since when and for what the first of them does.
    pub(crate) fn summary(&self) -> Option<DeferredSummary> {
        let first = self.posts.values().min_by_key(|deferred| deferred.since)?;
        Some(DeferredSummary { posts: self.posts.len(), since: first.since, waits_for: first.why.waits_for() })
    }

    /// Returns whether the post that has waited for longest waits for room in the column of its count.
    pub(crate) fn first_is_full(&self) -> bool {
        self.posts.values().min_by_key(|deferred| deferred.since).is_some_and(|deferred| deferred.why == DeferReason::Full)
    }

    /// Returns whether any post waits for room in the column of its count.
    pub(crate) fn any_is_full(&self) -> bool {
        self.posts.values().any(|deferred| deferred.why == DeferReason::Full)
    }

    /// Returns the entry up to which the outbox has been read, and the connection by which.
    pub(crate) fn position(&self) -> Option<(EntryId, u64)> {
        Some((self.read_to?, self.connection))
    }

    /// Returns whether it is time to look again at the posts.
    pub(crate) fn is_due(&self) -> bool {
        !self.posts.is_empty() && self.retry_at.is_none_or(|at| Instant::now() >= at)
    }

    /// Notes that the posts have been looked at.
    pub(crate) fn retried(&mut self) {
        self.retry_at = Some(Instant::now() + RETRY);
    }

    /// Returns an empty batch of what is to be read next: from the start where nothing is deferred, for nothing that is
    /// there has been acknowledged, and over a certain connection.
    pub(crate) fn next_part(&self, connection: u64) -> Batch {
        match self.read_to.filter(|_| !self.posts.is_empty()) {
            Some(read_to) => Batch::after(read_to, self.connection),
            None => Batch::over(connection),
        }
    }

    /// Notes that the outbox is acknowledged up to an entry, but for what is deferred.
    pub(crate) fn read_up_to(&mut self, entry: EntryId, connection: u64) {
        (self.read_to, self.connection) = (self.read_to.max(Some(entry)), connection);
    }

    /// Notes that a post could not be stored, whose first pair is in that entry.
    pub(crate) fn defer(&mut self, post: PostId, first: EntryId, why: Option<DeferReason>) {
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
        let deferred = self.posts.entry(post).or_insert(new);
        if let Some(why) = why.filter(|why| *why != deferred.why) {
            (deferred.why, deferred.why_since) = (why, now);
        }
    }

    /// Forgets everything but since when posts are deferred: the outbox is read again from its start, and finds those
    /// that still are.
    pub(crate) fn forgotten(self) -> Self {
        let (now, mut since) = match self.before {
            Some((at, posts)) if at.elapsed() < MEMORY => (at, posts),
            _ => (Instant::now(), HashMap::new()),
        };
        since.extend(self.posts.into_iter().map(|(post, deferred)| (post, deferred.since)));
        Self { before: (!since.is_empty()).then_some((now, since)), ..Self::default() }
    }

    /// Forgets what was deferred before, once the whole outbox has been read since.
    pub(crate) fn forget_before(&mut self) {
        self.before = None;
    }

    /// Notes that a post is acknowledged up to an entry; for good, where that is all that has been read of it.
    pub(crate) fn acknowledged(&mut self, post: &PostId, read_to: Option<EntryId>) {
        match read_to {
            Some(read_to) => {
                if let Some(deferred) = self.posts.get_mut(post) {
                    deferred.first = read_to.next();
                }
            }
            None => {
                self.posts.remove(post);
            }
        }
    }

    /// Notes of an entry how many of its posts are deferred and how many are acknowledged. Returns whether it is to be
    /// deleted.
    pub(crate) fn finish(&mut self, entry: EntryId, deferred: usize, acknowledged: usize) -> bool {
        match self.entries.get_mut(&entry) {
            Some(left) => {
                *left = left.saturating_sub(acknowledged);
                let is_done = *left == 0;
                if is_done {
                    self.entries.remove(&entry);
                }
                is_done
            }
            None if deferred > 0 => {
                self.entries.insert(entry, deferred);
                false
            }
            None => true,
        }
    }

    /// Returns whether a post has waited for a single pair of its own for so long that the pair is to go.
    pub(crate) fn is_past_patience(&self, post: &PostId) -> bool {
        self.posts
            .get(post)
            .is_some_and(|deferred| deferred.why == DeferReason::PairLocked && deferred.why_since.elapsed() >= PAIR_PATIENCE)
    }

    /// Returns whether there are posts that it is time to look at again, and has been for a while.
    pub(crate) fn is_overdue(&self) -> bool {
        !self.is_empty() && self.retry_at.is_none_or(|at| at.elapsed() >= OVERDUE)
    }

    /// Notes that posts were looked at that still wait for locks of their pairs, and how long that took.
    pub(crate) fn looked_at(&mut self, posts: &[PostId], took: Duration) {
        let retry_at = Instant::now() + took * PAIR_SHARE;
        for post in posts {
            if let Some(deferred) = self.posts.get_mut(post).filter(|deferred| deferred.why == DeferReason::PairLocked) {
                deferred.retry_at = Some(retry_at);
            }
        }
    }

    /// Returns the posts that are to be looked at now: those that wait for their own locks, and those that wait for
    /// locks of their pairs.
    pub(crate) fn due(&self) -> (Vec<PostId>, Vec<PostId>) {
        let now = Instant::now();
        let is_pair = |deferred: &DeferredPost| deferred.why == DeferReason::PairLocked;
        let posts = self.posts.iter().filter(|(_, deferred)| !is_pair(deferred)).map(|(post, _)| *post).collect();
        let mut with_pairs: Vec<(&PostId, &DeferredPost)> =
            self.posts.iter().filter(|(_, deferred)| is_pair(deferred) && deferred.is_due(now)).collect();
        with_pairs.sort_unstable_by_key(|(_, deferred)| deferred.retry_at);
        (posts, with_pairs.into_iter().take(PAIR_POSTS).map(|(post, _)| *post).collect())
    }

    /// Returns the post that is to be waited for now, if any, and how long.
    pub(crate) fn starving(&mut self) -> Option<(PostId, Duration)> {
        let now = Instant::now();
        if self.wait_at.is_some_and(|at| now < at) {
            return None;
        }
        let starving = |deferred: &DeferredPost| deferred.why == DeferReason::Locked && deferred.since.elapsed() >= STARVING;
        let (post, deferred) =
            self.posts.iter_mut().filter(|(_, deferred)| starving(deferred)).min_by_key(|(_, deferred)| deferred.waited)?;
        let patience = deferred.patience;
        deferred.waited = Some(now);
        deferred.patience = (patience * 2).min(LONGEST_PATIENCE);
        self.wait_at = Some(now + patience * (1 + WAIT_SHARE));
        Some((*post, patience))
    }
}
