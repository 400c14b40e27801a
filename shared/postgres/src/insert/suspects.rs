//! Viewers and posts with whom a lock goes: somebody has locked the row that a foreign key of the application's leads
//! to, or one that a trigger writes to. Where such a viewer has viewed a thousand posts, or a thousand viewers such a
//! post, it is not tried a thousand times.

use std::collections::{HashMap, HashSet};

/// As many pairs of a viewer have to be refused for a lock before the others are taken for such.
const ENOUGH: usize = 3;
/// As many pairs of a post, of different viewers. Each of these may be locked for himself, so these are some more.
const ENOUGH_OF_POST: usize = 16;

/// What is known of such viewers and posts.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    viewers: Group,
    posts: Group,
}

#[derive(Debug, Default)]
struct Group {
    refusals: HashMap<String, usize>,
    assumed: HashSet<String>,
}

impl Suspects {
    /// Notes that a pair of this viewer was refused for a lock. Returns whether it is clear from now on that all of his are.
    pub(super) fn note_viewer(&mut self, viewer: &str) -> bool {
        self.viewers.note(viewer, ENOUGH)
    }

    /// Notes that a pair of this post was refused for a lock. Returns whether all of its pairs are taken for such from
    /// now on.
    pub(super) fn note_post(&mut self, post: &str) -> bool {
        self.posts.note(post, ENOUGH_OF_POST)
    }

    /// Returns whether the pairs of this post, or of this viewer, are not tried.
    pub(super) fn has(&self, post: &str, viewer: &str) -> bool {
        self.viewers.has(viewer) || self.posts.has(post)
    }
}

impl Group {
    fn note(&mut self, name: &str, enough: usize) -> bool {
        let refusals = self.refusals.entry(name.to_owned()).or_default();
        *refusals += 1;
        *refusals >= enough && self.assumed.insert(name.to_owned())
    }

    fn has(&self, name: &str) -> bool {
        !self.assumed.is_empty() && self.assumed.contains(name)
    }
}
