//! The few steps in Redis that must not be torn apart, as Lua scripts. None is on the path of a view whose post is known.
//!
//! They are sent whole each time (`EVAL`): the server keeps them compiled by their text, and there is no hash that a restart or a
//! `SCRIPT FLUSH` could make it forget.

use std::time::Duration;

use fred::{clients::Client, error::Error, interfaces::LuaInterface, types::Value};

use crate::{
    ids::{PostId, ViewerId},
    keys::Keys,
    ledger::KnownPost,
    redis::resp::Commands,
};

const HYDRATE: &str = include_str!("scripts/hydrate.lua");
const ACK: &str = include_str!("scripts/ack.lua");

/// An outbox entry that is to be acknowledged: its id, and the posts that it names.
pub type AckedEntry = (String, Vec<u32>);

/// Puts what PostgreSQL knows of a post into Redis, unless it is there. Repeating it changes nothing.
///
/// # Errors
/// Redis's error.
pub async fn hydrate(redis: &Client, keys: &Keys, post: &PostId, known: &KnownPost, ttl: Duration) -> Result<(), Error> {
    put(redis, keys, post, known, &[], "", ttl).await
}

/// Brings a post that PostgreSQL has taken views of past Redis up to date, with those of the viewers that are known to be in the ledger.
/// Repeating it changes nothing.
///
/// # Errors
/// Redis's error.
pub async fn refresh(
    redis: &Client,
    keys: &Keys,
    post: &PostId,
    known: &KnownPost,
    viewers: &[ViewerId],
    ttl: Duration,
) -> Result<(), Error> {
    put(redis, keys, post, known, viewers, "refresh", ttl).await
}

async fn put(
    redis: &Client,
    keys: &Keys,
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
    redis.eval::<(), _, _, _>(HYDRATE, vec![keys.views(post), keys.meta(post)], args).await
}

/// Writes the command that deletes outbox entries and settles the counts of `posts` (each with its count in PostgreSQL) in one step. An
/// entry is its id and the places, counted from one, of the posts that it names, as often as it names them. The reply is how many
/// entries were still there.
///
/// Repeating it changes nothing, on the server that the entries were read from: it must not be sent over a connection that may lead to
/// another one.
pub fn acknowledge(commands: &mut Commands, keys: &Keys, entries: &[AckedEntry], posts: &[(PostId, i64)]) {
    let counts: Vec<i64> = posts.iter().map(|(_, count)| *count).collect();
    // Texts and numbers always have a JSON form.
    let work = serde_json::to_string(&(entries, counts)).unwrap_or_default();
    commands.command("EVAL", 4 + posts.len()).text(ACK).number(1 + posts.len() as i64).text(keys.outbox());
    for (post, _) in posts {
        commands.parts(&keys.meta_parts(post));
    }
    commands.text(&work);
}
