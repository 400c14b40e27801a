//! A batch that PostgreSQL has committed, as far as it has, and what that says of each of its posts.

use std::collections::{HashMap, HashSet};

use indexmap::IndexSet;
use views_core::ids::PostId;
use views_postgres::insert::{Deferred, Outcome};

use super::{
    batch::{Batch, FoundDead},
    dead_letter::{DeadLetter, NO_SUCH_POST},
    deferred::{DeferReason, DeferredPosts},
    entries::{Entries, Span},
    pairs::Pairs,
};
use crate::entry_id::EntryId;

/// A batch, or what of it is committed so far. The pairs themselves may be forgotten.
pub(crate) struct Committed {
    pub(crate) entries: Entries,
    /// The posts, by their places.
    pub(crate) posts: IndexSet<PostId>,
    /// The entries that name each post, once verdicts have been asked for.
    pub(crate) spans: Vec<Option<Span>>,
    /// The number of the connection by which the entries were read.
    pub(crate) connection: u64,
    /// The last entry that was read.
    pub(crate) read_to: Option<EntryId>,
    /// Whether it is of posts that were deferred: then it has no more than a part of its entries.
    pub(crate) is_retry: bool,
    /// The places of posts that were deferred before.
    pub(crate) left_out: HashSet<u32>,
    /// How many pairs are acknowledged.
    pub(crate) acknowledged_pairs: usize,
    /// The posts that are deferred now.
    pub(crate) deferred: HashSet<PostId>,
    /// The places of posts that are acknowledged.
    acknowledged: HashSet<u32>,
    /// Pairs that were never offered to PostgreSQL.
    dead: Vec<FoundDead>,
    /// What PostgreSQL says of the posts that are not acknowledged yet.
    outcome: Outcome,
    /// Pairs that PostgreSQL does not take, with the places of their posts.
    refused: Vec<(u32, DeadLetter)>,
    /// The places of posts of which a pair waits for a lock of its own.
    pair_locked: HashSet<u32>,
}

/// A post that is to be acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct AckedPost {
    /// The post.
    pub(crate) post: PostId,
    /// Its place among the posts of the entries.
    pub(crate) place: u32,
    /// The entries that name it.
    pub(crate) span: Span,
    /// Its count in PostgreSQL.
    pub(crate) views: i64,
    /// Its count before its new pairs.
    pub(crate) before: i64,
    /// The count that Redis had when PostgreSQL was asked for these once more.
    pub(crate) seen: Option<String>,
}

/// What is to be done with the posts, by their places.
#[derive(Default)]
pub(crate) struct Verdicts {
    pub(crate) acked: Vec<AckedPost>,
    pub(crate) missing: HashSet<u32>,
    pub(crate) deferred: HashMap<u32, DeferReason>,
    /// Posts that PostgreSQL has said nothing of.
    pub(crate) unknown: Vec<u32>,
    /// Counts that have changed, each with the number of new pairs.
    pub(crate) changes: Vec<(PostId, i64, i64)>,
}

/// The posts of a batch that are done with, and what is to be done in Redis about them.
pub(crate) struct DonePosts {
    /// The posts of which count and acknowledged pairs are to be moved.
    pub(crate) acked: Vec<AckedPost>,
    /// The posts that do not exist.
    pub(crate) missing: Vec<PostId>,
    /// How many pairs these have.
    pub(crate) missing_pairs: u64,
    /// How many pairs all of them have.
    pub(crate) pairs: u64,
    /// Their pairs that can not be stored.
    pub(crate) dead_letters: Vec<DeadLetter>,
    /// Whether a pair that waits for a lock of its own is among the dead letters.
    pub(crate) gives_up_locked_pairs: bool,
    /// The posts that are not done with, by their places.
    pub(crate) deferred: HashMap<u32, DeferReason>,
}

impl Committed {
    /// Takes a prepared batch apart: what is to be acknowledged, and the pairs that are to be stored. The posts that
    /// are `locked` stay deferred.
    pub(crate) fn new(batch: Batch, locked: &HashSet<PostId>) -> (Self, Pairs) {
        let Batch { entries, mut pairs, dead, connection, is_retry, read_to, .. } = batch;
        let places = locked.iter().filter_map(|post| pairs.posts().get_index_of(post));
        let left_out: HashSet<u32> = places.filter_map(|place| u32::try_from(place).ok()).collect();
        if !left_out.is_empty() {
            pairs.leave_out(&left_out);
        }
        let committed = Self {
            spans: Vec::new(),
            entries,
            posts: pairs.posts().clone(),
            connection,
            read_to,
            is_retry,
            left_out,
            acknowledged_pairs: 0,
            deferred: HashSet::new(),
            acknowledged: HashSet::new(),
            dead,
            outcome: Outcome::default(),
            refused: Vec::new(),
            pair_locked: HashSet::new(),
        };
        (committed, pairs)
    }

    /// Adds what became of some of the posts.
    pub(crate) fn take(&mut self, outcome: Outcome, pairs: &Pairs) {
        for refused in &outcome.refused {
            let (place, dead_letter) = pairs.dead_letter(refused.place, refused.refusal.to_string());
            if refused.refusal.is_lock() {
                self.pair_locked.insert(place);
            }
            self.refused.push((place, if refused.refusal.may_pass() { dead_letter.retryable() } else { dead_letter }));
        }
        if !outcome.missing.is_empty() {
            self.refused.extend(pairs.dead_letters_of(&outcome.missing, NO_SUCH_POST));
        }
        self.outcome.stored.extend(outcome.stored);
        self.outcome.deferred.extend(outcome.deferred);
        self.outcome.missing.extend(outcome.missing);
    }

    /// Returns the posts that others have locked, as far as is known.
    pub(crate) fn locked(&self) -> impl Iterator<Item = &PostId> {
        let pair_locked = self.pair_locked.iter().filter_map(|place| self.posts.get_index(*place as usize));
        let left_out = self.left_out.iter().filter_map(|place| self.posts.get_index(*place as usize));
        self.outcome.deferred.keys().chain(pair_locked).chain(left_out)
    }

    /// Returns the post at a place.
    pub(crate) fn post(&self, place: u32) -> PostId {
        self.posts[place as usize]
    }

    /// Returns what is to be done with the posts that are not acknowledged yet, as far as PostgreSQL has said, and
    /// forgets that. While the batch is not done, what was said of the posts that are deferred is kept for later:
    /// forgotten, they would seem to have nothing but refused pairs by then.
    pub(crate) fn take_verdicts(&mut self, before: &DeferredPosts, is_last: bool) -> Verdicts {
        if self.spans.is_empty() {
            self.spans = self.find_spans();
        }
        let mut verdicts = Verdicts::default();
        let open = |place: &u32| !self.acknowledged.contains(place) && !self.left_out.contains(place);
        for (place, (post, span)) in (0..).zip(self.posts.iter().zip(&self.spans)).filter(|(place, _)| open(place)) {
            let Some(span) = *span else { continue };
            if let Some(why) = self.outcome.deferred.get(post) {
                verdicts.deferred.insert(place, if *why == Deferred::Full { DeferReason::Full } else { DeferReason::Locked });
            } else if self.pair_locked.contains(&place) && !before.is_past_patience(post) {
                verdicts.deferred.insert(place, DeferReason::PairLocked);
            } else if let Some(stored) = self.outcome.stored.get(post) {
                let (views, before) = (stored.views, stored.views - stored.added);
                verdicts.acked.push(AckedPost { post: *post, place, span, views, before, seen: None });
            } else if self.outcome.missing.contains(post) {
                verdicts.missing.insert(place);
            } else {
                verdicts.unknown.push(place);
            }
        }
        let mut outcome = std::mem::take(&mut self.outcome);
        if !is_last {
            let place_of = |post: &PostId| self.posts.get_index_of(post).and_then(|place| u32::try_from(place).ok());
            let waits = |post: &PostId| place_of(post).is_some_and(|place| verdicts.deferred.contains_key(&place));
            let stored = outcome.stored.extract_if(|post, _| waits(post)).collect();
            self.outcome = Outcome { stored, deferred: outcome.deferred, ..Outcome::default() };
        }
        verdicts.changes = outcome.stored.into_iter().map(|(post, stored)| (post, stored.views, stored.added)).collect();
        verdicts
    }

    /// Returns for each post how many pairs name it, and the first and the last of the entries that do.
    fn find_spans(&self) -> Vec<Option<Span>> {
        let mut spans: Vec<Option<Span>> = vec![None; self.posts.len()];
        for (id, named) in self.entries.iter() {
            for place in named {
                let span = spans[*place as usize].get_or_insert(Span { first: id, last: id, pairs: 0 });
                (span.last, span.pairs) = (id, span.pairs + 1);
            }
        }
        spans
    }

    /// Returns the posts that are done with, and counts them as acknowledged.
    pub(crate) fn take_done(&mut self, verdicts: Verdicts, is_last: bool) -> DonePosts {
        let Verdicts { acked, missing, deferred, .. } = verdicts;
        self.acknowledged.extend(acked.iter().map(|acked| acked.place).chain(missing.iter().copied()));
        let missing_pairs = missing.iter().filter_map(|place| self.spans[*place as usize]).map(|span| span.pairs).sum();
        DonePosts {
            missing: missing.iter().map(|place| self.post(*place)).collect(),
            missing_pairs,
            pairs: missing_pairs + acked.iter().map(|acked| acked.span.pairs).sum::<u64>(),
            dead_letters: self.take_dead_letters(is_last),
            gives_up_locked_pairs: acked.iter().any(|acked| self.pair_locked.contains(&acked.place)),
            acked,
            deferred,
        }
    }

    /// Returns the dead letters of posts that are done with now, once. Those of a post that is deferred when the batch
    /// is done are forgotten: its pairs will be offered again.
    fn take_dead_letters(&mut self, is_last: bool) -> Vec<DeadLetter> {
        let refused = std::mem::take(&mut self.refused).into_iter().map(|(place, dead_letter)| (Some(place), dead_letter));
        let mut dead_letters = Vec::new();
        for (place, dead_letter) in std::mem::take(&mut self.dead).into_iter().chain(refused) {
            match place {
                Some(place) if !self.acknowledged.contains(&place) && !is_last => self.dead.push((Some(place), dead_letter)),
                Some(place) if !self.acknowledged.contains(&place) => {}
                _ => dead_letters.push(dead_letter),
            }
        }
        dead_letters
    }
}
