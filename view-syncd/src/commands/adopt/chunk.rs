//! A chunk of a source: some of its keys, and a part of their viewers.

use std::collections::HashMap;

use views_core::ids::PostId;
use views_postgres::adopt::Part;

/// The most parts in which the viewers of one post are cut.
const MOST_PARTS: i32 = 1 << 20;

/// Some keys of a source in their order, each with the number of its pairs, and a part of their viewers.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) keys: Vec<(String, i64)>,
    /// In how many parts the viewers are cut.
    pub(super) parts: i32,
    /// Which of the parts it is.
    pub(super) part: i32,
}

impl Chunk {
    /// Takes a chunk of about so many pairs from the front of the keys.
    pub(super) fn take(mut keys: Vec<(String, i64)>, pairs: i64) -> Self {
        let mut sum = 0;
        let fits = |(_, more): &&(String, i64)| {
            sum += more;
            sum <= pairs
        };
        let number = keys.iter().take_while(fits).count().max(1);
        keys.truncate(number);
        Self { keys, parts: 1, part: 0 }
    }

    /// Cuts it into parts of about so many pairs, where it is a single post with more than twice as many.
    pub(super) fn cut(self, pairs: i64) -> Vec<Self> {
        let of_all = self.pairs();
        if self.keys.len() > 1 || of_all <= 2 * pairs {
            return vec![self];
        }
        let parts = i32::try_from(of_all / pairs + 1).unwrap_or(MOST_PARTS).min(MOST_PARTS);
        (0..parts).map(|part| Self { parts, part, ..self.clone() }).collect()
    }

    /// Returns the two halves; none where it cannot be halved: then it is a single pair, or nearly so.
    pub(super) fn halves(&self) -> Option<[Self; 2]> {
        if self.keys.len() > 1 {
            let (first, second) = self.keys.split_at(self.keys.len() / 2);
            return Some([first, second].map(|keys| Self { keys: keys.to_vec(), ..*self }));
        }
        let parts = self.parts.checked_mul(2).filter(|parts| *parts <= MOST_PARTS)?;
        Some([2 * self.part, 2 * self.part + 1].map(|part| Self { parts, part, ..self.clone() }))
    }

    /// Returns how many pairs its keys have.
    pub(super) fn pairs(&self) -> i64 {
        self.keys.iter().map(|(_, pairs)| pairs).sum()
    }

    /// Returns whether it has no keys of which there are pairs.
    pub(super) fn is_empty(&self) -> bool {
        self.pairs() == 0
    }

    /// Returns those of its keys that have pairs.
    pub(super) fn keys_with_pairs(&self) -> Vec<&str> {
        self.keys.iter().filter(|(_, pairs)| *pairs > 0).map(|(key, _)| &**key).collect()
    }

    /// Returns the part of some keys as it is asked for.
    pub(super) fn part_of<'a>(&self, keys: &'a [&'a str]) -> Part<'a> {
        Part { keys, parts: self.parts, part: self.part }
    }

    /// Returns the posts of its keys that have pairs, and as what the source has them.
    pub(super) fn posts(&self) -> HashMap<PostId, Vec<&str>> {
        let mut posts: HashMap<PostId, Vec<&str>> = HashMap::with_capacity(self.keys.len());
        for key in self.keys_with_pairs() {
            if let Ok(post) = PostId::parse(key) {
                posts.entry(post).or_default().push(key);
            }
        }
        posts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(numbers: &[i64]) -> Vec<(String, i64)> {
        numbers.iter().enumerate().map(|(place, pairs)| (place.to_string(), *pairs)).collect()
    }

    #[test]
    fn a_chunk_has_about_as_many_pairs_as_it_may_and_one_post_at_least() {
        assert_eq!(Chunk::take(keys(&[4, 0, 5, 2, 9]), 10).keys.len(), 3);
        assert_eq!(Chunk::take(keys(&[40, 1]), 10).keys.len(), 1);
    }

    #[test]
    fn a_post_with_many_viewers_is_cut() {
        let parts = Chunk::take(keys(&[95]), 10).cut(10);
        assert_eq!(
            parts.iter().map(|chunk| (chunk.parts, chunk.part)).collect::<Vec<_>>(),
            (0..10).map(|n| (10, n)).collect::<Vec<_>>()
        );
        assert_eq!(Chunk::take(keys(&[15]), 10).cut(10).len(), 1);
    }

    #[test]
    fn halves_have_all_of_it_and_nothing_twice() {
        let chunk = Chunk { keys: keys(&[1, 2, 3]), parts: 1, part: 0 };
        let [first, second] = chunk.halves().unwrap();
        assert_eq!((first.keys_with_pairs(), second.keys_with_pairs()), (vec!["0"], vec!["1", "2"]));
        let of_hash = |chunk: &Chunk, hash: i32| hash * chunk.parts / 100 == chunk.part;
        let whole = Chunk { parts: 3, part: 2, ..Chunk::take(keys(&[9]), 1) };
        let halves = whole.halves().unwrap();
        for hash in 0..100 {
            let within = halves.iter().filter(|half| of_hash(half, hash)).count();
            assert_eq!(within, usize::from(of_hash(&whole, hash)), "{hash}");
        }
    }
}
