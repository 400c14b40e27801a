//! Pairs: who saw which post, and lists of them on their way into the ledger.

use std::ops::Range;

use views_core::ids::{PostId, ViewerId};

/// One viewer who saw one post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// The post.
    pub post: PostId,
    /// The viewer.
    pub viewer: ViewerId,
    /// When it was recorded, in milliseconds since 1970. Compared last, so that sorting puts the earliest of equal
    /// pairs first.
    pub at_ms: i64,
}

/// A pair as it is sent: the post, the viewer, and when it was recorded, in milliseconds since 1970.
pub type Sent<'a> = (&'a str, &'a str, i64);

/// Pairs, sorted by post and viewer and free of repetitions, each of them acceptable for the columns' types.
pub trait PairList: Sync {
    /// Returns how many there are.
    fn len(&self) -> usize;

    /// Returns whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the pairs in a range of places.
    fn range(&self, range: Range<usize>) -> impl Iterator<Item = Sent<'_>> + Clone + Send;
}

impl PairList for Vec<Pair> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn range(&self, range: Range<usize>) -> impl Iterator<Item = Sent<'_>> + Clone + Send {
        self[range].iter().map(|pair| (pair.post.as_str(), pair.viewer.as_str(), pair.at_ms))
    }
}

/// Sorts pairs by post and viewer, and keeps only the earliest of each.
pub fn prepare(pairs: &mut Vec<Pair>) {
    pairs.sort_unstable();
    pairs.dedup_by(|later, earlier| (later.post, later.viewer) == (earlier.post, earlier.viewer));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(post: &str, viewer: &str, at_ms: i64) -> Pair {
        Pair { post: PostId::parse(post).unwrap(), viewer: ViewerId::parse(viewer).unwrap(), at_ms }
    }

    #[test]
    fn a_repeated_pair_is_kept_once_with_its_earliest_time() {
        let mut pairs = vec![pair("b", "x", 5), pair("a", "y", 9), pair("a", "y", 3), pair("a", "x", 7), pair("a", "y", 4)];
        prepare(&mut pairs);
        assert_eq!(pairs, [pair("a", "x", 7), pair("a", "y", 3), pair("b", "x", 5)]);
    }
}
