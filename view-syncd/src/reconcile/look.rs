//! A look at posts, for whoever compares: what Redis has of them, members of the sets too, beside what PostgreSQL has.
//!
//! The members of a set are read before the ledger, so whoever is in the set and not in the ledger is in the outbox, or
//! is lost. A large set is gone through in steps, and only those are kept whom the ledger lacks.

use std::collections::{HashMap, HashSet};

use views_core::ids::{PostId, ViewerId};
use views_postgres::ledger::{self, SurveyedPost};
use views_redis::{
    RedisError,
    post_meta::{self, Field, PostMeta},
    resp::{Commands, Replies, Reply},
};

use crate::{
    error::{Failure, refusal},
    owned_session::OwnedSession,
};

/// A post with at most this many rows in the ledger has all of its viewers in the set, once it is loaded for a view.
pub(crate) const FEW_VIEWERS: i64 = 1_000;
/// Posts in one exchange.
const EXCHANGE_POSTS: usize = 10;
/// Commands for one post.
const COMMANDS: usize = 3;
/// Members that one `SSCAN` reads: about a quarter of a millisecond of Redis's time.
const SSCAN_COUNT: i64 = 500;
/// Members of a large set that are compared with the ledger at once.
const COMPARED: usize = 2_000;
/// As many viewers of one post are remembered at most whom the ledger lacks. Another run finds the rest.
const MOST_LACKING: usize = 10_000;
/// What is asked of a hash.
const FIELDS: [Field; 7] =
    [Field::Author, Field::Loaded, Field::Persisted, Field::Recorded, Field::Acked, Field::Settled, Field::Repeated];

/// What Redis and PostgreSQL have of a post.
#[derive(Debug, Clone, Default)]
pub(crate) struct LookedAt {
    /// The size of the set.
    pub(crate) size: i64,
    pub(crate) has_meta: bool,
    pub(crate) author: Option<String>,
    pub(crate) is_loaded: bool,
    pub(crate) persisted: Option<i64>,
    pub(crate) recorded: i64,
    pub(crate) acked: i64,
    /// How many pairs of the outbox `recorded` does not count.
    pub(crate) repeated: i64,
    /// The entry up to which the outbox is acknowledged.
    pub(crate) settled: Option<String>,
    /// What PostgreSQL has; nothing where there is no such post.
    pub(crate) stored: Option<Stored>,
    /// Members of the set whom the ledger lacks, but for the author.
    pub(crate) lacking: HashSet<ViewerId>,
    /// Viewers of the ledger whom the set lacks and is to have.
    pub(crate) absent: HashSet<ViewerId>,
}

/// What PostgreSQL has of a post.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) author: String,
    pub(crate) views: i64,
}

/// Where a set is gone on with.
struct Rest {
    post: PostId,
    cursor: String,
    viewers: Option<HashSet<ViewerId>>,
}

impl LookedAt {
    /// Returns what the outbox is to have of the post that is not acknowledged.
    pub(crate) fn pending(&self) -> i64 {
        self.recorded - self.acked
    }

    /// Returns whether Redis has anything of the post.
    pub(crate) fn is_known(&self) -> bool {
        self.has_meta || self.size > 0
    }
}

/// Looks at posts. Those whose keys are of another type are left out, and counted.
pub(crate) async fn look(
    session: &mut OwnedSession,
    posts: &[PostId],
    unreadable: &mut u64,
) -> Result<HashMap<PostId, LookedAt>, Failure> {
    let (mut looked_at, mut members, mut rests) = (HashMap::with_capacity(posts.len()), HashMap::new(), Vec::new());
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for chunk in posts.chunks(EXCHANGE_POSTS) {
        commands.clear();
        for post in chunk {
            let keys = &session.context.keys;
            commands.command("SCARD", 1).parts(&keys.views_parts(post));
            post_meta::ask(&mut commands, keys, post, &FIELDS);
            commands.command("SSCAN", 4).parts(&keys.views_parts(post)).text("0").text("COUNT").number(SSCAN_COUNT);
        }
        session.exchange_owned(&commands, &mut replies).await?;
        let mut all = replies.iter();
        for post in chunk {
            match read([all.next(), all.next(), all.next()]) {
                Ok((seen, next, page)) => {
                    looked_at.insert(*post, seen);
                    members.insert(*post, page);
                    if let Some(cursor) = next {
                        rests.push(Rest { post: *post, cursor, viewers: None });
                    }
                }
                Err(error) if session.context.is_of_one_post(&error) => {
                    *unreadable += 1;
                    tracing::warn!(%post, %error, "a post's keys cannot be read");
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    let known: Vec<PostId> = looked_at.keys().copied().collect();
    let surveyed = ledger::survey(&session.context.database, &known, FEW_VIEWERS).await?;
    for (post, SurveyedPost { author, views, viewers }) in surveyed {
        let Some(seen) = looked_at.get_mut(&post) else { continue };
        seen.stored = Some(Stored { author, views });
        let Some(viewers) = viewers else {
            // The set of a popular post is what has come since Redis knows it.
            if !rests.iter().any(|rest| rest.post == post) {
                let page = members.remove(&post).unwrap_or_default();
                compare(session, &post, seen, &page).await?;
            }
            continue;
        };
        if let Some(rest) = rests.iter_mut().find(|rest| rest.post == post) {
            rest.viewers = Some(viewers.clone());
        }
        seen.absent = viewers.clone();
        take_page(seen, &members.remove(&post).unwrap_or_default(), &viewers);
    }
    for rest in rests {
        let first = members.remove(&rest.post).unwrap_or_default();
        if let Some(seen) = looked_at.get_mut(&rest.post) {
            go_on(session, seen, rest, first).await?;
        }
    }
    for seen in looked_at.values_mut() {
        // A set that was never filled from the ledger, or has not lost anybody, is not to have them.
        let is_to_have_all = seen.is_loaded || (seen.has_meta && seen.recorded > seen.size);
        if !is_to_have_all {
            seen.absent.clear();
        }
        if let Some(author) = seen.stored.as_ref().and_then(|stored| ViewerId::parse(&stored.author).ok()) {
            seen.lacking.remove(&author);
            // Not his views, should he have got the post since.
            seen.absent.remove(&author);
        }
    }
    Ok(looked_at)
}

/// Returns those of the posts whose numbers have changed since they were looked at.
pub(crate) async fn read_numbers(
    session: &mut OwnedSession,
    looked_at: &HashMap<PostId, LookedAt>,
) -> Result<HashSet<PostId>, Failure> {
    let posts: Vec<PostId> = looked_at.keys().copied().collect();
    let mut moved = HashSet::new();
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for chunk in posts.chunks(EXCHANGE_POSTS) {
        commands.clear();
        for post in chunk {
            let keys = &session.context.keys;
            commands.command("SCARD", 1).parts(&keys.views_parts(post));
            post_meta::ask(&mut commands, keys, post, &FIELDS);
        }
        session.exchange_owned(&commands, &mut replies).await?;
        let mut all = replies.iter();
        for post in chunk {
            let (size, meta) = (all.next().and_then(Reply::number), all.next());
            let is_same = |seen: &LookedAt, meta: &PostMeta<'_>| {
                let numbers = (seen.persisted, seen.recorded, seen.acked, seen.repeated, seen.settled.as_deref());
                size == Some(seen.size) && numbers == (meta.persisted, meta.recorded, meta.acked, meta.repeated, meta.settled)
            };
            let meta = meta.and_then(|meta| PostMeta::read(meta, &FIELDS).ok());
            if !meta.is_some_and(|meta| looked_at.get(post).is_some_and(|seen| is_same(seen, &meta))) {
                moved.insert(*post);
            }
        }
    }
    Ok(moved)
}

/// Compares a part of a set with all viewers of the ledger.
fn take_page(seen: &mut LookedAt, page: &[ViewerId], viewers: &HashSet<ViewerId>) {
    for member in page {
        seen.absent.remove(member);
        if !viewers.contains(member) && seen.lacking.len() < MOST_LACKING {
            seen.lacking.insert(*member);
        }
    }
}

/// Compares a part of a set with the ledger of a post that has many viewers.
async fn compare(session: &OwnedSession, post: &PostId, seen: &mut LookedAt, page: &[ViewerId]) -> Result<(), Failure> {
    for chunk in page.chunks(COMPARED) {
        let stored = ledger::viewers_among(&session.context.database, post, chunk).await?;
        let room = MOST_LACKING.saturating_sub(seen.lacking.len());
        seen.lacking.extend(chunk.iter().filter(|member| !stored.contains(*member)).take(room));
    }
    Ok(())
}

/// Goes through the rest of a large set.
async fn go_on(session: &mut OwnedSession, seen: &mut LookedAt, rest: Rest, first: Vec<ViewerId>) -> Result<(), Failure> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let Rest { post, mut cursor, viewers } = rest;
    // Of a post that is gone, nothing is compared.
    let is_there = seen.stored.is_some();
    let mut gathered = first;
    while is_there && cursor != "0" {
        commands.clear();
        commands
            .command("SSCAN", 4)
            .parts(&session.context.keys.views_parts(&post))
            .text(&cursor)
            .text("COUNT")
            .number(SSCAN_COUNT);
        session.exchange_owned(&commands, &mut replies).await?;
        let (next, page) = read_page(replies.iter().next())?;
        gathered.extend(page);
        cursor = next;
        if gathered.len() >= COMPARED || cursor == "0" {
            let page = std::mem::take(&mut gathered);
            match &viewers {
                Some(viewers) => take_page(seen, &page, viewers),
                None => compare(session, &post, seen, &page).await?,
            }
            session.context.checkpoint()?;
        }
    }
    Ok(())
}

/// Reads the replies about a post: its state, where its set goes on, and the first part of that.
fn read(replies: [Option<Reply<'_>>; COMMANDS]) -> Result<(LookedAt, Option<String>, Vec<ViewerId>), RedisError> {
    let [Some(size), Some(meta), page] = replies else { return Err(RedisError::NoReply) };
    if let Some(error) = size.error() {
        return Err(error.into());
    }
    let meta = PostMeta::read(meta, &FIELDS)?;
    let (next, members) = read_page(page)?;
    let seen = LookedAt {
        size: size.number().unwrap_or(0),
        has_meta: meta.exists,
        author: meta.author.map(str::to_owned),
        is_loaded: meta.is_loaded,
        persisted: meta.persisted,
        recorded: meta.recorded,
        acked: meta.acked,
        repeated: meta.repeated,
        settled: meta.settled.map(str::to_owned),
        ..LookedAt::default()
    };
    Ok((seen, (next != "0").then_some(next), members))
}

/// Reads the reply to `SSCAN`: where to go on, and the members that are ids.
fn read_page(reply: Option<Reply<'_>>) -> Result<(String, Vec<ViewerId>), RedisError> {
    if let Some(Reply::List(parts)) = reply {
        let mut parts = parts.iter();
        if let (Some(Reply::Text(next)), Some(Reply::List(members))) = (parts.next(), parts.next()) {
            let viewer = |member| if let Reply::Text(member) = member { ViewerId::parse(member).ok() } else { None };
            return Ok((next.to_owned(), members.iter().filter_map(viewer).collect()));
        }
    }
    Err(refusal(reply))
}
