//! Viewers with whom a lock goes: somebody has locked the row that a foreign key of the application's leads to. Where such a viewer has viewed a
//! thousand posts, it is not tried a thousand times.

use std::collections::{HashMap, HashSet};

/// As many pairs of a viewer have to be refused for a lock before the others are taken for such.
const ENOUGH: usize = 3;

/// What is known of such viewers.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    refusals: HashMap<String, usize>,
    assumed: HashSet<String>,
}

impl Suspects {
    /// Notes that a pair of this viewer was refused for a lock. Returns whether it is clear from now on that all of his are.
    pub(super) fn note(&mut self, viewer: &str) -> bool {
        let refusals = self.refusals.entry(viewer.to_owned()).or_default();
        *refusals += 1;
        *refusals >= ENOUGH && self.assumed.insert(viewer.to_owned())
    }

    /// Whether the pairs of this viewer are not tried.
    pub(super) fn has(&self, viewer: &str) -> bool {
        !self.assumed.is_empty() && self.assumed.contains(viewer)
    }
}
