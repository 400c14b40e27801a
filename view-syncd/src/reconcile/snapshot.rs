//! How far the numbers of posts have drifted from the outboxes.
//!
//! The hashes are read twice, and the outboxes in between: what a hash says both times was so when the outboxes were
//! read. Of a post whose hash has changed, another look tells.

use std::collections::HashMap;

use views_core::{ids::PostId, partition::Partition};
use views_redis::{
    post_meta::{self, Field, PostMeta},
    resp::{Commands, Replies, Reply},
};

use super::outboxes::{ask_for_lengths, partitions_of, partitions_of_all, read_lengths};
use crate::{
    drain::{acknowledge::is_young, batch::Batch, entries::Span},
    entry_id::EntryId,
    error::{Failure, refusal},
    owned_session::OwnedSession,
};

/// What is asked of a hash.
const FIELDS: [Field; 4] = [Field::Recorded, Field::Acked, Field::Repeated, Field::Settled];
/// A longer outbox is not read whole in one command.
const MAX_ENTRIES: usize = 100;
/// Posts in one look.
pub(crate) const LOOK_POSTS: usize = 250;
/// How often posts are looked at whose hashes change meanwhile.
const LOOKS: usize = 3;

/// What a hash says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Numbers {
    exists: bool,
    recorded: i64,
    acked: i64,
    repeated: i64,
    settled: EntryId,
}

/// Returns by how much each of the posts has drifted from the outboxes, which is zero of those that have not. Those are
/// left out of which that cannot be told: they move all the time, or an outbox is too long or cannot be read.
pub(crate) async fn drifts(session: &mut OwnedSession, posts: &[PostId]) -> Result<HashMap<PostId, i64>, Failure> {
    let mut drifts = HashMap::new();
    for chunk in posts.chunks(LOOK_POSTS) {
        let mut open = chunk.to_vec();
        for _ in 0..LOOKS {
            open = look(session, &open, &mut drifts).await?;
            session.context.checkpoint()?;
            if open.is_empty() {
                break;
            }
        }
    }
    Ok(drifts)
}

/// Adds the drifts of some posts. Returns those whose hashes have changed meanwhile.
async fn look(session: &mut OwnedSession, posts: &[PostId], drifts: &mut HashMap<PostId, i64>) -> Result<Vec<PostId>, Failure> {
    let keys = session.context.keys.clone();
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let partitions = partitions_of_all(&keys, posts);
    ask_for_hashes(&mut commands, session, posts);
    ask_for_lengths(&mut commands, &keys, &partitions);
    session.exchange(&commands, &mut replies).await?;
    let before = read_hashes(session, posts, &replies)?;
    let mut lengths = read_lengths(session, &partitions, replies.iter().skip(posts.len()))?;
    lengths.retain(|_, length| *length <= MAX_ENTRIES as i64);
    let mut waiting: HashMap<Partition, Batch> =
        lengths.iter().filter(|(_, length)| **length == 0).map(|(partition, _)| (*partition, Batch::default())).collect();
    lengths.retain(|_, length| *length > 0);
    commands.clear();
    for partition in lengths.keys() {
        let outbox = keys.outbox_of(*partition);
        commands.command("XRANGE", 5).text(outbox).text("-").text("+").text("COUNT").number(MAX_ENTRIES as i64 + 1);
    }
    if !commands.is_empty() {
        session.exchange(&commands, &mut replies).await?;
        for (partition, reply) in lengths.into_keys().zip(replies.iter()) {
            match reply {
                Reply::List(page) if page.len() <= MAX_ENTRIES => {
                    waiting.entry(partition).or_default().take(page);
                }
                Reply::List(_) => {}
                Reply::Error(error) if session.context.is_of_some_nodes(error.code) => {}
                other => return Err(refusal(Some(other)).into()),
            }
        }
    }
    commands.clear();
    ask_for_hashes(&mut commands, session, posts);
    session.exchange(&commands, &mut replies).await?;
    let after = read_hashes(session, posts, &replies)?;
    let mut moved = Vec::new();
    for ((post, before), after) in posts.iter().zip(before).zip(after) {
        let outboxes: Vec<Option<&Batch>> = partitions_of(&keys, post).map(|partition| waiting.get(&partition)).collect();
        let (Some(before), Some(after), Some(outboxes)) = (before, after, outboxes.into_iter().collect::<Option<Vec<_>>>())
        else {
            continue;
        };
        if before == after {
            drifts.insert(*post, after.drift(post, &outboxes));
        } else {
            moved.push(*post);
        }
    }
    Ok(moved)
}

fn ask_for_hashes(commands: &mut Commands, session: &OwnedSession, posts: &[PostId]) {
    for post in posts {
        post_meta::ask(commands, &session.context.keys, post, &FIELDS);
    }
}

/// Reads what hashes say; nothing of those that hold something else, or whose node is away.
fn read_hashes(session: &OwnedSession, posts: &[PostId], replies: &Replies) -> Result<Vec<Option<Numbers>>, Failure> {
    let mut all = replies.iter();
    let mut numbers = Vec::with_capacity(posts.len());
    for post in posts {
        let reply = all.next().ok_or_else(|| refusal(None))?;
        numbers.push(match PostMeta::read(reply, &FIELDS) {
            Ok(PostMeta { exists, recorded, acked, repeated, settled, .. }) => {
                let settled = settled.and_then(|id| id.parse().ok()).unwrap_or(EntryId::FIRST);
                Some(Numbers { exists, recorded, acked, repeated, settled })
            }
            Err(error) if session.context.is_of_one_post(&error) => {
                tracing::debug!(%post, %error, "a look met a key that it cannot read");
                None
            }
            Err(error) => return Err(error.into()),
        });
    }
    Ok(numbers)
}

impl Numbers {
    /// Returns how far they have drifted from what outboxes have of the post.
    fn drift(&self, post: &PostId, outboxes: &[&Batch]) -> i64 {
        // A hash that has expired has no drift.
        if !self.exists {
            return 0;
        }
        let spans: Vec<Span> = outboxes.iter().filter_map(|batch| batch.span_of(post, self.settled)).collect();
        let pairs = spans.iter().map(|span| i64::try_from(span.pairs).unwrap_or(i64::MAX)).sum::<i64>();
        // `repeated` may be left over from an entry that was acknowledged while there was no hash.
        let drift = self.recorded + self.repeated.min(pairs) - self.acked - pairs;
        // The increment of a young entry may be on its way.
        let is_on_its_way = drift < 0 && spans.iter().any(|span| is_young(span.last));
        if is_on_its_way { 0 } else { drift }
    }
}
