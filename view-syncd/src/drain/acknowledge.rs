//! Acknowledging in Redis what PostgreSQL has committed or refused for good: dead letters first, then the numbers of each post, then the
//! entries.

use std::collections::{HashMap, HashSet};

use fred::error::Error;
use views_core::{failpoints, ids::PostId};
use views_postgres::ledger;
use views_redis::resp::{Commands, Replies, Reply};

use super::{
    committed::{AckedPost, Committed, Verdicts},
    dead_letter::NO_SUCH_POST,
    dead_letters,
    deferred::DeferReason,
    missing_posts,
    outbox::Outbox,
    post_numbers,
};
use crate::{
    context::Context,
    entry_id::EntryId,
    error::{Failure, refusal},
};

/// Entries that are deleted with one command.
const DELETED_ENTRIES: usize = 200;

/// Acknowledges what is committed of a batch and, when that is the last of it, deletes its entries.
pub(crate) async fn acknowledge(outbox: &mut Outbox, batch: &mut Committed, is_last: bool) -> Result<(), Failure> {
    let mut verdicts = batch.verdicts(&outbox.deferred);
    let mut added = 0;
    for (post, views, new) in batch.take_changes(&verdicts, is_last) {
        added += new.unsigned_abs();
        if new > 0 {
            outbox.shared.publisher.changed(post, views);
        }
    }
    if is_last {
        resolve_unknown(outbox.context(), batch, &mut verdicts).await?;
    }
    if !verdicts.missing.is_empty() {
        // Perhaps a new connection has led to another database, which has never had them.
        outbox.session.check_owner().await?;
    }
    let missing: Vec<PostId> = verdicts.missing.iter().map(|place| batch.post(*place)).collect();
    let missing_pairs = batch.pairs_of(verdicts.missing.iter().copied());
    let acknowledged_pairs = batch.pairs_of(verdicts.done());

    // The dead before the deletion of their entries: none may be lost. The keys after it: what is deleted brings no key back.
    let dead_letters = batch.take_dead_letters(&verdicts, is_last);
    if batch.gives_up_locked_pairs(&verdicts) {
        outbox.shared.dead_letter_timer.start();
    }
    let dead = dead_letters.iter().filter(|dead_letter| dead_letter.reason != NO_SUCH_POST).count() as u64;
    dead_letters::add(&mut outbox.session, dead_letters).await?;
    batch.note_acknowledged(&verdicts);
    post_numbers::acknowledge(&mut outbox.session, &batch.entries, verdicts.acked, batch.connection).await?;
    if is_last {
        finish_entries(outbox, batch, &verdicts.deferred).await?;
    }
    missing_posts::remove(&mut outbox.session, &missing).await?;
    failpoints::at("publish::before");
    outbox.shared.publisher.publish(&mut outbox.session).await;

    batch.acknowledged_pairs += usize::try_from(acknowledged_pairs).unwrap_or(usize::MAX);
    let metrics = &outbox.context().metrics;
    metrics.new.inc_by(added);
    metrics.unknown_post.inc_by(missing_pairs);
    metrics.known.inc_by(acknowledged_pairs.saturating_sub(added + missing_pairs + dead));
    Ok(())
}

/// Asks for the posts that were in no statement that was committed, because every pair of theirs is dead: those that are not found do not exist.
async fn resolve_unknown(context: &Context, batch: &Committed, verdicts: &mut Verdicts) -> Result<(), Failure> {
    let unknown = std::mem::take(&mut verdicts.unknown);
    if unknown.is_empty() {
        return Ok(());
    }
    // A standby may only not know them yet.
    context.database.ping().await?;
    let posts: Vec<PostId> = unknown.iter().map(|place| batch.post(*place)).collect();
    let counts = ledger::counts(&context.database, &posts).await?;
    for (place, post) in unknown.into_iter().zip(posts) {
        match (counts.get(&post), batch.spans[place as usize]) {
            (Some(views), Some(span)) => {
                verdicts.acked.push(AckedPost { post, place, span, views: *views, before: *views, seen: None });
            }
            _ => {
                verdicts.missing.insert(place);
            }
        }
    }
    Ok(())
}

/// Deletes the entries of a batch of which every post is acknowledged, and remembers the others with the posts for whose sake they stay.
async fn finish_entries(outbox: &mut Outbox, batch: &mut Committed, deferred: &HashMap<u32, DeferReason>) -> Result<(), Failure> {
    let kept = std::mem::take(&mut batch.left_out).into_iter().map(|place| (place, None));
    let deferred: HashMap<u32, Option<DeferReason>> =
        deferred.iter().map(|(place, why)| (*place, Some(*why))).chain(kept).collect();
    for (place, why) in &deferred {
        let post = batch.post(*place);
        if let Some(span) = batch.spans[*place as usize] {
            outbox.deferred.defer(post, span.first, *why);
            batch.deferred.insert(post);
        }
    }
    let done: Vec<EntryId> = if deferred.is_empty() && !batch.is_retry {
        batch.entry_ids()
    } else {
        let mut done = Vec::new();
        for (id, named) in batch.entries.iter() {
            let named: HashSet<u32> = named.iter().copied().collect();
            let waiting = named.iter().filter(|place| deferred.contains_key(place)).count();
            done.extend(outbox.deferred.finish(id, waiting, named.len() - waiting).then_some(id));
        }
        done
    };
    if !batch.is_retry
        && let Some(last) = batch.entries.last()
    {
        outbox.deferred.read_up_to(last, batch.connection);
    }
    delete_entries(outbox, &done, batch.connection).await?;
    outbox.context().metrics.outbox_entries.dec_by(i64::try_from(done.len()).unwrap_or(i64::MAX));
    Ok(())
}

/// Deletes entries of which every post is acknowledged, over the connection by which they were read.
pub(crate) async fn delete_entries(outbox: &mut Outbox, entries: &[EntryId], connection: u64) -> Result<(), Error> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for chunk in entries.chunks(DELETED_ENTRIES) {
        failpoints::at("delete::before");
        commands.clear();
        commands.command("XDEL", 1 + chunk.len()).text(outbox.context().keys.outbox());
        for entry in chunk {
            commands.text(&entry.to_string());
        }
        outbox.session.line.exchange_over(connection, &commands, &mut replies).await?;
        outbox.context().progress.made();
        let reply = replies.iter().next();
        if !matches!(reply, Some(Reply::Integer(_))) {
            return Err(refusal(reply));
        }
    }
    Ok(())
}
