//! Recording: what is new goes into the outbox first, then into the sets.
//!
//! In this order a crash in between can only repeat a view, never lose one. A pipeline that is sent again after a reconnection repeats
//! views likewise, and a repeat is absorbed by the ledger's primary key.
//!
//! The sets are sent only when the outbox has answered. In one pipeline with it, Redis could refuse the entry (for want of memory) and
//! take the member: then another process calls the viewer's next try a duplicate of a view that nobody stores.

#[cfg(feature = "failpoints")]
mod torn;

use smallvec::SmallVec;
use views_core::{
    failpoints,
    keys::{Keys, field},
    ttl::Ttl,
};
use views_redis::{
    resp::{Commands, Reply},
    scripts,
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

/// The ids of the entries that a batch has put into the outbox, mostly a single one.
type EntryIds = SmallVec<[Box<str>; 1]>;

/// What became of a post's part of the record pipeline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recorded {
    /// How many viewers were new by the check.
    new: usize,
    /// How many members the set really gained.
    added: i64,
    /// `recorded` after the increment.
    recorded: i64,
    /// The size of the set, asked for where PostgreSQL's count is unknown.
    size: Option<i64>,
}

/// The live count of a post after the batch; an error where Redis did not take the whole of its part.
pub(super) fn count(group: &Group) -> Result<i64, Unavailable> {
    let meta = group.meta?;
    let Some(recorded) = group.recorded.transpose()? else {
        return Ok(live(&meta, meta.recorded));
    };
    if let Some(size) = recorded.size {
        return Ok(size);
    }
    // Viewers that another process put into the set between check and record are in the outbox twice, and one view each.
    let raced = recorded.new as i64 - recorded.added;
    Ok(live(&meta, recorded.recorded - raced.max(0)))
}

/// Whether another process was faster with every new viewer: the set gained none of them.
pub(super) fn is_lost(group: &Group) -> bool {
    group.recorded.is_some_and(|recorded| recorded.is_ok_and(|recorded| recorded.added == 0))
}

fn live(meta: &Meta, recorded: i64) -> i64 {
    (meta.persisted.unwrap_or(0) + recorded - meta.acked).max(0)
}

/// Records the new viewers of a batch, and notes with each post what became of that. Where nothing is new, nothing is sent. Gives whether
/// Redis took anything new.
pub(super) async fn run(stores: &Stores, lane: &mut Lane, groups: &mut [Group]) -> bool {
    let mut pairs = 0;
    let mut posts = 0;
    for group in &mut *groups {
        let new = group.new_viewers().count();
        // Where neither PostgreSQL nor anybody else has told the count, the set itself is counted, also for a mere reader.
        if new > 0 || group.counts_the_set() {
            group.recorded = Some(Err(Unavailable));
            posts += 1;
        }
        pairs += new;
    }
    if posts == 0 {
        return false;
    }
    failpoints::at("record::before");
    let mut entries = EntryIds::new();
    if !exchange(stores, lane, groups, pairs, &mut entries).await {
        return false;
    }
    failpoints::at("record::after");
    let mut replies = lane.replies.iter();
    for group in groups.iter_mut().filter(|group| group.recorded.is_some()) {
        group.recorded = Some(read(group, &mut replies).map_err(|error| {
            stores.health.complain("Redis did not record a post", &format_args!("{error}, post {}", group.post));
            Unavailable
        }));
    }
    drop(replies);
    take_back_raced(stores, lane, groups, &entries).await;
    pairs > 0
}

/// Where another process was first with some viewers, `recorded` counts them twice by now, as the outbox does. It is to count each of them once, or
/// the live count would be too high until the outbox is drained.
async fn take_back_raced(stores: &Stores, lane: &mut Lane, groups: &[Group], entries: &EntryIds) {
    lane.commands.clear();
    let mut pairs = 0;
    for group in groups {
        pairs += group.new_viewers().count();
        let Some(Ok(recorded)) = group.recorded else { continue };
        let raced = recorded.new as i64 - recorded.added;
        let entry = pairs.checked_sub(1).and_then(|last| entries.get(last / MAX_PAIRS_PER_ENTRY));
        if raced > 0
            && let Some(entry) = entry
        {
            scripts::raced(&mut lane.commands, &stores.keys, &group.post, entry, raced);
        }
    }
    if !lane.commands.is_empty() {
        failpoints::at("raced::before");
        // The views are recorded either way. Should this be lost, the live count is too high until they are drained.
        lane.exchange(stores).await;
    }
}

/// Sends the outbox's part and, once it is taken, that of the posts. The replies to the latter are there when this gives true.
async fn exchange(stores: &Stores, lane: &mut Lane, groups: &[Group], pairs: usize, entries: &mut EntryIds) -> bool {
    #[cfg(feature = "failpoints")]
    if let Some(done) = torn::exchange(stores, lane, groups, pairs).await {
        return done;
    }
    if !send_outbox(stores, lane, groups, pairs).await {
        return false;
    }
    entries.extend(
        lane.replies.iter().take(pairs).filter_map(|reply| if let Reply::Text(id) = reply { Some(id.into()) } else { None }),
    );
    send_posts(stores, lane, groups).await
}

/// Writes the outbox and waits for the replies: all or nothing is to follow.
async fn send_outbox(stores: &Stores, lane: &mut Lane, groups: &[Group], pairs: usize) -> bool {
    if pairs == 0 {
        return true;
    }
    lane.commands.clear();
    queue_outbox(&mut lane.commands, stores.keys.outbox(), groups, pairs);
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

fn queue_outbox(commands: &mut Commands, outbox: &str, groups: &[Group], pairs: usize) {
    let all = groups.iter().flat_map(|group| group.new_viewers().map(|viewer| (&group.post, viewer)));
    for (place, (post, viewer)) in all.enumerate() {
        if place % MAX_PAIRS_PER_ENTRY == 0 {
            let fields = (pairs - place).min(MAX_PAIRS_PER_ENTRY);
            commands.command("XADD", 2 + 2 * fields).text(outbox).text("*");
        }
        commands.text(post.as_str()).text(viewer.as_str());
    }
}

async fn send_posts(stores: &Stores, lane: &mut Lane, groups: &[Group]) -> bool {
    lane.commands.clear();
    queue_posts(&mut lane.commands, &stores.keys, groups, stores.view_ttl);
    lane.exchange(stores).await
}

fn queue_posts(commands: &mut Commands, keys: &Keys, groups: &[Group], ttl: Ttl) {
    let mut buffer = itoa::Buffer::new();
    let ttl = buffer.format(ttl.seconds());
    for group in groups.iter().filter(|group| group.recorded.is_some()) {
        let (views, meta) = (keys.views_parts(&group.post), keys.meta_parts(&group.post));
        let new = group.new_viewers().count();
        if new > 0 {
            commands.command("SADD", 1 + new).parts(&views);
            for viewer in group.new_viewers() {
                commands.text(viewer.as_str());
            }
            commands.command("EXPIRE", 2).parts(&views).text(ttl);
            commands.command("HINCRBY", 3).parts(&meta).text(field::RECORDED).number(new as i64);
            commands.command("EXPIRE", 2).parts(&meta).text(ttl);
        }
        if group.counts_the_set() {
            commands.command("SCARD", 1).parts(&views);
        }
    }
}

fn read<'a>(group: &Group, replies: &mut impl Iterator<Item = Reply<'a>>) -> Result<Recorded, String> {
    let mut number = || match replies.next() {
        Some(Reply::Integer(number)) => Ok(number),
        Some(Reply::Error(text)) => Err(text.to_owned()),
        _ => Err("a number was expected".to_owned()),
    };
    let (mut added, mut recorded) = (Ok(0), Ok(0));
    let new = group.new_viewers().count();
    if new > 0 {
        // All four replies are taken before the first error is looked at, so that the next post finds its own.
        (added, recorded) = (number(), {
            let _ = number();
            number()
        });
        let _ = number();
    }
    let size = if group.counts_the_set() { Some(number()) } else { None };
    Ok(Recorded { new, added: added?, recorded: recorded?, size: size.transpose()? })
}
