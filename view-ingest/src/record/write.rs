//! Writing: what is new goes into the outbox first, then into the sets.
//!
//! In this order a crash in between can only repeat a view, never lose one. A pipeline that is sent again after a
//! reconnection repeats views likewise, and a repeat is absorbed by the ledger's primary key.
//!
//! The sets are sent only when the outbox has answered. In one pipeline with it, Redis could refuse the entry (for want
//! of memory) and take the member: then another process calls the viewer's next try a duplicate of a view that nobody
//! stores. In a cluster, that is so of each partition by itself.

mod outbox;
#[cfg(feature = "failpoints")]
mod partial_write;

use views_core::{failpoints, ids::PostId, keys::field};
use views_redis::{
    Pipeline, RedisError,
    post_meta::live,
    resp::{Commands, Reply},
    scripts,
};

use self::outbox::{EntryIds, Part, Parts};
use crate::record::{
    check::{Checked, Known},
    context::Context,
    group::Group,
};

/// A group whose part of the batch Redis has taken.
#[derive(Debug)]
pub(super) struct Written<'b> {
    pub(super) group: &'b mut Group,
    pub(super) count: Count,
}

/// The count of a post after its part of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    pub(super) views: i64,
    /// Whether another process was first with every new viewer: the set has gained none of them.
    pub(super) was_raced: bool,
}

/// What became of a batch in Redis.
pub(super) struct Outcome<'b> {
    /// The groups whose part Redis has taken.
    pub(super) written: Vec<Written<'b>>,
    /// Those whose part it has not, or not as a whole.
    pub(super) refused: Vec<&'b mut Group>,
    /// Whether it has taken anything new.
    pub(super) has_stored: bool,
}

/// The replies about a post.
struct Recorded {
    /// How many members the set has gained.
    added: i64,
    /// `recorded` after the increment.
    recorded: i64,
    /// The size of the set, asked for where PostgreSQL's count is unknown.
    size: Option<i64>,
}

/// A post of which another process was first with some viewers.
struct Raced {
    post: PostId,
    /// The last entry of its outbox that names it, by its place among those of the batch.
    entry: usize,
    viewers: i64,
}

/// Writes the new viewers of a batch. Where nothing is new, nothing is sent.
pub(super) async fn run<'b>(context: &Context, pipeline: &mut Pipeline, groups: Vec<Checked<'b>>) -> Outcome<'b> {
    let (groups, mut parts) = outbox::divide(&context.keys, groups);
    let mut entries = EntryIds::new();
    let is_answered = if groups.iter().any(has_part) {
        failpoints::at("record::before");
        let is_answered = exchange(context, pipeline, &groups, &mut parts, &mut entries).await;
        if is_answered {
            failpoints::at("record::after");
        }
        is_answered
    } else {
        false
    };
    let (mut written, mut refused, mut raced) = (Vec::with_capacity(groups.len()), Vec::new(), Vec::new());
    let mut has_stored = false;
    let mut replies = pipeline.replies.iter();
    let mut groups = groups.into_iter();
    for part in &parts {
        let is_taken = is_answered && part.is_taken;
        has_stored |= is_taken && part.pairs > 0;
        let mut pairs_before = 0;
        for checked in groups.by_ref().take(part.groups.len()) {
            let new = checked.new_count();
            pairs_before += new;
            if !has_part(&checked) {
                let Known { persisted, recorded, acked, .. } = checked.known;
                let views = live(persisted, recorded, acked);
                written.push(Written { group: checked.group, count: Count { views, was_raced: false } });
                continue;
            }
            let recorded = if is_taken { read(&checked, &mut replies).map_err(Some) } else { Err(None) };
            match recorded {
                Ok(recorded) => {
                    let viewers = new as i64 - recorded.added;
                    if viewers > 0 && pairs_before > 0 {
                        raced.push(Raced { post: checked.group.post, entry: part.entry(pairs_before), viewers });
                    }
                    let count = count(&checked, &recorded);
                    written.push(Written { group: checked.group, count });
                }
                Err(error) => {
                    if let Some(error) = error.filter(|error| !error.is_away()) {
                        tracing::warn!(%error, post = %checked.group.post, "Redis did not record a post");
                    }
                    refused.push(checked.group);
                }
            }
        }
    }
    drop(replies);
    correct_raced(context, pipeline, &raced, &entries).await;
    Outcome { written, refused, has_stored }
}

/// Returns whether the pipeline has commands about a group.
fn has_part(checked: &Checked<'_>) -> bool {
    counts_the_set(checked) || checked.new_count() > 0
}

/// Returns whether nobody has told Redis the count in PostgreSQL, so that the set itself is counted, also for a mere
/// reader.
fn counts_the_set(checked: &Checked<'_>) -> bool {
    checked.known.persisted.is_none()
}

/// Returns the live count of a post after the batch.
fn count(checked: &Checked<'_>, recorded: &Recorded) -> Count {
    let Known { persisted, acked, .. } = checked.known;
    let new = checked.new_count() as i64;
    // Viewers that another process put into the set between check and write are in the outbox twice, and one view each.
    let raced = (new - recorded.added).max(0);
    let views = recorded.size.unwrap_or_else(|| live(persisted, recorded.recorded - raced, acked));
    Count { views, was_raced: recorded.added == 0 }
}

/// Where another process was first with some viewers, `recorded` counts them twice by now, as the outbox does. It is to
/// count each of them once, or the live count would be too high until the outbox is drained.
async fn correct_raced(context: &Context, pipeline: &mut Pipeline, raced: &[Raced], entries: &EntryIds) {
    pipeline.commands.clear();
    for Raced { post, entry, viewers } in raced {
        if let Some(entry) = entries.get(*entry).filter(|entry| !entry.is_empty()) {
            scripts::raced(&mut pipeline.commands, &context.keys, post, entry, *viewers);
        }
    }
    if !pipeline.commands.is_empty() {
        failpoints::at("raced::before");
        // The views are recorded either way. Should this be lost, the live count is too high until they are drained.
        let _ = pipeline.exchange().await;
    }
}

/// Sends the outbox's part and, once it is taken, that of the posts. Returns whether the replies to the latter are there.
async fn exchange(
    context: &Context,
    pipeline: &mut Pipeline,
    groups: &[Checked<'_>],
    parts: &mut Parts,
    entries: &mut EntryIds,
) -> bool {
    #[cfg(feature = "failpoints")]
    if let Some(done) = partial_write::exchange(context, pipeline, groups, parts).await {
        return done;
    }
    if parts.iter().any(|part| part.pairs > 0) {
        outbox::send(context, pipeline, groups, parts, entries).await;
        parts.iter_mut().for_each(|part| part.check_taker(&mut pipeline.session));
    }
    send_posts(context, pipeline, groups, parts).await
}

/// Sends the posts of which the outbox has taken what is new. Returns whether there are replies.
async fn send_posts(context: &Context, pipeline: &mut Pipeline, groups: &[Checked<'_>], parts: &Parts) -> bool {
    pipeline.commands.clear();
    for Part { groups: places, .. } in parts.iter().filter(|part| part.is_taken) {
        queue_posts(context, &mut pipeline.commands, &groups[places.clone()]);
    }
    !pipeline.commands.is_empty() && pipeline.exchange().await.is_ok()
}

fn queue_posts(context: &Context, commands: &mut Commands, groups: &[Checked<'_>]) {
    let mut buffer = itoa::Buffer::new();
    let ttl = buffer.format(context.keys.ttl().seconds());
    for checked in groups {
        let post = &checked.group.post;
        let (views, meta) = (context.keys.views_parts(post), context.keys.meta_parts(post));
        let new = checked.new_count();
        if new > 0 {
            commands.command("SADD", 1 + new).parts(&views);
            for viewer in checked.new_viewers() {
                commands.text(viewer.as_str());
            }
            commands.command("EXPIRE", 2).parts(&views).text(ttl);
            commands.command("HINCRBY", 3).parts(&meta).text(field::RECORDED).number(new as i64);
            commands.command("EXPIRE", 2).parts(&meta).text(ttl);
        }
        if counts_the_set(checked) {
            commands.command("SCARD", 1).parts(&views);
        }
    }
}

fn read<'a>(checked: &Checked<'_>, replies: &mut impl Iterator<Item = Reply<'a>>) -> Result<Recorded, RedisError> {
    let mut number = || match replies.next() {
        Some(Reply::Integer(number)) => Ok(number),
        Some(Reply::Error(error)) => Err(error.into()),
        Some(_) => Err(RedisError::UnexpectedReply),
        None => Err(RedisError::NoReply),
    };
    let (mut added, mut recorded) = (Ok(0), Ok(0));
    if checked.new_count() > 0 {
        // All four replies are taken before the first error is looked at, so that the next post finds its own.
        added = number();
        let _ = number();
        recorded = number();
        let _ = number();
    }
    let size = if counts_the_set(checked) { Some(number()) } else { None };
    Ok(Recorded { added: added?, recorded: recorded?, size: size.transpose()? })
}
