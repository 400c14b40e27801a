//! The outbox's part of writing: the new pairs of a batch become entries of the outboxes of their partitions, of which
//! there is one without a cluster. What one outbox refuses, or a node that is away, is nothing to the others.

use std::ops::Range;

use smallvec::{SmallVec, smallvec};
use views_core::{
    keys::Keys,
    partition::{self, Partition},
};
use views_redis::{
    Answered, Code, Pipeline, RedisError, Session,
    resp::{Commands, Reply},
};

use crate::record::{check::Checked, context::Context};

/// Pairs in one outbox entry at most, so that whoever reads the outbox can bound what it reads at once.
const MAX_PAIRS_PER_ENTRY: usize = 128;

/// The ids of the entries that a batch has put into the outboxes, mostly a single one; empty for one that was refused.
pub(super) type EntryIds = SmallVec<[Box<str>; 1]>;

/// The parts of a batch, mostly a single one.
pub(super) type Parts = SmallVec<[Part; 1]>;

/// The part of a batch that goes into one outbox.
#[derive(Debug)]
pub(super) struct Part {
    partition: Partition,
    /// The places of its groups.
    pub(super) groups: Range<usize>,
    /// How many pairs it has that are new.
    pub(super) pairs: usize,
    /// The place of its first entry among those of the batch.
    first_entry: usize,
    /// Whether its outbox has taken all of them, so that the sets may follow.
    pub(super) is_taken: bool,
    /// By whom its last entry was taken.
    taken_by: Option<Answered>,
}

impl Part {
    fn of(partition: Partition, groups: Range<usize>, all: &[Checked<'_>]) -> Self {
        let pairs = all[groups.clone()].iter().map(Checked::new_count).sum();
        Self { partition, groups, pairs, first_entry: 0, is_taken: true, taken_by: None }
    }

    /// Notes that the sets may not follow where another server, or another node of a cluster, would take them than the
    /// one that has taken the entries. It may have lost these, and whoever is in a set is never recorded again.
    pub(super) fn check_taker(&mut self, session: &mut Session) {
        self.is_taken &= self.pairs == 0 || self.taken_by.is_some_and(|taken_by| session.would_answer(&taken_by));
    }

    fn entries(&self) -> usize {
        self.pairs.div_ceil(MAX_PAIRS_PER_ENTRY)
    }

    /// Returns the place, among those of the batch, of the entry that has the last of so many of its pairs.
    pub(super) fn entry(&self, pairs: usize) -> usize {
        self.first_entry + pairs.saturating_sub(1) / MAX_PAIRS_PER_ENTRY
    }
}

/// Divides a batch by partition, of which each has its groups one behind the other.
pub(super) fn divide<'b>(keys: &Keys, groups: Vec<Checked<'b>>) -> (Vec<Checked<'b>>, Parts) {
    if !keys.are_in_cluster() {
        let parts = smallvec![Part::of(Partition::WHOLE, 0..groups.len(), &groups)];
        return (groups, parts);
    }
    let mut named: Vec<(Partition, Checked<'_>)> =
        groups.into_iter().map(|checked| (keys.partition(&checked.group.post), checked)).collect();
    named.sort_by_key(|(partition, _)| *partition);
    let mut ranges: SmallVec<[(Partition, Range<usize>); 8]> = SmallVec::new();
    for run in named.chunk_by(|(one, _), (next, _)| one == next) {
        let start = ranges.last().map_or(0, |(_, range)| range.end);
        ranges.extend(run.first().map(|(partition, _)| (*partition, start..start + run.len())));
    }
    let groups: Vec<Checked<'_>> = named.into_iter().map(|(_, checked)| checked).collect();
    let parts = ranges.into_iter().map(|(partition, range)| Part::of(partition, range, &groups)).collect();
    (groups, parts)
}

/// Writes the outboxes and waits for their replies: of each part, all or nothing is to follow. Notes which parts are
/// taken, and the ids of the entries.
pub(super) async fn send(
    context: &Context,
    pipeline: &mut Pipeline,
    groups: &[Checked<'_>],
    parts: &mut Parts,
    entries: &mut EntryIds,
) {
    pipeline.commands.clear();
    for part in parts.iter_mut() {
        part.first_entry = pipeline.commands.len();
        let outbox = context.keys.outbox_of(part.partition);
        queue(&mut pipeline.commands, outbox, &groups[part.groups.clone()], part.pairs);
    }
    if pipeline.exchange().await.is_err() {
        parts.iter_mut().for_each(|part| part.is_taken = part.pairs == 0);
        return;
    }
    let mut replies = pipeline.replies.iter();
    let mut is_told = false;
    for part in parts {
        let mut refusal = None;
        for _ in 0..part.entries() {
            let reply = replies.next();
            if let Some(Reply::Text(id)) = reply {
                entries.push(id.into());
            } else {
                entries.push(Box::default());
                let error = || reply.and_then(Reply::error).map_or(RedisError::UnexpectedReply, RedisError::from);
                refusal.get_or_insert_with(error);
            }
        }
        part.is_taken = refusal.is_none();
        let last = (part.first_entry + part.entries()).saturating_sub(1);
        part.taken_by = pipeline.session.answered(last);
        // Of a node that is away, the circuit breaker tells.
        if let Some(error) = refusal.filter(|error| !error.is_away()) {
            note_refusal(context, part.partition, &error, !std::mem::replace(&mut is_told, true));
        }
    }
}

fn queue(commands: &mut Commands, outbox: &str, groups: &[Checked<'_>], pairs: usize) {
    let all = groups.iter().flat_map(|checked| checked.new_viewers().map(|viewer| (&checked.group.post, viewer)));
    for (place, (post, viewer)) in all.enumerate() {
        if place % MAX_PAIRS_PER_ENTRY == 0 {
            let fields = (pairs - place).min(MAX_PAIRS_PER_ENTRY);
            commands.command("XADD", 2 + 2 * fields).text(outbox).text("*");
        }
        commands.text(post.as_str()).text(viewer.as_str());
    }
}

fn note_refusal(context: &Context, partition: Partition, error: &RedisError, is_first: bool) {
    if is_first {
        tracing::warn!(%error, "Redis did not record a batch");
    }
    let outbox = context.keys.outbox_of(partition);
    let node = context.redis.node_of_slot(partition::slot(outbox.as_bytes()));
    context.health.redis_has_refused(node.and_then(|node| context.redis.address(node)), error);
    // A primary that its replicas have left, perhaps for another one.
    if error.code() == Some(Code::NoReplicas) {
        context.breaker.find_primary();
    }
}

#[cfg(test)]
mod tests {
    use smallvec::SmallVec;
    use views_core::ids::{PostId, ViewerId};

    use super::*;
    use crate::record::{
        check::Known,
        group::{Group, Items, Membership, Viewer},
    };

    /// Groups of posts that are viewed by so many new viewers each.
    fn groups(posts: impl Iterator<Item = (String, usize)>) -> Vec<Group> {
        let viewer = |number| Viewer { id: ViewerId::parse(&format!("v{number}")).unwrap(), membership: Membership::New };
        let group = |(post, viewers): (String, usize)| Group {
            post: PostId::parse(&post).unwrap(),
            items: Items::new(),
            viewers: (0..viewers).map(viewer).collect::<SmallVec<_>>(),
        };
        posts.map(group).collect()
    }

    fn checked(groups: &mut [Group]) -> Vec<Checked<'_>> {
        groups.iter_mut().map(|group| Checked { group, known: Known::default() }).collect()
    }

    #[test]
    fn without_a_cluster_there_is_one_part_in_the_order_of_the_batch() {
        let mut groups = groups((0..5).map(|post| (format!("p{post}"), post)));
        let (divided, parts) = divide(&Keys::default(), checked(&mut groups));
        let posts: Vec<&str> = divided.iter().map(|checked| checked.group.post.as_str()).collect();
        assert_eq!(posts, ["p0", "p1", "p2", "p3", "p4"]);
        let [part] = &*parts else { panic!("{parts:?}") };
        assert_eq!((part.partition, part.groups.clone(), part.pairs), (Partition::WHOLE, 0..5, 10));
    }

    #[test]
    fn in_a_cluster_each_partition_has_a_part_with_the_groups_of_its_posts() {
        let keys = Keys::default().in_cluster();
        let mut groups = groups((0..500).map(|post| (format!("post-{post}"), post % 3)));
        let (divided, parts) = divide(&keys, checked(&mut groups));
        assert_eq!((divided.len(), parts.iter().map(|part| part.groups.len()).sum::<usize>()), (500, 500));
        assert!(parts.windows(2).all(|pair| pair[0].partition < pair[1].partition));
        for part in &parts {
            let own = &divided[part.groups.clone()];
            assert!(own.iter().all(|checked| keys.partition(&checked.group.post) == part.partition));
            assert_eq!(own.iter().map(Checked::new_count).sum::<usize>(), part.pairs);
        }
    }

    #[test]
    fn an_entry_has_no_more_pairs_than_whoever_reads_it_expects() {
        let mut groups = groups([("p".to_owned(), 100), ("q".to_owned(), 157)].into_iter());
        let (divided, mut parts) = divide(&Keys::default(), checked(&mut groups));
        parts[0].first_entry = 7;
        let mut commands = Commands::default();
        queue(&mut commands, "views:outbox", &divided, parts[0].pairs);
        assert_eq!((commands.len(), parts[0].entries()), (3, 3));
        assert_eq!([1, 128, 129, 257].map(|pairs| parts[0].entry(pairs)), [7, 7, 8, 9]);
    }
}
