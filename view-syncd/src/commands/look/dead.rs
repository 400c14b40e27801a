//! How many dead letters wait, and for which reasons.

use std::collections::BTreeMap;

use serde::Serialize;
use views_redis::{
    RedisError,
    resp::{Commands, Replies, Reply},
};

use crate::{drain::dead_letters, error::refusal, owned_session::OwnedSession};

/// Dead letters of which the reasons are counted. More are only counted themselves.
const MOST: u64 = 20_000;

/// The dead letters.
#[derive(Debug, Default, Serialize)]
pub(crate) struct DeadLetters {
    /// How many there are.
    pub(crate) entries: u64,
    /// Of how many of them the reasons are counted.
    pub(crate) counted: u64,
    /// The reasons, those of most of them first.
    pub(crate) reasons: Vec<ReasonCount>,
}

/// How many dead letters have a reason.
#[derive(Debug, Serialize)]
pub(crate) struct ReasonCount {
    pub(crate) reason: String,
    pub(crate) entries: u64,
    /// Whether they are offered to PostgreSQL again with each cycle.
    pub(crate) retry: bool,
}

/// Counts the dead letters by their reasons.
pub(crate) async fn count(session: &mut OwnedSession) -> Result<DeadLetters, RedisError> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    commands.command("XLEN", 1).text(session.context.keys.dead());
    session.redis.exchange(&commands, &mut replies).await?;
    let entries = match replies.iter().next() {
        Some(Reply::Integer(entries)) => entries.unsigned_abs(),
        other => return Err(refusal(other)),
    };
    let mut reasons: BTreeMap<(String, bool), u64> = BTreeMap::new();
    let (mut counted, mut after) = (0, None);
    while entries > 0 && counted < MOST {
        let page = dead_letters::page(session, after).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        counted += page.len() as u64;
        for letter in page {
            *reasons.entry((letter.dead.reason.into_owned(), letter.dead.is_retryable)).or_default() += 1;
        }
    }
    let mut reasons: Vec<_> =
        reasons.into_iter().map(|((reason, retry), entries)| ReasonCount { reason, entries, retry }).collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.entries));
    Ok(DeadLetters { entries: entries.max(counted), counted, reasons })
}
