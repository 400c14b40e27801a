//! The few steps in Redis that must not be torn apart, as Lua scripts. None is on the path of a view whose post is
//! known.
//!
//! They are sent whole each time (`EVAL`): the server keeps them compiled by their text, and there is no hash that a
//! restart or a `SCRIPT FLUSH` could make it forget.

use fred::error::Error;
use views_core::{
    ids::{PostId, ViewerId},
    keys::Keys,
    post::KnownPost,
};

use crate::{
    Redis, RedisError,
    resp::{Commands, Replies, Reply},
};

const HYDRATE: &str = include_str!("scripts/hydrate.lua");
/// What it replies when it has done its work.
const HYDRATED: i64 = 1;
/// What it replies when it has done nothing because more must be known.
const LEFT: i64 = 2;
const SETTLE: &str = include_str!("scripts/settle.lua");
const ADJUST: &str = include_str!("scripts/adjust.lua");
const RACED: &str = include_str!("scripts/raced.lua");
const TAKE_OUT: &str = include_str!("scripts/take_out.lua");
const FORGET: &str = include_str!("scripts/forget.lua");
const ADOPT: &str = include_str!("scripts/adopt.lua");
const REMOVE_EMPTY: &str = include_str!("scripts/remove_empty.lua");
const FORBIDDEN: &str = include_str!("scripts/forbidden.lua");

/// What of a post is put into Redis. A view needs all that a read needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// The author and the count, as a reader needs them.
    Read,
    /// The viewers too, as a viewer needs them.
    View,
}

/// Puts what PostgreSQL knows of a post into Redis, as [`queue_hydrate`] does. Returns whether it is there now.
///
/// # Errors
/// Redis's error.
pub async fn hydrate(redis: &Redis, keys: &Keys, post: &PostId, known: &KnownPost, depth: Depth) -> Result<bool, Error> {
    let (views, meta, ttl, count) =
        (keys.views(post), keys.meta(post), keys.ttl().seconds().to_string(), known.views.to_string());
    let mut words: Vec<&str> = vec!["EVAL", HYDRATE, "2", &views, &meta, &ttl, &known.author, &count, mode(depth), ""];
    words.extend(known.viewers.iter().map(String::as_str));
    Ok(redis.send(&words).await?.convert::<i64>()? != LEFT)
}

fn mode(depth: Depth) -> &'static str {
    match depth {
        Depth::Read => "read",
        Depth::View => "view",
    }
}

/// Writes the command that puts what PostgreSQL knows of a post into Redis, unless it is there. Repeating it changes
/// nothing.
pub fn queue_hydrate(commands: &mut Commands, keys: &Keys, post: &PostId, known: &KnownPost, depth: Depth) {
    queue_put(commands, keys, post, known, [mode(depth), ""], &[]);
}

/// Returns whether what PostgreSQL knows is there now, by the reply to [`queue_hydrate`]; it is not where Redis has viewers
/// of a post that is only to be read, and no count: then the depth of a view is needed.
///
/// # Errors
/// Redis's error.
pub fn hydrated(reply: Reply<'_>) -> Result<bool, RedisError> {
    done(reply).map(|done| done != LEFT)
}

/// Writes the command that brings a post up to date of which PostgreSQL has taken the views of `viewers` past Redis. `seen`
/// is the count that Redis had before PostgreSQL was asked. Repeating it changes nothing.
pub fn queue_refresh(
    commands: &mut Commands,
    keys: &Keys,
    post: &PostId,
    known: &KnownPost,
    seen: Option<&str>,
    viewers: &[ViewerId],
) {
    queue_put(commands, keys, post, known, ["refresh", seen.unwrap_or_default()], viewers);
}

/// Returns whether that was done, by the reply to [`queue_refresh`]; it is not where Redis has another count by now.
///
/// # Errors
/// Redis's error.
pub fn refreshed(reply: Reply<'_>) -> Result<bool, RedisError> {
    done(reply).map(|done| done == HYDRATED)
}

fn done(reply: Reply<'_>) -> Result<i64, RedisError> {
    match reply {
        Reply::Integer(done) => Ok(done),
        Reply::Error(error) => Err(error.into()),
        _ => Err(RedisError::UnexpectedReply),
    }
}

fn queue_put(commands: &mut Commands, keys: &Keys, post: &PostId, known: &KnownPost, [mode, seen]: [&str; 2], past: &[ViewerId]) {
    commands.command("EVAL", 9 + past.len() + known.viewers.len()).text(HYDRATE).number(2);
    commands.parts(&keys.views_parts(post)).parts(&keys.meta_parts(post)).number(keys.ttl().seconds());
    commands.text(&known.author).number(known.views).text(mode).text(seen);
    for viewer in past {
        commands.text(viewer.as_str());
    }
    for viewer in &known.viewers {
        commands.text(viewer);
    }
}

/// What is to be acknowledged of a post.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The post.
    pub post: PostId,
    /// The id of the first entry that names it.
    pub first: String,
    /// The id of the last one.
    pub last: String,
    /// How many of its pairs are in the entries from the first to the last.
    pub pairs: u64,
    /// The count in PostgreSQL.
    pub views: i64,
    /// The count before these pairs.
    pub before: i64,
    /// The count that Redis had when PostgreSQL was asked for the other two once more, in Redis's own words.
    pub seen: Option<String>,
}

/// What became of a [`Settlement`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It is done, or there is nothing to do.
    Done,
    /// It is done, and PostgreSQL has fewer views of the post than it had.
    Fallen,
    /// `recorded` lacks some of the pairs: their increment is on its way, or was lost.
    Short,
    /// Entries up to this one were settled before, and some behind it were not.
    UpTo(String),
    /// Redis has this count, which is more than PostgreSQL had before these pairs: PostgreSQL is to be asked once more.
    Doubtful(String),
}

/// What a script does for one of several posts.
pub trait OfPost {
    /// Returns the post.
    fn post(&self) -> &PostId;
}

impl OfPost for PostId {
    fn post(&self) -> &PostId {
        self
    }
}

impl OfPost for Settlement {
    fn post(&self) -> &PostId {
        &self.post
    }
}

impl OfPost for Adjustment {
    fn post(&self) -> &PostId {
        &self.post
    }
}

/// Divides posts into those whose keys one script may name: all of them or, in a cluster, those beside each other that
/// have the same slot.
fn calls<'a, T: OfPost>(keys: &'a Keys, posts: &'a [T]) -> impl Iterator<Item = &'a [T]> {
    let is_in_cluster = keys.are_in_cluster();
    posts.chunk_by(move |one, next| !is_in_cluster || keys.slot(one.post()) == keys.slot(next.post()))
}

/// Brings posts into the order in which they take the fewest scripts.
pub fn sort_by_calls<T: OfPost>(keys: &Keys, posts: &mut [T]) {
    if keys.are_in_cluster() {
        posts.sort_by_cached_key(|of_post| keys.slot(of_post.post()));
    }
}

/// Returns the reply about each of the posts that [`settle`], [`adjust`] or [`forget`] was given, in their order. Where a
/// script as a whole has failed, that error is about each of its posts.
pub fn replies_about<'a, T: OfPost>(keys: &'a Keys, posts: &'a [T], replies: &'a Replies) -> impl Iterator<Item = Reply<'a>> {
    let mut all = replies.iter();
    calls(keys, posts).flat_map(move |call| {
        let reply = all.next().unwrap_or(Reply::Null);
        let mut list = if let Reply::List(list) = reply { Some(list.iter()) } else { None };
        call.iter().map(move |_| list.as_mut().map_or(reply, |list| list.next().unwrap_or(Reply::Null)))
    })
}

/// Writes the commands that acknowledge pairs of posts. With `is_final`, increments of `recorded` that are missing are
/// taken to be lost.
///
/// Repeating it changes nothing, on the server that the entries were read from: it must not be sent over a connection
/// that may lead to another one.
pub fn settle(commands: &mut Commands, keys: &Keys, settlements: &[Settlement], is_final: bool) {
    for settlements in calls(keys, settlements) {
        commands.command("EVAL", 3 + 7 * settlements.len()).text(SETTLE).number(settlements.len() as i64);
        for settlement in settlements {
            commands.parts(&keys.meta_parts(&settlement.post));
        }
        commands.text(if is_final { "final" } else { "" });
        for Settlement { first, last, pairs, views, before, seen, .. } in settlements {
            commands.text(first).text(last).number(i64::try_from(*pairs).unwrap_or(i64::MAX)).number(*views).number(*before);
            commands.text(seen.as_deref().unwrap_or_default());
        }
    }
}

/// Writes a command that changes nothing, and that a server refuses which takes no writes for whatever reason: it is
/// full, read-only, without its replicas, or cannot save. An error other than that has no meaning.
pub fn prove_writable(commands: &mut Commands, keys: &Keys) {
    prove_writable_at(commands, keys.owner());
}

/// Does the same with the owner of a partition, which shows it of the node that has the partition's outbox.
pub fn prove_writable_at(commands: &mut Commands, owner: &str) {
    commands.command("SETRANGE", 3).text(owner).number(0).text("");
}

/// Reads the reply about one of the settlements.
#[must_use]
pub fn settled(reply: Reply<'_>) -> Option<Settled> {
    match reply {
        Reply::Integer(0 | 1) => Some(Settled::Done),
        Reply::Integer(2) => Some(Settled::Fallen),
        Reply::Integer(3) => Some(Settled::Short),
        Reply::Text(text) => Some(match text.strip_prefix('p') {
            Some(count) => Settled::Doubtful(count.to_owned()),
            None => Settled::UpTo(text.to_owned()),
        }),
        _ => None,
    }
}

/// What is to be brought into order of a post.
#[derive(Debug, Clone)]
pub struct Adjustment {
    /// The post.
    pub post: PostId,
    /// The count that Redis had when PostgreSQL was asked.
    pub known: Option<i64>,
    /// The count in PostgreSQL, where it is to be written.
    pub views: Option<i64>,
    /// Whether it is not to be written where the outbox has something of the post: PostgreSQL may have that already.
    pub is_quiet: bool,
    /// How many pairs are acknowledged, where it is to be written only as long as that is so.
    pub acked_is: Option<i64>,
    /// Whether a count that is lower than before is meant to be, and PostgreSQL has not lost any views.
    pub is_meant: bool,
    /// The author that Redis had, and the one in PostgreSQL, where that is to be written.
    pub author: Option<[String; 2]>,
    /// What is to be added to `recorded`.
    pub recorded: i64,
    /// What is to be added to `acked`.
    pub acked: i64,
}

impl Adjustment {
    /// Nothing but a time to live where there is none.
    #[must_use]
    pub fn of(post: PostId) -> Self {
        Self {
            post,
            known: None,
            views: None,
            is_quiet: false,
            acked_is: None,
            is_meant: false,
            author: None,
            recorded: 0,
            acked: 0,
        }
    }
}

/// Writes the commands that bring posts into order. The reply about each of them is 1 when it was done, 0 when Redis
/// knows more by now, or an error.
pub fn adjust(commands: &mut Commands, keys: &Keys, adjustments: &[Adjustment]) {
    for adjustments in calls(keys, adjustments) {
        commands.command("EVAL", 3 + 12 * adjustments.len()).text(ADJUST).number(2 * adjustments.len() as i64);
        for Adjustment { post, .. } in adjustments {
            commands.parts(&keys.meta_parts(post)).parts(&keys.views_parts(post));
        }
        commands.number(keys.ttl().seconds());
        for adjustment in adjustments {
            write_adjustment(commands, adjustment);
        }
    }
}

fn write_adjustment(commands: &mut Commands, adjustment: &Adjustment) {
    let Adjustment { known, views, is_quiet, acked_is, is_meant, author, recorded, acked, .. } = adjustment;
    for number in [known, views] {
        match number {
            Some(number) => commands.number(*number),
            None => commands.text(""),
        };
    }
    commands.text(if *is_quiet { "quiet" } else { "" });
    match acked_is {
        Some(acked) => commands.number(*acked),
        None => commands.text(""),
    };
    commands.text(if *is_meant { "meant" } else { "" });
    let [known, author] = author.as_ref().map_or(["", ""], |authors| authors.each_ref().map(String::as_str));
    commands.text(if adjustment.author.is_some() { "author" } else { "" }).text(known).text(author);
    commands.number(*recorded).number(*acked);
}

/// Writes the command that corrects a post's numbers after `viewers` of those whom this process has recorded, the last
/// of them in `entry`, had been recorded by another process at the same moment.
pub fn raced(commands: &mut Commands, keys: &Keys, post: &PostId, entry: &str, viewers: i64) {
    commands.command("EVAL", 5).text(RACED).number(1).parts(&keys.meta_parts(post)).text(entry).number(viewers);
}

/// Writes the command that takes viewers out of a set whom neither the ledger nor the outbox has, and forgets `falls`
/// of the notes that they may be there.
pub fn take_out(commands: &mut Commands, keys: &Keys, post: &PostId, viewers: &[&ViewerId], falls: i64) {
    commands.command("EVAL", 5 + viewers.len()).text(TAKE_OUT).number(2);
    commands.parts(&keys.views_parts(post)).parts(&keys.meta_parts(post)).number(falls);
    for viewer in viewers {
        commands.text(viewer.as_str());
    }
}

/// Writes the commands that take a viewer, given in all spellings that his id may have, out of the sets of posts. The reply
/// about each of them is how many were taken out, or an error.
pub fn forget(commands: &mut Commands, keys: &Keys, posts: &[PostId], spellings: &[String]) {
    for posts in calls(keys, posts) {
        commands.command("EVAL", 2 + 2 * posts.len() + spellings.len()).text(FORGET).number(2 * posts.len() as i64);
        for post in posts {
            commands.parts(&keys.views_parts(post)).parts(&keys.meta_parts(post));
        }
        for spelling in spellings {
            commands.text(spelling);
        }
    }
}

/// Writes the command that puts viewers into the set of a post whom PostgreSQL has got past Redis. The live count stays
/// what it is. An error in the reply is about what the keys hold.
pub fn adopt(commands: &mut Commands, keys: &Keys, post: &PostId, viewers: &[ViewerId]) {
    commands.command("EVAL", 5 + viewers.len()).text(ADOPT).number(2);
    commands.parts(&keys.views_parts(post)).parts(&keys.meta_parts(post)).number(keys.ttl().seconds());
    for viewer in viewers {
        commands.text(viewer.as_str());
    }
}

/// Writes the command that removes an outbox, if it has no entries.
pub fn remove_empty(commands: &mut Commands, outbox: &str) {
    commands.command("EVAL", 3).text(REMOVE_EMPTY).number(1).text(outbox);
}

/// Writes the command that finds those of some commands, each with its words, which this account may not send. None of
/// them is run.
pub fn find_forbidden(commands: &mut Commands, wanted: &[Vec<String>]) {
    let words: usize = wanted.iter().map(|words| 1 + words.len()).sum();
    commands.command("EVAL", 2 + words).text(FORBIDDEN).number(0);
    for words in wanted {
        commands.number(i64::try_from(words.len()).unwrap_or(i64::MAX));
        for word in words {
            commands.text(word);
        }
    }
}
