//! Retrying dead letters: offering them to PostgreSQL again, with the time of their views. Those whose reason may have
//! passed, or those that an operator names.

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

use super::{adjust::adjust, post_state::read_states, reconciler::Reconciler, report::ScanReport, throttle::Throttle};
use crate::{
    drain::{
        dead_letters::{self, StoredDeadLetter},
        pairs::Pairs,
    },
    entry_id::EntryId,
    error::Failure,
};

/// How long dead letters are retried in one cycle. The next one goes on from there.
const CYCLE_TIME: Duration = Duration::from_secs(5);

/// Which dead letters are meant.
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
    /// Returns whether a dead letter is selected.
    pub(crate) fn has(&self, dead_letter: &StoredDeadLetter) -> bool {
        (self.ids.is_empty() || self.ids.contains(&dead_letter.id))
            && self.post.as_ref().is_none_or(|post| post.as_bytes() == dead_letter.dead.post)
            && self.reason.as_ref().is_none_or(|reason| dead_letter.dead.reason.contains(reason))
    }
}

/// What came of dead letters.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Retried {
    /// Those whose pairs are in the ledger now, and that are deleted.
    pub(crate) stored: usize,
    /// Those that stay.
    pub(crate) left: usize,
    /// Those of them that stay only because locks were in the way.
    pub(crate) locked: usize,
}

/// Retries some of the dead letters whose reason may have passed. Where they are at a node of a cluster that is away, they
/// have their turn with another cycle.
pub(crate) async fn retry(reconciler: &mut Reconciler) -> Result<(), Failure> {
    match try_retry(reconciler).await {
        Err(Failure::Redis(error)) if reconciler.context().is_node_away(&error) => {
            tracing::warn!("dead letters cannot be offered again now: {error}");
            Ok(())
        }
        result => result,
    }
}

async fn try_retry(reconciler: &mut Reconciler) -> Result<(), Failure> {
    let started = Instant::now();
    let mut stored = 0;
    reconciler.shared.dead_letter_timer.stop();
    let mut page = dead_letters::page(&mut reconciler.session, reconciler.retried_to).await?;
    if page.is_empty() && reconciler.retried_to.is_some() {
        page = dead_letters::page(&mut reconciler.session, None).await?;
    }
    // Behind the last page, the next cycle begins with the first one again.
    reconciler.retried_to = None;
    while let Some(last) = page.last().map(|dead_letter| dead_letter.id) {
        let retryable = page.into_iter().filter(|dead_letter| dead_letter.dead.is_retryable).collect();
        let retried = retry_page(reconciler, retryable).await;
        reconciler.retried_to = Some(last);
        match retried {
            Ok(retried) => stored += retried.stored,
            // The table takes nothing now, or none of these; others have their turn with the next cycle.
            Err(Failure::Database(error @ (DatabaseError::Refused(_) | DatabaseError::Locked(_)))) => {
                tracing::debug!(%error, "dead letters cannot be offered again now");
                break;
            }
            Err(failure) => return Err(failure),
        }
        reconciler.context().checkpoint()?;
        if started.elapsed() >= CYCLE_TIME {
            break;
        }
        page = dead_letters::page(&mut reconciler.session, reconciler.retried_to).await?;
        if page.is_empty() {
            reconciler.retried_to = None;
        }
    }
    if stored > 0 {
        tracing::info!(pairs = stored, "dead letters whose reason has passed are stored");
    }
    Ok(())
}

/// Retries the dead letters that are there now and are selected, resting as long as it works. `step` is told of each page
/// how many it had.
pub(crate) async fn retry_selected(
    reconciler: &mut Reconciler,
    selection: &Selection,
    step: impl Fn(usize),
) -> Result<Retried, Failure> {
    let mut total = Retried::default();
    let (mut after, mut throttle) = (None, Throttle::new());
    loop {
        let page = dead_letters::page(&mut reconciler.session, after).await?;
        let Some(last) = page.last().map(|dead_letter| dead_letter.id) else { return Ok(total) };
        let number = page.len();
        let selected = page.into_iter().filter(|dead_letter| selection.has(dead_letter)).collect();
        let retried = retry_page(reconciler, selected).await?;
        total.stored += retried.stored;
        total.left += retried.left;
        total.locked += retried.locked;
        step(number);
        reconciler.context().checkpoint()?;
        throttle.rest().await;
        after = Some(last);
    }
}

/// Deletes the dead letters that are there now and are selected, resting as long as it works. Returns how many. `step` is
/// told of each page how many it had.
pub(crate) async fn drop_selected(
    reconciler: &mut Reconciler,
    selection: &Selection,
    step: impl Fn(usize),
) -> Result<usize, Failure> {
    let (mut dropped, mut after, mut throttle) = (0, None, Throttle::new());
    reconciler.session.check_owner().await?;
    loop {
        let page = dead_letters::page(&mut reconciler.session, after).await?;
        let Some(last) = page.last().map(|dead_letter| dead_letter.id) else { return Ok(dropped) };
        let selected = page.iter().filter(|dead_letter| selection.has(dead_letter));
        let ids: Vec<EntryId> = selected.map(|dead_letter| dead_letter.id).collect();
        dead_letters::delete(&mut reconciler.session, &ids).await?;
        dropped += ids.len();
        step(page.len());
        reconciler.context().checkpoint()?;
        throttle.rest().await;
        after = Some(last);
    }
}

/// Retries dead letters, and deletes those whose pairs are in the ledger then.
async fn retry_page(reconciler: &mut Reconciler, dead_letters: Vec<StoredDeadLetter>) -> Result<Retried, Failure> {
    if dead_letters.is_empty() {
        return Ok(Retried::default());
    }
    reconciler.session.check_owner().await?;
    let mut pairs = Pairs::default();
    let mut offered: Vec<(EntryId, PostId, ViewerId)> = Vec::with_capacity(dead_letters.len());
    for dead_letter in &dead_letters {
        let text = |bytes| str::from_utf8(bytes).ok();
        let post = text(&dead_letter.dead.post).and_then(|post| PostId::parse(post).ok());
        let viewer = text(&dead_letter.dead.viewer).and_then(|viewer| ViewerId::parse(viewer).ok());
        if let (Some(post), Some(viewer)) = (post, viewer) {
            pairs.add(post, &viewer, dead_letter.dead.at_ms);
            offered.push((dead_letter.id, post, viewer));
        }
    }
    let schema = reconciler.context().database.schema_for_refusal().await?;
    let unfit: HashSet<(Vec<u8>, Vec<u8>)> =
        pairs.prepare(&schema).into_iter().map(|(_, dead)| (dead.post.to_vec(), dead.viewer.to_vec())).collect();
    let posts: Vec<PostId> = pairs.posts().iter().copied().collect();
    // What Redis has before PostgreSQL is asked: nothing that is younger is written over.
    let states = read_states(&mut reconciler.session, &posts, &mut ScanReport::default()).await?;
    let known: HashMap<PostId, Option<i64>> = states.into_iter().map(|(post, state)| (post, state.persisted)).collect();
    let outcome = reconciler.shared.inserter.run(&pairs).await?;
    failpoints::at("offer::after_commit");
    let locked_pairs = outcome.refused.iter().filter(|refused| refused.refusal.is_lock());
    let locked_pairs: HashSet<(PostId, ViewerId)> = locked_pairs.filter_map(|refused| pairs.ids(refused.place)).collect();
    let is_locked =
        |post: &PostId, viewer: &ViewerId| outcome.deferred.contains_key(post) || locked_pairs.contains(&(*post, *viewer));
    let locked = offered.iter().filter(|(_, post, viewer)| is_locked(post, viewer)).count();
    if locked > 0 {
        reconciler.shared.dead_letter_timer.start();
    }
    let refused: HashSet<(PostId, ViewerId)> = outcome.refused.iter().filter_map(|refused| pairs.ids(refused.place)).collect();

    write_counts(reconciler, &outcome, &known).await?;
    let stays = |post: &PostId, viewer: &ViewerId| {
        outcome.deferred.contains_key(post)
            || outcome.missing.contains(post)
            || refused.contains(&(*post, *viewer))
            || unfit.contains(&(post.as_str().into(), viewer.as_str().into()))
    };
    let stored: Vec<EntryId> = offered.iter().filter(|(_, post, viewer)| !stays(post, viewer)).map(|(id, ..)| *id).collect();
    dead_letters::delete(&mut reconciler.session, &stored).await?;
    reconciler.context().metrics.retried.inc_by(stored.len() as u64);
    Ok(Retried { stored: stored.len(), left: dead_letters.len() - stored.len(), locked })
}

/// Brings the counts into Redis of posts of which pairs were stored that had been acknowledged before.
async fn write_counts(
    reconciler: &mut Reconciler,
    outcome: &Outcome,
    known: &HashMap<PostId, Option<i64>>,
) -> Result<(), Failure> {
    let mut adjustments = Vec::new();
    for (post, stored) in outcome.stored.iter().filter(|(_, stored)| stored.added > 0) {
        reconciler.shared.publisher.changed(*post, stored.views);
        if let Some(known) = known.get(post) {
            let views = Some(stored.views);
            adjustments.push(Adjustment { known: *known, views, is_quiet: true, ..Adjustment::of(*post) });
        }
    }
    adjust(&mut reconciler.session, &adjustments, &mut ScanReport::default()).await?;
    reconciler.shared.publisher.publish(&mut reconciler.session).await;
    Ok(())
}
