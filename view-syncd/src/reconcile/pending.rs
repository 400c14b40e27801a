//! Who is in the outbox, or kept as a dead letter: views that the ledger does not have and that are not lost.

use std::collections::{HashMap, HashSet};

use views_core::{
    ids::{PostId, ViewerId},
    partition::Partition,
};

use super::look::LookedAt;
use crate::{
    drain::{acknowledge::is_young, batch::Batch, dead_letters, outbox},
    entry_id::EntryId,
    error::Failure,
    owned_session::OwnedSession,
};

/// A longer outbox is not read for this. What is in it is compared when it is drained.
pub(crate) const MOST_ENTRIES: i64 = 200_000;
/// Pairs of these posts that are read at most.
const MOST_PAIRS: usize = 200_000;

/// What the outbox has of posts and is not acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    viewers: HashMap<PostId, HashSet<ViewerId>>,
    /// How many pairs, those that are repeated too, and the last entry with any.
    pairs: HashMap<PostId, (i64, EntryId)>,
}

impl Pending {
    /// Reads it; nothing where the outbox is too long. Dead pairs are told in their number only.
    pub(crate) async fn read(session: &mut OwnedSession, posts: &HashMap<PostId, LookedAt>) -> Result<Option<Self>, Failure> {
        let length = outbox::length(&session.context, Partition::WHOLE).await?;
        if length == 0 || posts.is_empty() {
            return Ok(Some(Self::default()));
        }
        if length > MOST_ENTRIES {
            return Ok(None);
        }
        let from = |seen: &LookedAt| seen.settled.as_ref().and_then(|id| id.parse().ok()).map_or(EntryId::FIRST, EntryId::next);
        let wanted = posts.iter().map(|(post, seen)| (*post, from(seen))).collect();
        let mut outbox = Batch::of(wanted, EntryId::LAST, session.redis.number());
        outbox.read_on(session, Partition::WHOLE, MOST_PAIRS).await?;
        if !outbox.is_at_end {
            return Ok(None);
        }
        let mut pending = Self::default();
        for (place, post) in (0..).zip(outbox.pairs.posts()) {
            pending.viewers.insert(*post, outbox.pairs.viewers_of(post));
            if let Some(span) = outbox.entries.span_behind(place, EntryId::FIRST) {
                pending.pairs.insert(*post, (i64::try_from(span.pairs).unwrap_or(i64::MAX), span.last));
            }
        }
        Ok(Some(pending))
    }

    /// Returns who is in the outbox with a post.
    pub(crate) fn viewers(&self, post: &PostId) -> Option<&HashSet<ViewerId>> {
        self.viewers.get(post).filter(|viewers| !viewers.is_empty())
    }

    /// Returns how many pairs of a post are there.
    pub(crate) fn pairs(&self, post: &PostId) -> i64 {
        self.pairs.get(post).map_or(0, |(pairs, _)| *pairs)
    }

    /// Returns whether an increment that belongs to one of them may be on its way.
    pub(crate) fn is_young(&self, post: &PostId) -> bool {
        self.pairs.get(post).is_some_and(|(_, last)| is_young(*last))
    }
}

/// Takes those out of the lacking viewers who are kept as dead letters: operators know of these.
pub(crate) async fn pass_over_dead(session: &mut OwnedSession, posts: &mut HashMap<PostId, LookedAt>) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let page = dead_letters::page(session, after).await?;
        let Some(last) = page.last().map(|dead_letter| dead_letter.id) else { return Ok(()) };
        for dead_letter in page {
            let text = |bytes| std::str::from_utf8(bytes).ok();
            let post = text(&dead_letter.dead.post).and_then(|post| PostId::parse(post).ok());
            let viewer = text(&dead_letter.dead.viewer).and_then(|viewer| ViewerId::parse(viewer).ok());
            if let (Some(post), Some(viewer)) = (post, viewer)
                && let Some(seen) = posts.get_mut(&post)
            {
                seen.lacking.remove(&viewer);
            }
        }
        session.context.checkpoint()?;
        after = Some(last);
    }
}
