//! The numbers of posts in Redis: count and acknowledged pairs move in one step for each post, by a script that changes nothing when it is
//! repeated.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use views_core::{failpoints, ids::PostId, keys::field};
use views_postgres::ledger;
use views_redis::{
    resp::{Commands, Replies, Reply},
    scripts::{self, Settled, Settlement},
};

use super::{committed::AckedPost, entries::Entries};
use crate::{
    context::Context,
    entry_id::EntryId,
    error::{Failure, refusal},
    owned_session::OwnedSession,
};

/// Posts in one script, which takes Redis about half a millisecond.
const SCRIPT_POSTS: usize = 60;
/// How long an increment of `recorded` may come behind its entry: longer than view-ingest waits for Redis.
const GRACE: Duration = Duration::from_secs(2);
/// How soon a post is asked for again whose increments were missing.
const SHORT_PAUSE: Duration = Duration::from_millis(20);

/// Acknowledges posts, over the connection by which the entries were read.
pub(crate) async fn acknowledge(
    session: &mut OwnedSession,
    entries: &Entries,
    mut posts: Vec<AckedPost>,
    connection: u64,
) -> Result<(), Failure> {
    let since = Instant::now();
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    if failpoints::is_broken(failpoints::COUNT_BEFORE_ACK) && !posts.is_empty() {
        for acked in &posts {
            let meta = session.context.keys.meta_parts(&acked.post);
            commands.command("HSET", 3).parts(&meta).text(field::PERSISTED).number(acked.views);
        }
        session.line.exchange_over(connection, &commands, &mut replies).await?;
        tokio::time::sleep(SHORT_PAUSE).await;
    }
    let mut is_final = false;
    while !posts.is_empty() {
        let (mut again, mut unexpected) = (Vec::new(), Vec::new());
        let mut youngest: Option<EntryId> = None;
        for chunk in posts.chunks(SCRIPT_POSTS) {
            let settlements: Vec<Settlement> = chunk.iter().map(settlement).collect();
            failpoints::at("ack::before");
            commands.clear();
            scripts::settle(&mut commands, &session.context.keys, &settlements, is_final);
            session.line.exchange_over(connection, &commands, &mut replies).await?;
            failpoints::at("ack::after");
            session.context.progress.made();
            let reply = replies.iter().next();
            let Some(Reply::List(all)) = reply else { return Err(refusal(reply).into()) };
            for (acked, reply) in chunk.iter().zip(all.iter()) {
                match scripts::settled(reply) {
                    Some(Settled::Done) => {}
                    Some(Settled::Fallen) => tracing::info!(post = %acked.post, "PostgreSQL has fewer views than it had"),
                    Some(Settled::Short) => {
                        youngest = youngest.max(Some(acked.span.last));
                        again.push(acked.clone());
                    }
                    Some(Settled::Doubtful(count)) => unexpected.push(AckedPost { seen: Some(count), ..acked.clone() }),
                    Some(Settled::UpTo(id)) => again.extend(rest_of(acked, entries, &id)),
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
    Ok(())
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

/// Returns whether an increment that belongs to an entry may be on its way.
pub(crate) fn is_young(entry: EntryId) -> bool {
    entry.age() < GRACE
}

/// Returns what is left of a post when entries up to this one have been acknowledged by somebody else.
fn rest_of(acked: &AckedPost, entries: &Entries, id: &str) -> Option<AckedPost> {
    let span = entries.span_behind(acked.place, id.parse().ok()?)?;
    Some(AckedPost { span, ..acked.clone() })
}

fn settlement(acked: &AckedPost) -> Settlement {
    let AckedPost { post, span, views, before, .. } = *acked;
    let (first, last, seen) = (span.first.to_string(), span.last.to_string(), acked.seen.clone());
    Settlement { post, first, last, pairs: span.pairs, views, before, seen }
}
