//! The stream of pairs that could not be stored (`views:dead`): adding dead letters, reading them page by page,
//! deleting them.
//!
//! A pair whose reason may pass by itself is retried with each cycle (see `reconcile/retry_dead_letters.rs`). All
//! others wait for an operator, but for those of posts that do not exist: of these only so many are kept.

use std::{borrow::Cow, collections::BTreeMap};

use views_core::{failpoints, log_names, masked::mask};
use views_redis::{
    RedisError,
    resp::{Commands, List, Replies, Reply},
};

use super::dead_letter::{DeadLetter, NO_SUCH_POST, field};
use crate::{context::Context, entry_id::EntryId, error::refusal, metrics, owned_session::OwnedSession};

/// The stream is not made longer than this by pairs of posts that do not exist. Clients can have as many of them as
/// they like.
const MOST_WITHOUT_POST: i64 = 100_000;
/// Dead letters that are added in one exchange.
const CHUNK: usize = 200;
/// Dead letters that are read or deleted in one exchange.
const PAGE: usize = 500;

/// A dead letter as it stands in the stream.
#[derive(Debug, Clone)]
pub(crate) struct StoredDeadLetter {
    pub(crate) id: EntryId,
    pub(crate) dead: DeadLetter,
}

/// Adds dead letters. Done before their entries are deleted from the outbox: a crash in between repeats dead letters
/// and loses none.
pub(crate) async fn add(session: &mut OwnedSession, mut dead_letters: Vec<DeadLetter>) -> Result<(), RedisError> {
    #[cfg(feature = "failpoints")]
    super::mistakes::before_adding(&mut dead_letters);
    if dead_letters.is_empty() {
        return Ok(());
    }
    let dropped = drop_surplus(session, &mut dead_letters).await?;
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for chunk in dead_letters.chunks(CHUNK) {
        commands.clear();
        for dead_letter in chunk {
            let arguments = if dead_letter.is_retryable { 12 } else { 10 };
            commands.command("XADD", arguments).text(session.context.keys.dead()).text("*");
            commands.text(field::POST).blob(&dead_letter.post).text(field::VIEWER).blob(&dead_letter.viewer);
            commands.text(field::REASON).text(&dead_letter.reason).text(field::AT).number(dead_letter.at_ms);
            if dead_letter.is_retryable {
                commands.text(field::RETRY).text("1");
            }
        }
        session.redis.exchange(&commands, &mut replies).await?;
        if let Some(other) = replies.iter().find(|reply| !matches!(reply, Reply::Text(_))) {
            return Err(refusal(Some(other)));
        }
        session.context.progress.made();
    }
    failpoints::at("bury::after");
    session.context.metrics.dead_letters.inc_by(i64::try_from(dead_letters.len()).unwrap_or(i64::MAX));
    log(&session.context, &dead_letters, dropped);
    Ok(())
}

/// Removes dead letters of posts that do not exist from the list where the stream has no more room for them. Returns
/// how many.
async fn drop_surplus(session: &mut OwnedSession, dead_letters: &mut Vec<DeadLetter>) -> Result<usize, RedisError> {
    if dead_letters.iter().all(|dead_letter| dead_letter.reason != NO_SUCH_POST) {
        return Ok(0);
    }
    let length = length(session).await?;
    let mut room = usize::try_from(MOST_WITHOUT_POST - length).unwrap_or(0);
    let before = dead_letters.len();
    dead_letters.retain(|dead_letter| {
        let has_room = dead_letter.reason != NO_SUCH_POST || room > 0;
        room = room.saturating_sub(usize::from(dead_letter.reason == NO_SUCH_POST));
        has_room
    });
    Ok(before - dead_letters.len())
}

/// Returns the number of dead letters.
pub(crate) async fn length(session: &mut OwnedSession) -> Result<i64, RedisError> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    commands.command("XLEN", 1).text(session.context.keys.dead());
    session.redis.exchange(&commands, &mut replies).await?;
    match replies.iter().next() {
        Some(Reply::Integer(length)) => Ok(length),
        other => Err(refusal(other)),
    }
}

/// Logs one line for all dead letters of one reason, and each of them at the level of debug.
fn log(context: &Context, dead_letters: &[DeadLetter], dropped: usize) {
    let mut reasons: BTreeMap<Cow<'_, str>, usize> = BTreeMap::new();
    for DeadLetter { post, viewer, reason, .. } in dead_letters {
        *reasons.entry(mask(reason, &String::from_utf8_lossy(viewer))).or_default() += 1;
        tracing::debug!(?post, ?viewer, reason = &**reason, "a pair could not be stored");
    }
    let without_post = reasons.get(NO_SUCH_POST).copied().unwrap_or(0);
    context.metrics.dead.inc_by((dead_letters.len() - without_post) as u64);
    for (reason, pairs) in reasons {
        tracing::warn!(name: log_names::EXAMPLE, pairs, reason = &*reason, "pairs that could not be stored are kept in {}", context.keys.dead());
    }
    if dropped > 0 {
        context.metrics.dropped.inc_by(dropped as u64);
        tracing::warn!(
            pairs = dropped,
            "pairs of posts that do not exist are dropped: {} has {MOST_WITHOUT_POST} already",
            context.keys.dead()
        );
    }
}

/// Returns the dead letters behind `after`: a page of them, in their order.
pub(crate) async fn page(session: &mut OwnedSession, after: Option<EntryId>) -> Result<Vec<StoredDeadLetter>, RedisError> {
    let start = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let dead = session.context.keys.dead();
    commands.command("XRANGE", 5).text(dead).text(&start).text("+").text("COUNT").number(PAGE as i64);
    session.exchange(&commands, &mut replies).await?;
    match replies.iter().next() {
        Some(Reply::List(page)) => Ok(page.iter().filter_map(read).collect()),
        other => Err(refusal(other)),
    }
}

/// Deletes dead letters.
pub(crate) async fn delete(session: &mut OwnedSession, ids: &[EntryId]) -> Result<(), RedisError> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for chunk in ids.chunks(PAGE) {
        commands.clear();
        commands.command("XDEL", 1 + chunk.len()).text(session.context.keys.dead());
        for id in chunk {
            commands.text(&id.to_string());
        }
        session.redis.exchange(&commands, &mut replies).await?;
        let reply = replies.iter().next();
        let Some(Reply::Integer(deleted)) = reply else { return Err(refusal(reply)) };
        metrics::lower(&session.context.metrics.dead_letters, deleted);
    }
    Ok(())
}

fn read(entry: Reply<'_>) -> Option<StoredDeadLetter> {
    let Reply::List(entry) = entry else { return None };
    let mut parts = entry.iter();
    let (Some(Reply::Text(id)), Some(Reply::List(fields))) = (parts.next(), parts.next()) else { return None };
    let id: EntryId = id.parse().ok()?;
    // Dead letters of an earlier version have no time: they were written when the view was drained.
    let at_ms = i64::try_from(id.ms).unwrap_or(i64::MAX);
    let mut dead = DeadLetter::new(&[], &[], "", at_ms);
    read_fields(fields, &mut dead);
    Some(StoredDeadLetter { id, dead })
}

fn read_fields(fields: List<'_>, dead: &mut DeadLetter) {
    let mut fields = fields.iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let bytes = match value {
            Reply::Text(text) => text.as_bytes(),
            Reply::Bytes(bytes) => bytes,
            _ => &[],
        };
        match name {
            Reply::Text(field::POST) => dead.post = bytes.to_vec().into(),
            Reply::Text(field::VIEWER) => dead.viewer = bytes.to_vec().into(),
            Reply::Text(field::REASON) => dead.reason = String::from_utf8_lossy(bytes).into_owned().into(),
            Reply::Text(field::AT) => dead.at_ms = value.number().unwrap_or(dead.at_ms),
            Reply::Text(field::RETRY) => dead.is_retryable = true,
            _ => {}
        }
    }
}
