//! The few steps in Redis that must not be torn apart, as Lua scripts. None is on the path of a view whose post is known.
//!
//! They are sent whole each time (`EVAL`): the server keeps them compiled by their text, and there is no hash that a restart or a
//! `SCRIPT FLUSH` could make it forget.

use std::time::Duration;

use fred::{
    clients::Client,
    error::Error,
    interfaces::{ClientLike, LuaInterface},
    types::{Value, config::Options},
};

use crate::{
    ids::{PostId, ViewerId},
    keys,
    ledger::KnownPost,
};

const HYDRATE: &str = include_str!("scripts/hydrate.lua");
const ACK: &str = include_str!("scripts/ack.lua");

/// An outbox entry that is to be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckedEntry {
    /// The entry's id.
    pub id: String,
    /// The posts it names, by their place in the list of posts, each with its number of pairs.
    pub posts: Vec<(usize, usize)>,
}

/// Puts what PostgreSQL knows of a post into Redis, unless it is there. Repeating it changes nothing.
///
/// # Errors
/// Redis's error.
pub async fn hydrate(redis: &Client, post: &PostId, known: &KnownPost, ttl: Duration) -> Result<(), Error> {
    put(redis, post, known, &[], "", ttl).await
}

/// Brings a post that PostgreSQL has taken views of past Redis up to date, with those of the viewers that are known to be in the ledger.
/// Repeating it changes nothing.
///
/// # Errors
/// Redis's error.
pub async fn refresh(redis: &Client, post: &PostId, known: &KnownPost, viewers: &[ViewerId], ttl: Duration) -> Result<(), Error> {
    put(redis, post, known, viewers, "refresh", ttl).await
}

async fn put(
    redis: &Client,
    post: &PostId,
    known: &KnownPost,
    viewers: &[ViewerId],
    mode: &str,
    ttl: Duration,
) -> Result<(), Error> {
    let mut args: Vec<Value> = Vec::with_capacity(4 + known.viewers.len() + viewers.len());
    args.push(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX).into());
    args.push(known.author.as_str().into());
    args.push(known.views.into());
    args.push(mode.into());
    args.extend(known.viewers.iter().map(|viewer| Value::from(viewer.as_str())));
    args.extend(viewers.iter().map(|viewer| Value::from(viewer.as_str())));
    redis.eval::<(), _, _, _>(HYDRATE, vec![keys::views(post), keys::meta(post)], args).await
}

/// Deletes outbox entries and settles the counts of `posts` (each with its count in PostgreSQL) in one step. Repeating it changes
/// nothing, on the server that the entries were read from: it is not sent again over another connection, which may lead to another
/// server. Returns how many entries were still there.
///
/// # Errors
/// Redis's error; whether the step was taken is unknown then.
pub async fn acknowledge(redis: &Client, entries: &[AckedEntry], posts: &[(PostId, i64)]) -> Result<usize, Error> {
    let mut keys = Vec::with_capacity(1 + posts.len());
    keys.push(keys::OUTBOX.to_owned());
    keys.extend(posts.iter().map(|(post, _)| keys::meta(post)));
    let mut args: Vec<Value> = Vec::with_capacity(1 + 4 * entries.len() + posts.len());
    args.push(number(entries.len()));
    for entry in entries {
        args.push(entry.id.as_str().into());
        args.push(number(entry.posts.len()));
        for (place, pairs) in &entry.posts {
            // Lua counts from one.
            args.push(number(place + 1));
            args.push(number(*pairs));
        }
    }
    args.extend(posts.iter().map(|(_, views)| Value::from(*views)));
    redis.with_options(&Options { max_attempts: Some(1), ..Options::default() }).eval(ACK, keys, args).await
}

fn number(value: usize) -> Value {
    i64::try_from(value).unwrap_or(i64::MAX).into()
}
