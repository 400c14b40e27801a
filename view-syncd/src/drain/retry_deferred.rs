//! Looks again at deferred posts: what the outbox has of those whose locks are gone is stored.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use views_core::ids::PostId;
use views_postgres::ledger;

use super::{acknowledge::acknowledge, batch::Batch, committed::Committed, outbox::Outbox};
use crate::{entry_id::EntryId, error::Failure};

/// Stores the pairs of deferred posts whose locks are gone. Returns how many pairs were stored and acknowledged.
pub(crate) async fn retry_deferred(outbox: &mut Outbox) -> Result<usize, Failure> {
    if !outbox.deferred.is_due() {
        return Ok(0);
    }
    if outbox.deferred.any_is_full() {
        // The column may have been made a larger one.
        outbox.context.database.schema_for_refusal().await?;
    }
    let (posts, with_pairs) = outbox.deferred.due();
    let free: HashSet<PostId> = ledger::unlocked(&outbox.context.database, &posts).await?;
    let mut pairs = store(outbox, free, None).await?;
    if !with_pairs.is_empty() {
        let started = Instant::now();
        pairs += store(outbox, with_pairs.iter().copied().collect(), None).await?;
        outbox.deferred.looked_at(&with_pairs, started.elapsed());
    }
    if let Some((post, patience)) = outbox.deferred.starving() {
        pairs += store(outbox, [post].into(), Some(patience)).await?;
    }
    outbox.deferred.retried();
    Ok(pairs)
}

/// Reads what the outbox has of deferred posts, batch by batch, and stores it as far as that can be done.
async fn store(outbox: &mut Outbox, mut posts: HashSet<PostId>, patience: Option<Duration>) -> Result<usize, Failure> {
    let mut pairs = 0;
    loop {
        // What an entry has of a post before that is acknowledged, and must not be taken for one more reason to delete
        // the entry.
        let wanted: HashMap<PostId, EntryId> =
            outbox.deferred.unacknowledged().filter(|(post, _)| posts.contains(post)).collect();
        posts.retain(|post| wanted.contains_key(post));
        let position = outbox.deferred.position().filter(|_| !wanted.is_empty());
        let Some((until, connection)) = position else { return Ok(pairs) };
        let mut batch = Batch::of(wanted, until, connection);
        let limit = outbox.context.settings.batch_size;
        batch.read_on(&mut outbox.session, outbox.partition, limit).await?;
        batch.prepare_for(&outbox.context.database).await?;
        let read_to = (!batch.is_at_end).then_some(batch.read_to).flatten();
        let committed = store_batch(outbox, batch, patience).await?;
        pairs += committed.acknowledged_pairs;
        posts.retain(|post| !committed.deferred.contains(post));
        for post in &posts {
            outbox.deferred.acknowledged(post, read_to);
        }
        if read_to.is_none() {
            return Ok(pairs);
        }
        outbox.context.checkpoint()?;
    }
}

/// Stores and acknowledges one batch of deferred posts.
async fn store_batch(outbox: &mut Outbox, batch: Batch, patience: Option<Duration>) -> Result<Committed, Failure> {
    let (mut committed, pairs) = Committed::new(batch, &HashSet::new());
    let inserter = outbox.shared.inserter.clone();
    let mut insertion = inserter.begin(&pairs, true, patience);
    loop {
        let (outcome, is_done) = insertion.run().await;
        committed.take(outcome, &pairs);
        acknowledge(outbox, &mut committed, matches!(is_done, Ok(true))).await?;
        if is_done? {
            return Ok(committed);
        }
    }
}
