//! A chunk of a source: some of its keys, and a part of their viewers.

use std::collections::HashMap;

use views_core::ids::PostId;
use views_postgres::adopt::Part;

/// The most parts in which the viewers of one post are cut.
const MOST_PARTS: i32 = 1 << 20;

/// Some keys of a source in their order, each with the number of its pairs, and a part of their viewers.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    /// The key before it.
    pub(super) after: Option<String>,
    pub(super) keys: Vec<(String, i64)>,
    /// In how many parts the viewers are cut.
    pub(super) parts: i32,
    /// Which of the parts it is.
    pub(super) part: i32,
}

impl Chunk {
    /// Takes a chunk of about so many pairs from the front of the keys, behind `after`.
    pub(super) fn take(after: Option<String>, mut keys: Vec<(String, i64)>, pairs: i64) -> Self {
        let mut sum = 0;
        let fits = |(_, more): &&(String, i64)| {
            sum += more;
            sum <= pairs
        };
        let number = keys.iter().take_while(fits).count().max(1);
        keys.truncate(number);
        Self { after, keys, parts: 1, part: 0 }
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
            let after = first.last().map(|(key, _)| key.clone());
            let half = |after, keys: &[(String, i64)]| Self { after, keys: keys.to_vec(), ..*self };
            return Some([half(self.after.clone(), first), half(after, second)]);
        }
        let parts = self.parts.checked_mul(2).filter(|parts| *parts <= MOST_PARTS)?;
        Some([self.part, self.part + self.parts].map(|part| Self { parts, part, ..self.clone() }))
    }

    /// Returns how many pairs its keys have.
    pub(super) fn pairs(&self) -> i64 {
        self.keys.iter().map(|(_, pairs)| pairs).sum()
    }

    /// Returns whether it has no keys of which there are pairs.
    pub(super) fn is_empty(&self) -> bool {
        self.pairs() == 0
    }

    /// Returns it as it is asked for.
    pub(super) fn as_part(&self) -> Part<'_> {
        let upto = self.keys.last().map_or("", |(key, _)| key);
        Part { after: self.after.as_deref(), upto, parts: self.parts, part: self.part }
    }

    /// Returns the posts of its keys that have pairs, and as what the source has them.
    pub(super) fn posts(&self) -> HashMap<PostId, Vec<&str>> {
        let mut posts: HashMap<PostId, Vec<&str>> = HashMap::with_capacity(self.keys.len());
        for (key, _) in self.keys.iter().filter(|(_, pairs)| *pairs > 0) {
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
        assert_eq!(Chunk::take(None, keys(&[4, 0, 5, 2, 9]), 10).keys.len(), 3);
        assert_eq!(Chunk::take(None, keys(&[40, 1]), 10).keys.len(), 1);
    }

    #[test]
    fn a_post_with_many_viewers_is_cut() {
        let parts = Chunk::take(None, keys(&[95]), 10).cut(10);
        assert_eq!(
            parts.iter().map(|chunk| (chunk.parts, chunk.part)).collect::<Vec<_>>(),
            (0..10).map(|n| (10, n)).collect::<Vec<_>>()
        );
        assert_eq!(Chunk::take(None, keys(&[15]), 10).cut(10).len(), 1);
    }

    #[test]
    fn halves_have_all_of_it_and_nothing_twice() {
        let chunk = Chunk { after: Some("x".to_owned()), keys: keys(&[1, 2, 3]), parts: 1, part: 0 };
        let [first, second] = chunk.halves().unwrap();
        assert_eq!((first.as_part().after, first.as_part().upto), (Some("x"), "0"));
        assert_eq!((second.as_part().after, second.as_part().upto), (Some("0"), "2"));
        let of_hash = |chunk: &Chunk, hash: i32| hash % chunk.parts == chunk.part;
        let whole = Chunk { parts: 3, part: 2, ..Chunk::take(None, keys(&[9]), 1) };
        let halves = whole.halves().unwrap();
        for hash in 0..100 {
            let within = halves.iter().filter(|half| of_hash(half, hash)).count();
            assert_eq!(within, usize::from(of_hash(&whole, hash)), "{hash}");
        }
    }
}
