//! Erasing a viewer from Redis: from the outbox, from dead letters, and from the sets of posts.
//!
//! Nothing is taken out of the outbox behind a drain's back: it may have read the pairs and not stored them yet, and would
//! bring them into the ledger after that is clean. So what is pending is stored first, and erased in the ledger.

use views_core::ids::{PostId, ViewerId};
use views_redis::{
    resp::{Commands, Replies, Reply},
    scripts,
};

use super::{keyspace::Keyspace, reconciler::Reconciler, throttle::Throttle};
use crate::{
    drain::{batch::Batch, dead_letters},
    entry_id::EntryId,
    error::{Failure, refusal},
};

/// Pairs of the outbox that are read at once.
const OUTBOX_PAIRS: usize = 5_000;
/// Posts in one script, which takes Redis a fraction of a millisecond.
const SCRIPT_POSTS: usize = 30;

/// What became of the sets of posts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TakenOut {
    /// How many sets had the viewer.
    pub(crate) sets: u64,
    /// How many keys hold something else.
    pub(crate) unreadable: u64,
}

/// Returns how many pairs of a viewer the outbox has.
pub(crate) async fn pending_pairs(reconciler: &mut Reconciler, viewer: &ViewerId) -> Result<u64, Failure> {
    let (mut pairs, mut throttle) = (0, Throttle::new());
    let mut batch = Batch::over(reconciler.session.redis.number());
    loop {
        batch.read_on(&mut reconciler.session, OUTBOX_PAIRS).await?;
        pairs += batch.pairs.pairs_of(viewer) as u64;
        if batch.is_at_end {
            return Ok(pairs);
        }
        batch = batch.behind();
        reconciler.context().checkpoint()?;
        throttle.rest().await;
    }
}

/// Deletes the dead letters of a viewer. Returns how many.
pub(crate) async fn delete_dead_letters(reconciler: &mut Reconciler, viewer: &ViewerId) -> Result<u64, Failure> {
    let (mut deleted, mut after, mut throttle) = (0, None, Throttle::new());
    loop {
        let page = dead_letters::page(&mut reconciler.session, after).await?;
        let Some(last) = page.last().map(|dead_letter| dead_letter.id) else { return Ok(deleted) };
        let is_his = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).ok();
            text.and_then(|text| ViewerId::parse(text).ok()).is_some_and(|found| found == *viewer)
        };
        let his: Vec<EntryId> = page.iter().filter(|letter| is_his(&letter.dead.viewer)).map(|letter| letter.id).collect();
        if !his.is_empty() {
            reconciler.session.check_owner().await?;
            dead_letters::delete(&mut reconciler.session, &his).await?;
            deleted += his.len() as u64;
        }
        reconciler.context().checkpoint()?;
        throttle.rest().await;
        after = Some(last);
    }
}

/// Takes a viewer out of all sets, which is paced as the scan is. `step` is told of each page how many posts it had.
pub(crate) async fn take_out_of_all(
    reconciler: &mut Reconciler,
    spellings: &[String],
    step: impl Fn(u64),
) -> Result<TakenOut, Failure> {
    let mut taken = TakenOut::default();
    reconciler.session.check_owner().await?;
    let (mut keyspace, mut throttle) = (Keyspace::new(reconciler.context().keys.clone()), Throttle::new());
    while let Some(page) = keyspace.next_page(&mut reconciler.session, &mut throttle).await? {
        let of_page = take_out(reconciler, &page.sets, spellings).await?;
        taken.sets += of_page.sets;
        taken.unreadable += of_page.unreadable;
        step(page.sets.len() as u64);
        reconciler.context().checkpoint()?;
        throttle.rest().await;
    }
    Ok(taken)
}

/// Takes a viewer out of the sets of posts.
pub(crate) async fn take_out(reconciler: &mut Reconciler, posts: &[PostId], spellings: &[String]) -> Result<TakenOut, Failure> {
    let mut taken = TakenOut::default();
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for chunk in posts.chunks(SCRIPT_POSTS) {
        commands.clear();
        scripts::forget(&mut commands, &reconciler.context().keys, chunk, spellings);
        reconciler.session.exchange_owned(&commands, &mut replies).await?;
        let reply = replies.iter().next();
        let Some(Reply::List(all)) = reply else { return Err(refusal(reply).into()) };
        for (post, reply) in chunk.iter().zip(all.iter()) {
            match reply {
                Reply::Integer(removed) => taken.sets += u64::from(removed > 0),
                other => {
                    taken.unreadable += 1;
                    tracing::warn!(%post, error = %refusal(Some(other)), "a post's keys cannot be read");
                }
            }
        }
    }
    Ok(taken)
}
