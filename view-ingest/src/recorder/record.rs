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

use fred::{
    clients::{Client, Pipeline},
    error::{Error, ErrorKind},
    interfaces::{HashesInterface, KeysInterface, SetsInterface, StreamsInterface},
    types::Value,
};
use shared::{
    failpoints,
    ids::{PostId, ViewerId},
    keys::{self, field},
};

use super::{
    Stores, Unavailable,
    batch::{Group, Meta},
};

/// Pairs in one outbox entry at most, so that whoever reads the outbox can bound what it reads at once.
const MAX_PAIRS_PER_ENTRY: usize = 128;

type Reply = Result<Value, Error>;

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
        group.meta.as_ref().is_ok_and(|meta| self.count(group, meta).is_ok())
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
pub(super) async fn run(stores: &Stores, groups: &mut [Group]) -> Recorded {
    let mut pairs = Vec::new();
    let mut posts = 0;
    for group in &mut *groups {
        let Ok(meta) = &group.meta else { continue };
        let first = pairs.len();
        let new = group.viewers.iter().filter(|(viewer, known)| !known && meta.author.as_deref() != Some(viewer.as_str()));
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
    send(stores, groups, pairs, posts).await
}

async fn send(stores: &Stores, groups: &[Group], pairs: Vec<(PostId, ViewerId)>, posts: usize) -> Recorded {
    let failed = |error: &dyn std::fmt::Display, pairs| {
        stores.health.complain("Redis did not record a batch", error);
        Recorded { pairs, in_outbox: false, posts: vec![Err(Unavailable); posts] }
    };
    failpoints::at("record::before");
    let mut replies = match exchange(stores, groups, &pairs).await {
        Ok(replies) => replies.into_iter(),
        Err(error) => return failed(&error, pairs),
    };
    failpoints::at("record::after");
    let mut results = Vec::with_capacity(posts);
    for group in groups.iter().filter(|group| group.recorded.is_some()) {
        results.push(read(group, &mut replies).map_err(|error| {
            stores.health.complain("Redis did not record a post", &format_args!("{error}, post {}", group.post));
            Unavailable
        }));
    }
    Recorded { pairs, in_outbox: true, posts: results }
}

/// Sends the outbox's part and, once it is taken, that of the posts. Gives the replies to the latter.
async fn exchange(stores: &Stores, groups: &[Group], pairs: &[(PostId, ViewerId)]) -> Result<Vec<Reply>, Error> {
    #[cfg(feature = "failpoints")]
    if let Some(replies) = torn::exchange(stores, groups, pairs).await? {
        return Ok(replies);
    }
    send_outbox(stores, pairs).await?;
    let pipeline = stores.redis.pipeline();
    queue_posts(&pipeline, groups, pairs, stores.view_ttl).await?;
    Ok(pipeline.try_all::<Value>().await)
}

/// Writes the outbox and waits for the replies: all or nothing is to follow.
async fn send_outbox(stores: &Stores, pairs: &[(PostId, ViewerId)]) -> Result<(), Error> {
    if pairs.is_empty() {
        return Ok(());
    }
    let pipeline = stores.redis.pipeline();
    queue_outbox(&pipeline, pairs).await?;
    let replies = pipeline.try_all::<Value>().await;
    if replies.len() < pairs.len().div_ceil(MAX_PAIRS_PER_ENTRY) {
        let lost = Error::new(ErrorKind::Protocol, "a reply is missing");
        return Err(replies.into_iter().find_map(Result::err).unwrap_or(lost));
    }
    replies.into_iter().try_for_each(|reply| reply.map(drop))
}

async fn queue_outbox(pipeline: &Pipeline<Client>, pairs: &[(PostId, ViewerId)]) -> Result<(), Error> {
    for chunk in pairs.chunks(MAX_PAIRS_PER_ENTRY) {
        let fields: Vec<(&str, &str)> = chunk.iter().map(|(post, viewer)| (post.as_str(), viewer.as_str())).collect();
        let () = pipeline.xadd(keys::OUTBOX, false, None, "*", fields).await?;
    }
    Ok(())
}

async fn queue_posts(
    pipeline: &Pipeline<Client>,
    groups: &[Group],
    pairs: &[(PostId, ViewerId)],
    ttl: Duration,
) -> Result<(), Error> {
    let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    for group in groups.iter().filter(|group| group.recorded.is_some()) {
        let views = keys::views(&group.post);
        let viewers: Vec<&str> = pairs[group.new.clone()].iter().map(|(_, viewer)| viewer.as_str()).collect();
        if !viewers.is_empty() {
            let meta = keys::meta(&group.post);
            let number = viewers.len() as i64;
            let () = pipeline.sadd(&views, viewers).await?;
            let () = pipeline.expire(&views, ttl, None).await?;
            let () = pipeline.hincrby(&meta, field::RECORDED, number).await?;
            let () = pipeline.expire(&meta, ttl, None).await?;
        }
        if counts_the_set(group) {
            let () = pipeline.scard(&views).await?;
        }
    }
    Ok(())
}

fn counts_the_set(group: &Group) -> bool {
    group.meta.as_ref().is_ok_and(|meta| meta.persisted.is_none())
}

fn read(group: &Group, replies: &mut impl Iterator<Item = Reply>) -> Result<PostReplies, String> {
    let mut number = || {
        let value = replies.next().ok_or("no reply")?.map_err(|error| error.to_string())?;
        value.as_i64().ok_or_else(|| "a number was expected".to_owned())
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
