//! Recording: what is new goes into the outbox first, then into the sets.
//!
//! In this order a crash in between can only repeat a view, never lose one. A pipeline that is sent again after a reconnection repeats
//! views likewise, and a repeat is absorbed by the ledger's primary key.
//!
//! The sets are sent only when the outbox has answered. In one pipeline with it, Redis could refuse the entry (for want of memory) and
//! take the member: then another process calls the viewer's next try a duplicate of a view that nobody stores.

#[cfg(feature = "failpoints")]
mod torn;

use std::time::Duration;

use shared::{
    failpoints,
    ids::{PostId, ViewerId},
    keys::{self, field},
    redis::resp::{Commands, Reply},
};

use super::{
    Stores, Unavailable,
    batch::{Group, Meta},
    lane::Lane,
};

/// Pairs in one outbox entry at most, so that whoever reads the outbox can bound what it reads at once.
const MAX_PAIRS_PER_ENTRY: usize = 128;

/// The code of the error of a primary that its replicas have left, perhaps for another one (`min-replicas-to-write`).
const NO_REPLICAS: &str = "NOREPLICAS";

/// What recording did.
pub(super) struct Recorded {
    /// The new pairs of the whole batch.
    pairs: Vec<(PostId, ViewerId)>,
    /// Whether the outbox has all of them.
    in_outbox: bool,
    /// For each post with new pairs, the replies that matter.
    posts: Vec<Result<PostReplies, Unavailable>>,
}

#[derive(Debug, Clone, Copy)]
struct PostReplies {
    /// How many members the set really gained.
    added: i64,
    /// `recorded` after the increment.
    recorded: i64,
    /// The size of the set, asked for where PostgreSQL's count is unknown.
    size: Option<i64>,
}

impl Recorded {
    /// Whether Redis has taken everything of a post.
    pub(super) fn took(&self, group: &Group) -> bool {
        group.meta.is_ok_and(|meta| self.count(group, &meta).is_ok())
    }

    /// Whether anything new was there to be taken.
    pub(super) fn wrote(&self) -> bool {
        self.in_outbox && !self.pairs.is_empty()
    }

    /// The live count of a post after the batch.
    pub(super) fn count(&self, group: &Group, meta: &Meta) -> Result<i64, Unavailable> {
        let Some(place) = group.recorded else {
            return Ok(live(meta, meta.recorded));
        };
        if !self.in_outbox {
            return Err(Unavailable);
        }
        let replies = self.posts[place]?;
        if let Some(size) = replies.size {
            return Ok(size);
        }
        // Viewers that another process put into the set between check and record are in the outbox twice, and one view each.
        let raced = group.new.len() as i64 - replies.added;
        Ok(live(meta, replies.recorded - raced.max(0)))
    }

    /// The viewers of a post whose view is counted. When the set gained none of them, another process was faster with each.
    pub(super) fn counted(&self, group: &Group) -> impl Iterator<Item = ViewerId> {
        let lost = group.recorded.is_some_and(|place| self.posts[place].is_ok_and(|replies| replies.added == 0));
        let range = if lost { 0..0 } else { group.new.clone() };
        self.pairs[range].iter().map(|(_, viewer)| *viewer)
    }
}

fn live(meta: &Meta, recorded: i64) -> i64 {
    (meta.persisted.unwrap_or(0) + recorded - meta.acked).max(0)
}

/// Records the new pairs of a batch. Where nothing is new, nothing is sent.
pub(super) async fn run(stores: &Stores, lane: &mut Lane, groups: &mut [Group]) -> Recorded {
    let mut pairs = Vec::new();
    let mut posts = 0;
    for group in &mut *groups {
        let Ok(meta) = group.meta else { continue };
        let first = pairs.len();
        let new = group.viewers.iter().filter(|(viewer, known)| !known && !group.is_by(viewer));
        pairs.extend(new.map(|(viewer, _)| (group.post, *viewer)));
        group.new = first..pairs.len();
        // Where neither PostgreSQL nor anybody else has told the count, the set itself is counted, also for a mere reader.
        if !group.new.is_empty() || meta.persisted.is_none() {
            group.recorded = Some(posts);
            posts += 1;
        }
    }
    if posts == 0 {
        return Recorded { pairs, in_outbox: true, posts: Vec::new() };
    }
    failpoints::at("record::before");
    if !exchange(stores, lane, groups, &pairs).await {
        return Recorded { pairs, in_outbox: false, posts: vec![Err(Unavailable); posts] };
    }
    failpoints::at("record::after");
    let mut replies = lane.replies.iter();
    let mut results = Vec::with_capacity(posts);
    for group in groups.iter().filter(|group| group.recorded.is_some()) {
        results.push(read(group, &mut replies).map_err(|error| {
            stores.health.complain("Redis did not record a post", &format_args!("{error}, post {}", group.post));
            Unavailable
        }));
    }
    Recorded { pairs, in_outbox: true, posts: results }
}

/// Sends the outbox's part and, once it is taken, that of the posts. The replies to the latter are there when this gives true.
async fn exchange(stores: &Stores, lane: &mut Lane, groups: &[Group], pairs: &[(PostId, ViewerId)]) -> bool {
    #[cfg(feature = "failpoints")]
    if let Some(done) = torn::exchange(stores, lane, groups, pairs).await {
        return done;
    }
    send_outbox(stores, lane, pairs).await && send_posts(stores, lane, groups, pairs).await
}

/// Writes the outbox and waits for the replies: all or nothing is to follow.
async fn send_outbox(stores: &Stores, lane: &mut Lane, pairs: &[(PostId, ViewerId)]) -> bool {
    if pairs.is_empty() {
        return true;
    }
    lane.commands.clear();
    queue_outbox(&mut lane.commands, pairs);
    if !lane.exchange(stores).await {
        return false;
    }
    let refusal = lane.replies.iter().find(|reply| !matches!(reply, Reply::Text(_)));
    if let Some(reply) = refusal {
        stores.health.complain("Redis did not record a batch", &format_args!("{reply:?}"));
        if matches!(reply, Reply::Error(text) if text.starts_with(NO_REPLICAS)) {
            stores.gate.look_for_another();
        }
    }
    refusal.is_none()
}

fn queue_outbox(commands: &mut Commands, pairs: &[(PostId, ViewerId)]) {
    for chunk in pairs.chunks(MAX_PAIRS_PER_ENTRY) {
        commands.command("XADD", 2 + 2 * chunk.len()).text(keys::OUTBOX).text("*");
        for (post, viewer) in chunk {
            commands.text(post.as_str()).text(viewer.as_str());
        }
    }
}

async fn send_posts(stores: &Stores, lane: &mut Lane, groups: &[Group], pairs: &[(PostId, ViewerId)]) -> bool {
    lane.commands.clear();
    queue_posts(&mut lane.commands, groups, pairs, stores.view_ttl);
    lane.exchange(stores).await
}

fn queue_posts(commands: &mut Commands, groups: &[Group], pairs: &[(PostId, ViewerId)], ttl: Duration) {
    let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    for group in groups.iter().filter(|group| group.recorded.is_some()) {
        let (views, meta) = (keys::views_parts(&group.post), keys::meta_parts(&group.post));
        let new = &pairs[group.new.clone()];
        if !new.is_empty() {
            commands.command("SADD", 1 + new.len()).parts(&views);
            for (_, viewer) in new {
                commands.text(viewer.as_str());
            }
            commands.command("EXPIRE", 2).parts(&views).number(ttl);
            commands.command("HINCRBY", 3).parts(&meta).text(field::RECORDED).number(new.len() as i64);
            commands.command("EXPIRE", 2).parts(&meta).number(ttl);
        }
        if counts_the_set(group) {
            commands.command("SCARD", 1).parts(&views);
        }
    }
}

fn counts_the_set(group: &Group) -> bool {
    group.meta.is_ok_and(|meta| meta.persisted.is_none())
}

fn read<'a>(group: &Group, replies: &mut impl Iterator<Item = Reply<'a>>) -> Result<PostReplies, String> {
    let mut number = || match replies.next() {
        Some(Reply::Integer(number)) => Ok(number),
        Some(Reply::Error(text)) => Err(text.to_owned()),
        _ => Err("a number was expected".to_owned()),
    };
    let (mut added, mut recorded) = (Ok(0), Ok(0));
    if !group.new.is_empty() {
        // All four replies are taken before the first error is looked at, so that the next post finds its own.
        (added, recorded) = (number(), {
            let _ = number();
            number()
        });
        let _ = number();
    }
    let size = if counts_the_set(group) { Some(number()) } else { None };
    Ok(PostReplies { added: added?, recorded: recorded?, size: size.transpose()? })
}
