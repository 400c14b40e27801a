//! What the outboxes have of posts and is not acknowledged: that of a post's partition and, in a cluster, the one from
//! before there was a cluster.
//!
//! An outbox that cannot be read now, or is too long, makes nothing known of the posts whose pairs may be in it, and
//! leaves the others alone.

use std::collections::{BTreeMap, HashMap, HashSet};

use views_core::{
    ids::{PostId, ViewerId},
    keys::Keys,
    partition::Partition,
};
use views_redis::{
    RedisError,
    resp::{Commands, Replies, Reply},
};

use crate::{
    drain::{batch::Batch, entries::Span},
    entry_id::EntryId,
    error::{Failure, refusal},
    owned_session::OwnedSession,
};

/// How much is read at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Entries of an outbox; a longer one is not read at all.
    pub(crate) entries: i64,
    /// Pairs of the posts, of each outbox.
    pub(crate) pairs: usize,
}

/// What the outboxes have of posts.
#[derive(Debug)]
pub(crate) struct OutboxesOfPosts {
    keys: Keys,
    /// What each outbox has that was read.
    read: BTreeMap<Partition, Batch>,
    /// The outboxes that could not be read, or were too long.
    unknown: HashSet<Partition>,
}

/// Returns the partitions whose outboxes may have pairs of a post.
pub(crate) fn partitions_of(keys: &Keys, post: &PostId) -> impl Iterator<Item = Partition> + use<> {
    let legacy = keys.are_in_cluster().then_some(Partition::LEGACY);
    legacy.into_iter().chain([keys.partition(post)])
}

/// Returns the partitions whose outboxes may have pairs of posts, each once.
pub(crate) fn partitions_of_all<'a>(keys: &Keys, posts: impl IntoIterator<Item = &'a PostId>) -> Vec<Partition> {
    let mut partitions: Vec<Partition> = posts.into_iter().flat_map(|post| partitions_of(keys, post)).collect();
    partitions.sort_unstable();
    partitions.dedup();
    partitions
}

/// Returns the numbers of entries of partitions, as far as their nodes tell.
///
/// # Errors
/// [`RedisError`]: no node has answered or, without a cluster, the only one has refused.
pub(crate) async fn lengths(
    session: &mut OwnedSession,
    partitions: &[Partition],
) -> Result<BTreeMap<Partition, i64>, RedisError> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    ask_for_lengths(&mut commands, &session.context.keys, partitions);
    session.exchange(&commands, &mut replies).await?;
    read_lengths(session, partitions, replies.iter())
}

/// Writes the commands that ask for the numbers of entries.
pub(crate) fn ask_for_lengths(commands: &mut Commands, keys: &Keys, partitions: &[Partition]) {
    for partition in partitions {
        commands.command("XLEN", 1).text(keys.outbox_of(*partition));
    }
}

/// Reads the replies to these, as far as nodes tell.
pub(crate) fn read_lengths<'r>(
    session: &OwnedSession,
    partitions: &[Partition],
    replies: impl Iterator<Item = Reply<'r>>,
) -> Result<BTreeMap<Partition, i64>, RedisError> {
    let mut lengths = BTreeMap::new();
    for (partition, reply) in partitions.iter().zip(replies) {
        match reply {
            Reply::Integer(length) => drop(lengths.insert(*partition, length)),
            Reply::Error(error) if session.context.is_of_some_nodes(error.code) => {}
            other => return Err(refusal(Some(other))),
        }
    }
    Ok(lengths)
}

/// Returns the newest entry of each outbox that has any.
///
/// # Errors
/// [`RedisError`], also where only one of them cannot be asked.
pub(crate) async fn newest(session: &mut OwnedSession) -> Result<BTreeMap<Partition, EntryId>, RedisError> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let partitions: Vec<Partition> = session.context.keys.drained_partitions().collect();
    for partition in &partitions {
        let outbox = session.context.keys.outbox_of(*partition);
        commands.command("XREVRANGE", 5).text(outbox).text("+").text("-").text("COUNT").number(1);
    }
    session.redis.exchange(&commands, &mut replies).await?;
    let mut newest = BTreeMap::new();
    for (partition, reply) in partitions.into_iter().zip(replies.iter()) {
        let Reply::List(page) = reply else { return Err(refusal(Some(reply))) };
        let entry = page.iter().next().and_then(|entry| if let Reply::List(entry) = entry { entry.iter().next() } else { None });
        newest.extend(entry.and_then(Reply::text).and_then(|id| Some((partition, id.parse().ok()?))));
    }
    Ok(newest)
}

/// Reads what the outboxes have of posts, of each from an entry on.
pub(crate) async fn read(
    session: &mut OwnedSession,
    posts: &HashMap<PostId, EntryId>,
    bounds: Bounds,
) -> Result<OutboxesOfPosts, Failure> {
    let keys = session.context.keys.clone();
    let partitions = partitions_of_all(&keys, posts.keys());
    let lengths = lengths(session, &partitions).await?;
    let mut outboxes = OutboxesOfPosts { keys, read: BTreeMap::new(), unknown: HashSet::new() };
    for partition in partitions {
        match lengths.get(&partition) {
            Some(0) => {}
            Some(length) if *length <= bounds.entries => {
                let wanted: HashMap<PostId, EntryId> = posts
                    .iter()
                    .filter(|(post, _)| outboxes.may_have(partition, post))
                    .map(|(post, from)| (*post, *from))
                    .collect();
                outboxes.read_one(session, partition, wanted, bounds.pairs).await?;
            }
            _ => drop(outboxes.unknown.insert(partition)),
        }
    }
    Ok(outboxes)
}

impl OutboxesOfPosts {
    fn may_have(&self, partition: Partition, post: &PostId) -> bool {
        partitions_of(&self.keys, post).any(|of_post| of_post == partition)
    }

    async fn read_one(
        &mut self,
        session: &mut OwnedSession,
        partition: Partition,
        wanted: HashMap<PostId, EntryId>,
        most_pairs: usize,
    ) -> Result<(), Failure> {
        let is_clustered = session.context.redis.is_clustered();
        // In a cluster, it is another node's than what was asked last.
        let connection = if is_clustered { 0 } else { session.redis.number() };
        let mut batch = Batch::of(wanted, EntryId::LAST, connection);
        match batch.read_on(session, partition, most_pairs).await {
            Ok(()) if batch.is_at_end => drop(self.read.insert(partition, batch)),
            Ok(()) => drop(self.unknown.insert(partition)),
            // Its node is away, or its slot has just moved.
            Err(error) if is_clustered => {
                tracing::debug!(partition = partition.number(), %error, "an outbox cannot be read now");
                self.unknown.insert(partition);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Returns whether it is known what the outboxes have of a post.
    pub(crate) fn are_known_of(&self, post: &PostId) -> bool {
        !partitions_of(&self.keys, post).any(|partition| self.unknown.contains(&partition))
    }

    /// Returns who is in them with a post.
    pub(crate) fn viewers_of(&self, post: &PostId) -> HashSet<ViewerId> {
        self.read.values().flat_map(|batch| batch.pairs.viewers_of(post)).collect()
    }

    /// Returns how many pairs of a post they have, those that are repeated too, and the last entry with any; nothing where
    /// they have none.
    pub(crate) fn pairs_of(&self, post: &PostId) -> Option<(i64, EntryId)> {
        let spans = self.read.values().filter_map(|batch| batch.span_of(post, EntryId::FIRST));
        spans.fold(None, |sum: Option<(i64, EntryId)>, Span { pairs, last, .. }| {
            let (before, latest) = sum.unwrap_or((0, last));
            Some((before + i64::try_from(pairs).unwrap_or(i64::MAX), latest.max(last)))
        })
    }
}
