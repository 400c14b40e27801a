//! What became of a batch's views in PostgreSQL, and the verdict on each.

use std::collections::{HashMap, HashSet};

use views_core::ids::{PostId, ViewerId};
use views_postgres::{
    insert::Outcome as Inserted,
    ledger::{Pair, PostSnapshot},
};

use crate::record::request::{Status, Unavailable};

/// What PostgreSQL says of a post.
#[derive(Debug, Clone, Default)]
pub(super) struct Verdict {
    /// The count and the author, where they are known.
    known: Option<(i64, String)>,
    /// The viewers whose view was new.
    new: Vec<ViewerId>,
    /// The viewers whose view it does not take now.
    refused: HashSet<ViewerId>,
}

impl Verdict {
    /// Returns the count; nothing where it is not known.
    pub(super) fn views(&self) -> Option<i64> {
        self.known.as_ref().map(|(views, _)| *views)
    }

    pub(super) fn new_viewers(&self) -> &[ViewerId] {
        &self.new
    }

    fn refuse(&mut self, viewer: ViewerId) {
        if !self.new.contains(&viewer) {
            self.refused.insert(viewer);
        }
    }

    /// Returns the verdict on a viewer's view. `new` are those of the new viewers of whom no view has had its verdict:
    /// one counts, and the others are its repetitions.
    pub(super) fn status(&self, viewer: &ViewerId, new: &mut Vec<ViewerId>) -> Result<Status, Unavailable> {
        if self.known.as_ref().is_some_and(|(_, author)| author == viewer.as_str()) {
            return Ok(Status::Own);
        }
        if let Some(place) = new.iter().position(|candidate| candidate == viewer) {
            new.swap_remove(place);
            return Ok(Status::Counted);
        }
        if self.refused.contains(viewer) { Err(Unavailable) } else { Ok(Status::Duplicate) }
    }
}

/// What became of the posts of a batch.
#[derive(Debug, Clone, Default)]
pub(in crate::record) struct Verdicts {
    posts: HashMap<PostId, Verdict>,
    missing: HashSet<PostId>,
    /// Posts that somebody has locked.
    locked: HashSet<PostId>,
}

impl Verdicts {
    /// Notes what became of pairs, and which were not done.
    pub(super) fn take(&mut self, pairs: &[Pair], inserted: Inserted, undone: impl IntoIterator<Item = usize>) {
        for (post, stored) in inserted.stored {
            let verdict = self.posts.entry(post).or_default();
            verdict.known = Some((stored.views, stored.author));
            verdict.refused.retain(|viewer| !stored.new.contains(viewer));
            verdict.new.extend(stored.new);
        }
        let refused = inserted.refused.iter().map(|refused| refused.place).chain(undone);
        for pair in refused.filter_map(|place| pairs.get(place)) {
            self.posts.entry(pair.post).or_default().refuse(pair.viewer);
        }
        for post in inserted.deferred.into_keys() {
            let verdict = self.posts.entry(post).or_default();
            for pair in &pairs[places_of(pairs, &post)] {
                verdict.refuse(pair.viewer);
            }
            self.locked.insert(post);
        }
        self.missing.extend(inserted.missing);
    }

    /// Notes what was seen of posts and of viewers whose views were not taken. A post that was looked for and is not
    /// there is missing.
    pub(super) fn see(&mut self, wanted: impl IntoIterator<Item = PostId>, mut seen: HashMap<PostId, PostSnapshot>) {
        for post in wanted {
            let Some(PostSnapshot { views, author, viewers }) = seen.remove(&post) else {
                self.missing.insert(post);
                continue;
            };
            let verdict = self.posts.entry(post).or_default();
            verdict.known = Some((views, author));
            verdict.refused.retain(|viewer| !viewers.contains(viewer));
        }
    }

    /// Returns the posts of which some views were not taken, with their viewers; without those that are locked.
    pub(super) fn refused(&self) -> HashMap<PostId, Vec<ViewerId>> {
        let refused = self.posts.iter().filter(|(post, verdict)| !verdict.refused.is_empty() && !self.locked.contains(post));
        refused.map(|(post, verdict)| (*post, verdict.refused.iter().copied().collect())).collect()
    }

    /// Returns the posts that somebody has locked. They are not so from now on.
    pub(super) fn take_locked(&mut self) -> HashSet<PostId> {
        std::mem::take(&mut self.locked)
    }

    pub(super) fn has_locked(&self) -> bool {
        !self.locked.is_empty()
    }

    /// Returns whether nothing more is to be said of a post for now.
    pub(in crate::record) fn is_decided(&self, post: &PostId) -> bool {
        !self.locked.contains(post)
    }

    pub(super) fn get(&self, post: &PostId) -> Option<&Verdict> {
        self.posts.get(post)
    }

    pub(super) fn is_missing(&self, post: &PostId) -> bool {
        self.missing.contains(post)
    }

    /// Returns all posts of which views were stored, with the viewers.
    pub(super) fn stored(&self) -> impl Iterator<Item = (&PostId, &[ViewerId])> {
        self.posts.iter().map(|(post, verdict)| (post, verdict.new_viewers())).filter(|(_, new)| !new.is_empty())
    }
}

/// Returns the places of a post's pairs among prepared ones.
pub(super) fn places_of(pairs: &[Pair], post: &PostId) -> std::ops::Range<usize> {
    let start = pairs.partition_point(|pair| pair.post < *post);
    start..pairs.partition_point(|pair| pair.post <= *post)
}
