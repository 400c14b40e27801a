//! Who is in the outbox, or kept as a dead letter: views that the ledger does not have and that are not lost.

use std::collections::{HashMap, HashSet};

use views_core::ids::{PostId, ViewerId};

use super::{
    look::LookedAt,
    outboxes::{self, Bounds},
};
use crate::{
    drain::{acknowledge::is_young, dead_letters},
    entry_id::EntryId,
    error::Failure,
    owned_session::OwnedSession,
};

/// A longer outbox is not read for this. What is in it is compared when it is drained.
pub(crate) const MOST_ENTRIES: i64 = 200_000;
/// How much of each outbox is read at most.
const BOUNDS: Bounds = Bounds { entries: MOST_ENTRIES, pairs: 200_000 };

/// What the outbox has of posts and is not acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    viewers: HashMap<PostId, HashSet<ViewerId>>,
    /// How many pairs, those that are repeated too, and the last entry with any.
    pairs: HashMap<PostId, (i64, EntryId)>,
    /// Posts whose pairs may be in an outbox that is too long, or cannot be read now.
    unknown: HashSet<PostId>,
}

impl Pending {
    /// Reads it. Dead pairs are told in their number only.
    pub(crate) async fn read(session: &mut OwnedSession, posts: &HashMap<PostId, LookedAt>) -> Result<Self, Failure> {
        let from = |seen: &LookedAt| seen.settled.as_ref().and_then(|id| id.parse().ok()).map_or(EntryId::FIRST, EntryId::next);
        let wanted = posts.iter().map(|(post, seen)| (*post, from(seen))).collect();
        let outboxes = outboxes::read(session, &wanted, BOUNDS).await?;
        let mut pending = Self::default();
        for post in posts.keys() {
            if !outboxes.are_known_of(post) {
                pending.unknown.insert(*post);
            } else if let Some(pairs) = outboxes.pairs_of(post) {
                pending.viewers.insert(*post, outboxes.viewers_of(post));
                pending.pairs.insert(*post, pairs);
            }
        }
        Ok(pending)
    }

    /// Returns whether it is known what there is of a post.
    pub(crate) fn is_known(&self, post: &PostId) -> bool {
        !self.unknown.contains(post)
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
