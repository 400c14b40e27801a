//! Offering dead letters to PostgreSQL again, with the time of their views: those whose reason may have passed, or those that an operator names.

use std::{
    collections::{HashMap, HashSet},
    str,
    time::{Duration, Instant},
};

use views_core::{
    failpoints,
    ids::{PostId, ViewerId},
};
use views_postgres::{DatabaseError, insert::Outcome};
use views_redis::scripts::Adjustment;

use super::read::StoredDeadLetter;
use crate::{
    engine::{Engine, Failure},
    outbox::EntryId,
    pairs::Pairs,
    scan::ScanReport,
};

/// How long letters are offered in one cycle. The next one goes on from there.
const CYCLE_TIME: Duration = Duration::from_secs(5);

/// How soon a letter is offered again for which a lock was in the way.
const SOON: Duration = Duration::from_secs(5);

/// Which letters are offered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// These; all, where none are named.
    pub(crate) ids: HashSet<EntryId>,
    /// Those of this post.
    pub(crate) post: Option<String>,
    /// Those whose reason has this text in it.
    pub(crate) reason: Option<String>,
}

impl Selection {
    pub(crate) fn has(&self, dead_letter: &StoredDeadLetter) -> bool {
        (self.ids.is_empty() || self.ids.contains(&dead_letter.id))
            && self.post.as_ref().is_none_or(|post| post.as_bytes() == dead_letter.dead.post)
            && self.reason.as_ref().is_none_or(|reason| dead_letter.dead.reason.contains(reason))
    }
}

/// What came of letters.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Retried {
    /// Letters whose pairs are in the ledger now, and that are deleted.
    pub(crate) stored: usize,
    /// Letters that stay.
    pub(crate) left: usize,
}

impl Engine {
    /// Has letters offered again before the next cycle.
    pub(crate) fn retry_dead_letters_soon(&mut self) {
        self.retry_dead_at.get_or_insert_with(|| Instant::now() + SOON);
    }

    /// Offers letters again, where that is due before the next cycle.
    pub(crate) async fn retry_dead_letters_when_due(&mut self) -> Result<(), Failure> {
        if self.retry_dead_at.is_some_and(|at| Instant::now() >= at) {
            self.retry_dead_letters().await?;
        }
        Ok(())
    }

    /// Offers some of the letters whose reason may have passed.
    pub(crate) async fn retry_dead_letters(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let mut stored = 0;
        self.retry_dead_at = None;
        let mut page = self.dead_letters(self.retried_to, None).await?;
        if page.is_empty() && self.retried_to.is_some() {
            page = self.dead_letters(None, None).await?;
        }
        // Behind the last page, the next cycle begins with the first one again.
        self.retried_to = None;
        while let Some(last) = page.last().map(|dead_letter| dead_letter.id) {
            let dead_letters: Vec<StoredDeadLetter> =
                page.into_iter().filter(|dead_letter| dead_letter.dead.is_retryable).collect();
            let retried = self.retry(dead_letters).await;
            self.retried_to = Some(last);
            match retried {
                Ok(retried) => stored += retried.stored,
                // The table takes nothing now, or none of these; others have their turn with the next cycle.
                Err(Failure::Database(error @ (DatabaseError::Refused(_) | DatabaseError::Locked(_)))) => {
                    tracing::debug!(%error, "dead letters cannot be offered again now");
                    break;
                }
                Err(failure) => return Err(failure),
            }
            self.checkpoint()?;
            if started.elapsed() >= CYCLE_TIME {
                break;
            }
            page = self.dead_letters(self.retried_to, None).await?;
            if page.is_empty() {
                self.retried_to = None;
            }
        }
        if stored > 0 {
            tracing::info!(pairs = stored, "dead letters whose reason has passed are stored");
        }
        Ok(())
    }

    /// Offers the letters that are there now and are selected.
    pub(crate) async fn retry_selected(&mut self, selection: &Selection) -> Result<Retried, Failure> {
        let mut total = Retried::default();
        let mut after = None;
        loop {
            let page = self.dead_letters(after, None).await?;
            let Some(last) = page.last().map(|dead_letter| dead_letter.id) else { return Ok(total) };
            let retried = self.retry(page.into_iter().filter(|dead_letter| selection.has(dead_letter)).collect()).await?;
            total = Retried { stored: total.stored + retried.stored, left: total.left + retried.left };
            after = Some(last);
        }
    }

    /// Deletes the letters that are there now and are selected. Returns how many.
    pub(crate) async fn drop_selected(&mut self, selection: &Selection) -> Result<usize, Failure> {
        let (mut dropped, mut after) = (0, None);
        loop {
            let page = self.dead_letters(after, None).await?;
            let Some(last) = page.last().map(|dead_letter| dead_letter.id) else { return Ok(dropped) };
            let ids: Vec<EntryId> =
                page.iter().filter(|dead_letter| selection.has(dead_letter)).map(|dead_letter| dead_letter.id).collect();
            self.delete_dead(&ids).await?;
            dropped += ids.len();
            after = Some(last);
        }
    }

    /// Offers letters, and deletes those whose pairs are in the ledger then.
    async fn retry(&mut self, dead_letters: Vec<StoredDeadLetter>) -> Result<Retried, Failure> {
        if dead_letters.is_empty() {
            return Ok(Retried::default());
        }
        self.check_owner().await?;
        let mut pairs = Pairs::default();
        let mut retried: Vec<(EntryId, PostId, ViewerId)> = Vec::with_capacity(dead_letters.len());
        for dead_letter in &dead_letters {
            let text = |bytes| str::from_utf8(bytes).ok();
            let post = text(&dead_letter.dead.post).and_then(|post| PostId::parse(post).ok());
            let viewer = text(&dead_letter.dead.viewer).and_then(|viewer| ViewerId::parse(viewer).ok());
            if let (Some(post), Some(viewer)) = (post, viewer) {
                let place = pairs.place(post);
                pairs.push(place, &viewer, dead_letter.dead.at_ms);
                retried.push((dead_letter.id, post, viewer));
            }
        }
        let schema = self.database.schema_for_refusal().await?;
        let unfit: HashSet<(Vec<u8>, Vec<u8>)> =
            pairs.prepare(&schema).into_iter().map(|(_, dead)| (dead.post.to_vec(), dead.viewer.to_vec())).collect();
        let posts: Vec<PostId> = pairs.posts().iter().copied().collect();
        // What Redis has before PostgreSQL is asked: nothing that is younger is written over.
        let known: HashMap<PostId, Option<i64>> = self
            .read_states(&posts, &mut ScanReport::default())
            .await?
            .into_iter()
            .map(|(post, state)| (post, state.persisted))
            .collect();
        let outcome = self.store.run(&pairs).await?;
        failpoints::at("offer::after_commit");
        if outcome.refused.iter().any(|refused| refused.refusal.is_lock()) || !outcome.held.is_empty() {
            self.retry_dead_letters_soon();
        }
        let refused: HashSet<(PostId, ViewerId)> =
            outcome.refused.iter().filter_map(|refused| pairs.ids(refused.place)).collect();

        self.show(&outcome, &known).await?;
        let stays = |post: &PostId, viewer: &ViewerId| {
            outcome.held.contains_key(post)
                || outcome.missing.contains(post)
                || refused.contains(&(*post, *viewer))
                || unfit.contains(&(post.as_str().into(), viewer.as_str().into()))
        };
        let stored: Vec<EntryId> = retried.iter().filter(|(_, post, viewer)| !stays(post, viewer)).map(|(id, ..)| *id).collect();
        self.delete_dead(&stored).await?;
        self.metrics.retried.inc_by(stored.len() as u64);
        Ok(Retried { stored: stored.len(), left: dead_letters.len() - stored.len() })
    }

    /// Brings the counts into Redis of posts of which pairs were stored that had been acknowledged before.
    async fn show(&mut self, outcome: &Outcome, known: &HashMap<PostId, Option<i64>>) -> Result<(), Failure> {
        let mut adjustments = Vec::new();
        for (post, stored) in outcome.stored.iter().filter(|(_, stored)| stored.added > 0) {
            self.changed(*post, stored.views);
            if let Some(known) = known.get(post) {
                adjustments.push(Adjustment {
                    known: *known,
                    views: Some(stored.views),
                    is_quiet: true,
                    ..Adjustment::of(*post)
                });
            }
        }
        self.adjust(&adjustments, &mut ScanReport::default()).await?;
        self.publish().await;
        Ok(())
    }
}
