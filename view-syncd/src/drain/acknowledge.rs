//! Acknowledging in Redis what PostgreSQL has committed or refused for good: dead letters first, then the numbers of
//! each post, then the entries.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use views_core::{failpoints, ids::PostId, log_names};
use views_postgres::ledger;
use views_redis::{
    resp::{Commands, Replies},
    scripts::{self, OfPost, Settled, Settlement},
};

use super::{
    committed::{AckedPost, Committed, Verdicts},
    dead_letter::NO_SUCH_POST,
    dead_letters,
    deferred::DeferReason,
    entries::Entries,
    missing_posts,
    outbox::Outbox,
};
use crate::{
    context::Context,
    entry_id::EntryId,
    error::{Failure, refusal},
    metrics::Deferrals,
    owned_session::OwnedSession,
};

/// Posts in one pipeline and, without a cluster, in one script, which takes Redis about half a millisecond.
const SCRIPT_POSTS: usize = 60;
/// How long an increment of `recorded` may come behind its entry: longer than view-ingest waits for Redis.
const GRACE: Duration = Duration::from_secs(2);
/// How soon a post is asked for again whose increments were missing.
const SHORT_PAUSE: Duration = Duration::from_millis(20);

/// Acknowledges what is committed of a batch and, when that is the last of it, deletes its entries.
pub(crate) async fn acknowledge(outbox: &mut Outbox, batch: &mut Committed, is_last: bool) -> Result<(), Failure> {
    let mut verdicts = batch.take_verdicts(&outbox.deferred, is_last);
    let mut added = 0;
    for (post, views, new) in std::mem::take(&mut verdicts.changes) {
        added += new.unsigned_abs();
        if new > 0 {
            outbox.shared.publisher.changed(post, views);
        }
    }
    if is_last {
        resolve_unknown(&outbox.context, batch, &mut verdicts).await?;
    }
    if !verdicts.missing.is_empty() {
        // Perhaps a new connection has led to another database, which has never had them.
        outbox.session.check_owner().await?;
    }
    let done = batch.take_done(verdicts, is_last);

    // The dead before the deletion of their entries: none may be lost. The keys after it: what is deleted brings no key
    // back.
    if done.gives_up_locked_pairs {
        outbox.shared.dead_letter_timer.start();
    }
    let dead = done.dead_letters.iter().filter(|dead_letter| dead_letter.reason != NO_SUCH_POST).count() as u64;
    if !done.dead_letters.is_empty() {
        dead_letters::add(&mut outbox.session, done.dead_letters).await?;
    }
    acknowledge_posts(&mut outbox.session, &batch.entries, done.acked, batch.connection).await?;
    if is_last {
        finish_entries(outbox, batch, &done.deferred).await?;
    }
    if !done.missing.is_empty() {
        missing_posts::remove(&mut outbox.session, &done.missing).await?;
    }
    failpoints::at("publish::before");
    outbox.shared.publisher.publish(&mut outbox.session).await;

    batch.acknowledged_pairs += usize::try_from(done.pairs).unwrap_or(usize::MAX);
    let metrics = &outbox.context.metrics;
    metrics.new.inc_by(added);
    metrics.unknown_post.inc_by(done.missing_pairs);
    metrics.known.inc_by(done.pairs.saturating_sub(added + done.missing_pairs + dead));
    Ok(())
}

/// Asks for the posts that were in no statement that was committed, because every pair of theirs is dead: those that
/// are not found do not exist.
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

/// Moves count and acknowledged pairs of each post in one step, over the connection by which the entries were read.
/// Repeating it changes nothing.
async fn acknowledge_posts(
    session: &mut OwnedSession,
    entries: &Entries,
    mut posts: Vec<AckedPost>,
    connection: u64,
) -> Result<(), Failure> {
    let since = Instant::now();
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    #[cfg(feature = "failpoints")]
    super::mistakes::before_acknowledging(session, &posts, connection).await?;
    let mut is_final = false;
    // A node of a cluster that does not do its part holds up no other one's.
    let mut failure = None;
    while !posts.is_empty() {
        let (mut again, mut unexpected) = (Vec::new(), Vec::new());
        let mut youngest: Option<EntryId> = None;
        let keys = session.context.keys.clone();
        scripts::sort_by_calls(&keys, &mut posts);
        session.check_outbox_on(connection).await?;
        for chunk in posts.chunks(SCRIPT_POSTS) {
            let settlements: Vec<Settlement> = chunk.iter().map(settlement).collect();
            failpoints::at("ack::before");
            commands.clear();
            scripts::settle(&mut commands, &keys, &settlements, is_final);
            session.redis.exchange_over(connection, &commands, &mut replies).await?;
            failpoints::at("ack::after");
            session.context.progress.made();
            for (acked, reply) in chunk.iter().zip(scripts::replies_about(&keys, &settlements, &replies)) {
                match scripts::settled(reply) {
                    Some(Settled::Done) => {}
                    Some(Settled::Fallen) => {
                        tracing::info!(name: log_names::EXAMPLE, post = %acked.post, "PostgreSQL has fewer views than it had");
                    }
                    Some(Settled::Short) => {
                        youngest = youngest.max(Some(acked.span.last));
                        again.push(acked.clone());
                    }
                    Some(Settled::Doubtful(count)) => unexpected.push(AckedPost { seen: Some(count), ..acked.clone() }),
                    Some(Settled::UpTo(id)) => again.extend(rest_of(acked, entries, &id)),
                    None if keys.are_in_cluster() => drop(failure.get_or_insert_with(|| refusal(Some(reply)))),
                    None => return Err(refusal(Some(reply)).into()),
                }
            }
        }
        ask_again(&session.context, &mut unexpected).await?;
        again.extend(unexpected);
        posts = again;
        if let Some(youngest) = youngest {
            // By the clock of Redis, or by our own where the two disagree.
            is_final = since.elapsed() >= GRACE || !is_young(youngest);
            if !is_final {
                tokio::time::sleep(SHORT_PAUSE).await;
            }
        }
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}

/// Asks PostgreSQL once more for the counts of posts of which Redis has more views than PostgreSQL had before the new ones.
async fn ask_again(context: &Context, unexpected: &mut [AckedPost]) -> Result<(), Failure> {
    let posts: Vec<PostId> = unexpected.iter().map(|acked| acked.post).collect();
    if posts.is_empty() {
        return Ok(());
    }
    let counts: HashMap<PostId, i64> = ledger::counts(&context.database, &posts).await?;
    for acked in unexpected {
        // One that was deleted this moment has its turn with the next scan.
        let views = counts.get(&acked.post).copied().unwrap_or(acked.views);
        // What others have stored since was not there before either.
        (acked.before, acked.views) = (views - (acked.views - acked.before), views);
    }
    Ok(())
}

/// Deletes the entries of a batch of which every post is acknowledged, and remembers the others with the posts for
/// whose sake they stay.
async fn finish_entries(outbox: &mut Outbox, batch: &mut Committed, deferred: &HashMap<u32, DeferReason>) -> Result<(), Failure> {
    let kept = std::mem::take(&mut batch.left_out).into_iter().map(|place| (place, None));
    let deferred: HashMap<u32, Option<DeferReason>> =
        deferred.iter().map(|(place, why)| (*place, Some(*why))).chain(kept).collect();
    for (place, why) in &deferred {
        let post = batch.post(*place);
        if let Some(span) = batch.spans[*place as usize] {
            let is_new = !outbox.deferred.contains(&post);
            if let Some(why) = why.filter(|_| is_new) {
                count_deferral(&outbox.context.metrics.deferrals, why);
            }
            outbox.deferred.defer(post, span.first, *why);
            batch.deferred.insert(post);
        }
    }
    let done: Vec<EntryId> = if deferred.is_empty() && !batch.is_retry {
        batch.entries.ids()
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
        && let Some(last) = batch.read_to
    {
        outbox.deferred.read_up_to(last, batch.connection);
    }
    outbox.delete(&done, batch.connection).await?;
    outbox.context.health.note_deleted(outbox.partition, i64::try_from(done.len()).unwrap_or(i64::MAX));
    Ok(())
}

fn count_deferral(deferrals: &Deferrals, why: DeferReason) {
    let counter = match why {
        DeferReason::Locked => &deferrals.row_locked,
        DeferReason::PairLocked => &deferrals.pair_locked,
        DeferReason::Full => &deferrals.count_full,
    };
    counter.inc();
}

/// Returns whether an increment that belongs to an entry may be on its way.
pub(crate) fn is_young(entry: EntryId) -> bool {
    entry.age() < GRACE
}

/// Returns what is left of a post when entries up to this one have been acknowledged by somebody else.
fn rest_of(acked: &AckedPost, entries: &Entries, id: &str) -> Option<AckedPost> {
    let span = entries.span_behind(acked.place, id.parse().ok()?)?;
    Some(AckedPost { span, ..acked.clone() })
}

impl OfPost for AckedPost {
    fn post(&self) -> &PostId {
        &self.post
    }
}

fn settlement(acked: &AckedPost) -> Settlement {
    let AckedPost { post, span, views, before, .. } = *acked;
    let (first, last, seen) = (span.first.to_string(), span.last.to_string(), acked.seen.clone());
    Settlement { post, first, last, pairs: span.pairs, views, before, seen }
}
