//! What Redis has missed while it was away, so that it can be told.

use std::collections::HashMap;

use views_core::ids::{PostId, ViewerId};

/// Posts and viewers that are remembered at most, per recorder. What an outage touches beyond that is brought up to
/// date by the scan.
const MAX_REMEMBERED: usize = 200_000;

/// What was stored in PostgreSQL while Redis was away.
#[derive(Default)]
pub(super) struct MissedViews {
    posts: HashMap<PostId, Missed>,
    remembered: usize,
    /// Grows with each outage's write, so that a refresh that began before it does not count as having seen it.
    generation: u64,
    /// Whether it has been said that there is no room for more. A long outage would say it with every post.
    overflowed: bool,
}

/// What Redis has missed of a post.
#[derive(Debug, Clone, Default)]
pub(super) struct Missed {
    pub(super) generation: u64,
    pub(super) viewers: Vec<ViewerId>,
}

impl MissedViews {
    pub(super) fn is_empty(&self) -> bool {
        self.posts.is_empty()
    }

    pub(super) fn get(&self, post: &PostId) -> Option<&Missed> {
        self.posts.get(post)
    }

    /// Returns some of the posts that may be brought up to date now.
    pub(super) fn some(&self, number: usize, may_be: impl Fn(&PostId) -> bool) -> Vec<PostId> {
        self.posts.keys().filter(|post| may_be(post)).take(number).copied().collect()
    }

    /// Redis knows of a post what was missed up to a generation.
    pub(super) fn refreshed(&mut self, post: &PostId, generation: u64) {
        if self.posts.get(post).is_some_and(|missed| missed.generation == generation)
            && let Some(missed) = self.posts.remove(post)
        {
            self.remembered -= 1 + missed.viewers.len();
            self.overflowed = false;
        }
    }

    /// Takes what others remember.
    pub(super) fn absorb(&mut self, others: Self) {
        for (post, missed) in others.posts {
            self.add(post, &missed.viewers);
        }
    }

    pub(super) fn add(&mut self, post: PostId, viewers: &[ViewerId]) {
        let known = self.posts.contains_key(&post);
        let more = viewers.len() + usize::from(!known);
        if self.remembered + more > MAX_REMEMBERED {
            // Without its viewers a post is still worth remembering; without room, not even that.
            if !known && !std::mem::replace(&mut self.overflowed, true) {
                tracing::warn!(%post, "too many posts were viewed past Redis: from this one on their counts lag until the next scan");
            }
            return;
        }
        self.generation += 1;
        self.remembered += more;
        let missed = self.posts.entry(post).or_default();
        missed.generation = self.generation;
        missed.viewers.extend_from_slice(viewers);
    }
}
