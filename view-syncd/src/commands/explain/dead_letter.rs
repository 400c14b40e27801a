//! Looking for a view among the dead letters.

use serde::Serialize;
use views_core::ids::{PostId, ViewerId};
use views_redis::RedisError;

use crate::{
    commands::{look::Look, output},
    drain::dead_letters::{self, StoredDeadLetter},
    entry_id::EntryId,
};

/// Dead letters that are looked at; there are hardly ever more.
const MOST: usize = 1_000_000;

/// A dead letter of the view.
#[derive(Debug, Serialize)]
pub(super) struct FoundLetter {
    pub(super) id: String,
    /// When the post was viewed.
    pub(super) viewed_at: String,
    pub(super) reason: String,
    /// Whether it is offered to PostgreSQL again with each cycle.
    pub(super) retry: bool,
}

impl FoundLetter {
    pub(super) fn text(&self) -> String {
        let again = if self.retry { ", offered again with each cycle" } else { "" };
        format!("{}, of {}: {}{again}", self.id, self.viewed_at, self.reason)
    }
}

/// Returns the first dead letter of the view.
pub(super) async fn find(look: &mut Look, post: &PostId, viewer: &ViewerId) -> Result<Option<FoundLetter>, RedisError> {
    let (mut after, mut seen): (Option<EntryId>, usize) = (None, 0);
    while seen < MOST {
        let page = dead_letters::page(&mut look.session, after).await?;
        let Some(last) = page.last() else { break };
        (after, seen) = (Some(last.id), seen + page.len());
        if let Some(StoredDeadLetter { id, dead }) = page.into_iter().find(|letter| is_of(letter, post, viewer)) {
            let reason = dead.reason.into_owned();
            return Ok(Some(FoundLetter {
                id: id.to_string(),
                viewed_at: output::moment(dead.at_ms),
                reason,
                retry: dead.is_retryable,
            }));
        }
    }
    Ok(None)
}

fn is_of(letter: &StoredDeadLetter, post: &PostId, viewer: &ViewerId) -> bool {
    let text = |bytes| str::from_utf8(bytes).ok();
    text(&letter.dead.post).and_then(|id| PostId::parse(id).ok()).is_some_and(|id| id == *post)
        && text(&letter.dead.viewer).and_then(|id| ViewerId::parse(id).ok()).is_some_and(|id| id == *viewer)
}
