//! Erasing a viewer from Redis: from the outbox, from dead letters, and from the sets of posts.
//!
//! Nothing is taken out of the outbox behind a drain's back: it may have read the pairs and not stored them yet, and would
//! bring them into the ledger after that is clean. So what is pending is stored first, and erased in the ledger.

use std::collections::BTreeMap;

use views_core::{
    ids::{PostId, ViewerId},
    partition::Partition,
};
use views_redis::{
    resp::{Commands, Replies, Reply},
    scripts,
};

use super::{adopted::demand_all, reconciler::Reconciler, throttle::Throttle};
use crate::{
    drain::{batch::Batch, dead_letters},
    entry_id::EntryId,
    error::{Failure, refusal},
};

/// Pairs of the outbox that are read at once.
const OUTBOX_PAIRS: usize = 5_000;
/// Posts in one script, which takes Redis a fraction of a millisecond.
const SCRIPT_POSTS: usize = 30;

/// Which sets have a viewer.
#[derive(Debug, Clone, Default)]
pub(crate) struct InSets {
    /// The posts of these sets.
    pub(crate) posts: Vec<PostId>,
    /// How many keys hold something else.
    pub(crate) unreadable: u64,
}

/// Returns how many pairs of a viewer the outboxes have, each up to an entry.
pub(crate) async fn pending_pairs(
    reconciler: &mut Reconciler,
    viewer: &ViewerId,
    until: &BTreeMap<Partition, EntryId>,
) -> Result<u64, Failure> {
    let (mut pairs, mut throttle) = (0, Throttle::new());
    for (partition, until) in until {
        // In a cluster, it is another node's than what was asked last.
        let connection = if reconciler.context().redis.is_clustered() { 0 } else { reconciler.session.redis.number() };
        let mut batch = Batch::until(*until, connection);
        loop {
            batch.read_on(&mut reconciler.session, *partition, OUTBOX_PAIRS).await?;
            pairs += batch.pairs.pairs_of(viewer) as u64;
            if batch.is_at_end {
                break;
            }
            batch = batch.behind();
            reconciler.context().checkpoint()?;
            throttle.rest().await;
        }
    }
    Ok(pairs)
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

/// Returns which of the sets of posts have a viewer.
pub(crate) async fn find_in_sets(reconciler: &mut Reconciler, posts: &[PostId], spellings: &[String]) -> Result<InSets, Failure> {
    let mut found = InSets::default();
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for post in posts {
        commands.command("SMISMEMBER", 1 + spellings.len()).parts(&reconciler.context().keys.views_parts(post));
        for spelling in spellings {
            commands.text(spelling);
        }
    }
    if posts.is_empty() {
        return Ok(found);
    }
    reconciler.session.exchange_owned(&commands, &mut replies).await?;
    for (post, reply) in posts.iter().zip(replies.iter()) {
        match reply {
            Reply::List(members) if members.iter().any(|member| member == Reply::Integer(1)) => found.posts.push(*post),
            Reply::List(_) => {}
            other => {
                found.unreadable += 1;
                tracing::warn!(%post, error = %refusal(Some(other)), "a post's keys cannot be read");
            }
        }
    }
    Ok(found)
}

/// Takes a viewer out of the sets of posts. Returns how many had him.
pub(crate) async fn take_out(reconciler: &mut Reconciler, posts: &[PostId], spellings: &[String]) -> Result<u64, Failure> {
    let mut taken = 0;
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for chunk in posts.chunks(SCRIPT_POSTS) {
        commands.clear();
        scripts::forget(&mut commands, &reconciler.context().keys, chunk, spellings);
        reconciler.session.exchange_owned(&commands, &mut replies).await?;
        demand_all(reconciler, &replies)?;
        let all = scripts::replies_about(&reconciler.context().keys, chunk, &replies);
        // What holds something else than a set is told by whoever looks through all of them.
        taken += all.filter(|reply| matches!(reply, Reply::Integer(removed) if *removed > 0)).count() as u64;
    }
    Ok(taken)
}

/// Puts a viewer back into the sets of posts whose rows could not be erased. The live counts stay what they are. Returns
/// how many did not have him.
pub(crate) async fn put_back(reconciler: &mut Reconciler, posts: &[PostId], viewer: &ViewerId) -> Result<u64, Failure> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for post in posts {
        scripts::adopt(&mut commands, &reconciler.context().keys, post, std::slice::from_ref(viewer));
    }
    if posts.is_empty() {
        return Ok(0);
    }
    reconciler.session.exchange_owned(&commands, &mut replies).await?;
    demand_all(reconciler, &replies)?;
    Ok(replies.iter().filter(|reply| *reply == Reply::Integer(1)).count() as u64)
}
