//! A batch that PostgreSQL has committed, and what follows from that in Redis.

use std::collections::{HashMap, HashSet};

use indexmap::IndexSet;
use views_core::{failpoints, ids::PostId};
use views_postgres::{
    insert::{Held, Outcome},
    ledger,
};

use crate::{
    acknowledge::{AckedPost, distinct},
    dead_letters::{DeadLetter, NO_SUCH_POST},
    deferred::DeferReason,
    engine::{Engine, Failure},
    outbox::{Batch, Entries, EntryId, FoundDead, Span},
    pairs::Pairs,
};

/// A batch, or what of it is stored so far. The pairs themselves may be forgotten.
pub(crate) struct Committed {
    entries: Entries,
    /// The posts, by their places.
    posts: IndexSet<PostId>,
    /// By which link the entries were read.
    pub(crate) link: u64,
    /// Whether it is of posts that were held: then it holds no more than a part of its entries.
    is_retry: bool,
    /// Pairs that were never offered to PostgreSQL.
    dead: Vec<FoundDead>,
    /// The places of posts that were held before.
    left_out: HashSet<u32>,
    /// The places of posts that are settled.
    settled: HashSet<u32>,
    /// What PostgreSQL says of the others.
    outcome: Outcome,
    /// Letters of pairs that PostgreSQL does not take, with the places of their posts.
    dead_letters: Vec<(u32, DeadLetter)>,
    /// The places of posts of which a pair waits for a lock of its own.
    pair_locked: HashSet<u32>,
    /// How many pairs are settled.
    pub(crate) acknowledged: usize,
    /// The posts that are held now.
    pub(crate) deferred: HashSet<PostId>,
}

impl Committed {
    /// Takes a prepared batch apart: what is to be settled, and the pairs that are to be stored. The posts at the places `left_out` are held.
    pub(crate) fn new(batch: Batch, left_out: HashSet<u32>) -> (Self, Pairs) {
        let is_retry = batch.is_of_some_posts();
        let Batch { entries, mut pairs, dead, link, .. } = batch;
        pairs.leave_out(&left_out);
        let committed = Self {
            entries,
            posts: pairs.posts().clone(),
            link,
            is_retry,
            dead,
            left_out,
            settled: HashSet::new(),
            outcome: Outcome::default(),
            dead_letters: Vec::new(),
            pair_locked: HashSet::new(),
            acknowledged: 0,
            deferred: HashSet::new(),
        };
        (committed, pairs)
    }

    /// Takes in what became of some of the posts.
    pub(crate) fn take(&mut self, outcome: Outcome, pairs: &Pairs) {
        for refused in &outcome.refused {
            let (place, dead_letter) = pairs.dead_letter(refused.place, refused.refusal.to_string());
            if refused.refusal.is_lock() {
                self.pair_locked.insert(place);
            }
            self.dead_letters.push((place, if refused.refusal.may_pass() { dead_letter.retryable() } else { dead_letter }));
        }
        self.dead_letters.extend(pairs.dead_letters_of(&outcome.missing, NO_SUCH_POST));
        self.outcome.stored.extend(outcome.stored);
        self.outcome.held.extend(outcome.held);
        self.outcome.missing.extend(outcome.missing);
    }

    /// The posts that others have locked, as far as is known.
    pub(crate) fn locked(&self) -> impl Iterator<Item = &PostId> {
        let pair_locked = self.pair_locked.iter().filter_map(|place| self.posts.get_index(*place as usize));
        let left_out = self.left_out.iter().filter_map(|place| self.posts.get_index(*place as usize));
        self.outcome.held.keys().chain(pair_locked).chain(left_out)
    }

    fn place_of(&self, post: &PostId) -> Option<u32> {
        self.posts.get_index_of(post).and_then(|place| u32::try_from(place).ok())
    }

    /// Whether a post is about to be settled.
    fn settles(&self, sorted: &Sorted, place: u32) -> bool {
        sorted.acked.iter().any(|acked| acked.place == place)
    }

    /// The ids of all entries.
    pub(crate) fn entry_ids(&self) -> Vec<EntryId> {
        self.entries.iter().map(|(id, _)| id).collect()
    }
}

/// What is to be done with posts, by their places.
#[derive(Default)]
struct Sorted {
    acked: Vec<AckedPost>,
    missing: HashSet<u32>,
    held: HashMap<u32, DeferReason>,
    /// Posts that PostgreSQL has said nothing of.
    unknown: Vec<u32>,
}

impl Engine {
    /// Settles in Redis what is committed: the dead, the numbers of posts, and, when that was the last of the batch, its entries.
    pub(crate) async fn acknowledge(&mut self, batch: &mut Committed, is_last: bool) -> Result<(), Failure> {
        let spans = batch.entries.spans(batch.posts.len());
        let mut sorted = self.sort(batch, &spans);
        let mut outcome = std::mem::take(&mut batch.outcome);
        if !is_last {
            // What waits does so until the batch is done. Forgotten here, it would seem to have nothing but refused pairs by then.
            let waits = |post: &PostId| batch.place_of(post).is_some_and(|place| sorted.held.contains_key(&place));
            let stored = outcome.stored.extract_if(|post, _| waits(post)).collect();
            batch.outcome = Outcome { stored, held: outcome.held, ..Outcome::default() };
        }
        let mut added = 0;
        for (post, stored) in outcome.stored {
            added += stored.added.unsigned_abs();
            if stored.added > 0 {
                self.changed(post, stored.views);
            }
        }
        if is_last {
            self.look_for_unknown(batch, &mut sorted, &spans).await?;
        }
        if !sorted.missing.is_empty() {
            // Perhaps a new connection has led to another database, which has never had them.
            self.check_owner().await?;
        }
        let pairs = |places: &mut dyn Iterator<Item = u32>| -> u64 {
            places.filter_map(|place| spans[place as usize]).map(|span| span.pairs).sum()
        };
        let missing_pairs = pairs(&mut sorted.missing.iter().copied());
        let settled_pairs = missing_pairs + pairs(&mut sorted.acked.iter().map(|acked| acked.place));

        // The dead before the deletion of their entries: none may be lost. The keys after it: what is deleted brings no key back.
        let dead_letters = dead_letters(batch, &sorted, is_last);
        if batch.pair_locked.iter().any(|place| batch.settles(&sorted, *place)) {
            self.retry_dead_letters_soon();
        }
        let dead = dead_letters.iter().filter(|dead_letter| dead_letter.reason != NO_SUCH_POST).count() as u64;
        self.add_dead_letters(dead_letters).await?;
        batch.settled.extend(sorted.acked.iter().map(|acked| acked.place).chain(sorted.missing.iter().copied()));
        self.acknowledge_posts(&batch.entries, sorted.acked, batch.link).await?;
        if is_last {
            self.finish_entries(batch, &sorted.held, &spans).await?;
        }
        let missing: Vec<PostId> = sorted.missing.iter().map(|place| batch.posts[*place as usize]).collect();
        self.remove_posts(&missing).await?;
        failpoints::at("publish::before");
        self.publish().await;

        batch.acknowledged += usize::try_from(settled_pairs).unwrap_or(usize::MAX);
        self.metrics.new.inc_by(added);
        self.metrics.unknown_post.inc_by(missing_pairs);
        self.metrics.known.inc_by(settled_pairs.saturating_sub(added + missing_pairs + dead));
        Ok(())
    }

    /// Sorts the posts that are not settled yet by what PostgreSQL says of them.
    fn sort(&self, batch: &Committed, spans: &[Option<Span>]) -> Sorted {
        let mut sorted = Sorted::default();
        let open = |place: &u32| !batch.settled.contains(place) && !batch.left_out.contains(place);
        for (place, (post, span)) in (0..).zip(batch.posts.iter().zip(spans)).filter(|(place, _)| open(place)) {
            let Some(span) = *span else { continue };
            let outcome = &batch.outcome;
            if let Some(why) = outcome.held.get(post) {
                sorted.held.insert(place, if *why == Held::Full { DeferReason::Full } else { DeferReason::Locked });
            } else if batch.pair_locked.contains(&place) && !self.deferred.is_past_patience(post) {
                sorted.held.insert(place, DeferReason::PairLocked);
            } else if let Some(stored) = outcome.stored.get(post) {
                sorted.acked.push(AckedPost::new(*post, place, span, stored.views, stored.views - stored.added));
            } else if outcome.missing.contains(post) {
                sorted.missing.insert(place);
            } else {
                sorted.unknown.push(place);
            }
        }
        sorted
    }

    /// Looks for the posts that were in no statement that was committed, because every pair of theirs is dead: those that are not found do not exist.
    async fn look_for_unknown(&self, batch: &Committed, sorted: &mut Sorted, spans: &[Option<Span>]) -> Result<(), Failure> {
        let unknown = std::mem::take(&mut sorted.unknown);
        if unknown.is_empty() {
            return Ok(());
        }
        // A standby may only not know them yet.
        self.database.ping().await?;
        let posts: Vec<PostId> = unknown.iter().map(|place| batch.posts[*place as usize]).collect();
        let counts = ledger::counts(&self.database, &posts).await?;
        for (place, post) in unknown.into_iter().zip(posts) {
            match (counts.get(&post), spans[place as usize]) {
                (Some(views), Some(span)) => sorted.acked.push(AckedPost::new(post, place, span, *views, *views)),
                _ => {
                    sorted.missing.insert(place);
                }
            }
        }
        Ok(())
    }

    /// Deletes the entries of a batch of which every post is settled, and remembers the others with the posts for whose sake they stay.
    async fn finish_entries(
        &mut self,
        batch: &mut Committed,
        held: &HashMap<u32, DeferReason>,
        spans: &[Option<Span>],
    ) -> Result<(), Failure> {
        let kept = std::mem::take(&mut batch.left_out).into_iter().map(|place| (place, None));
        let held: HashMap<u32, Option<DeferReason>> = held.iter().map(|(place, why)| (*place, Some(*why))).chain(kept).collect();
        for (place, why) in &held {
            let (post, span) = (batch.posts[*place as usize], spans[*place as usize]);
            if let Some(span) = span {
                self.deferred.hold(post, span.first, *why);
                batch.deferred.insert(post);
            }
        }
        let done: Vec<EntryId> = if held.is_empty() && !batch.is_retry {
            batch.entry_ids()
        } else {
            let mut done = Vec::new();
            for (id, named) in batch.entries.iter() {
                let named = distinct(named);
                let held = named.iter().filter(|place| held.contains_key(place)).count();
                done.extend(self.deferred.finish(id, held, named.len() - held).then_some(id));
            }
            done
        };
        if !batch.is_retry
            && let Some(last) = batch.entries.last()
        {
            self.deferred.read_up_to(last, batch.link);
        }
        self.delete_entries(&done, batch.link).await?;
        self.metrics.outbox_entries.dec_by(i64::try_from(done.len()).unwrap_or(i64::MAX));
        Ok(())
    }
}

/// Takes the letters of posts that are settled now. Those of a post that is held when the batch is done are forgotten: its pairs will be offered
/// again.
fn dead_letters(batch: &mut Committed, sorted: &Sorted, is_last: bool) -> Vec<DeadLetter> {
    let settled: HashSet<u32> = sorted.acked.iter().map(|acked| acked.place).chain(sorted.missing.iter().copied()).collect();
    let mut dead_letters = Vec::new();
    let dead = std::mem::take(&mut batch.dead).into_iter();
    for (place, dead_letter) in
        dead.chain(std::mem::take(&mut batch.dead_letters).into_iter().map(|(place, dead_letter)| (Some(place), dead_letter)))
    {
        match place {
            None => dead_letters.push(dead_letter),
            Some(place) if settled.contains(&place) => dead_letters.push(dead_letter),
            Some(place) if !is_last => batch.dead.push((Some(place), dead_letter)),
            Some(_) => {}
        }
    }
    dead_letters
}
