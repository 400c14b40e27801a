//! How the partitions are shared out: each member decides for itself, by what it sees of the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use views_core::partition::Partition;

/// What nobody has taken for this long is taken beyond one's share: whose turn it is cannot, or is not there.
const LEFT_OVER: Duration = Duration::from_secs(2);
/// Whoever has given a partition up takes it again when the others have not for so many times as long.
const AVOIDED_FACTOR: u32 = 2;
/// How long who has given a partition up leaves it to others.
const AVOIDED: Duration = Duration::from_secs(30);
/// How long what was taken beyond one's share does not count as a part of it: otherwise a sound partition would be given
/// back in its stead.
const BORROWED: Duration = Duration::from_secs(60);

/// What a member remembers of the partitions.
#[derive(Debug)]
pub(super) struct Division {
    /// All partitions in the order in which this process prefers them. Each process has an order of its own, so that they
    /// seldom want the same one, and which one a process prefers does not change when others come and go.
    order: Vec<Partition>,
    free_since: BTreeMap<Partition, Instant>,
    avoided: BTreeMap<Partition, Instant>,
    borrowed: BTreeMap<Partition, Instant>,
}

/// Returns how many of the partitions are this process's, beside as many other members. One that can drain nothing
/// leaves all of them to those who can, where there are any.
pub(super) fn share(partitions: usize, others: usize, is_able: bool) -> usize {
    if is_able || others == 0 { partitions.div_ceil(others + 1) } else { 0 }
}

impl Division {
    pub(super) fn new(partitions: impl Iterator<Item = Partition>) -> Self {
        let mut order: Vec<Partition> = partitions.collect();
        // As random as its keys, which are new ones in each process.
        let hasher = RandomState::new();
        order.sort_by_cached_key(|partition| hasher.hash_one(partition));
        Self { order, free_since: BTreeMap::new(), avoided: BTreeMap::new(), borrowed: BTreeMap::new() }
    }

    /// Returns the number of partitions.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Notes which partitions nobody holds.
    pub(super) fn note_free(&mut self, is_free: impl Fn(Partition) -> bool) {
        let now = Instant::now();
        for partition in &self.order {
            if is_free(*partition) {
                self.free_since.entry(*partition).or_insert(now);
            } else {
                self.free_since.remove(partition);
            }
        }
        self.avoided.retain(|_, since| since.elapsed() < AVOIDED);
        self.borrowed.retain(|_, since| since.elapsed() < BORROWED);
    }

    /// Notes that a partition is left to others, who may manage it.
    pub(super) fn avoid(&mut self, partition: Partition) {
        self.avoided.insert(partition, Instant::now());
        self.borrowed.remove(&partition);
    }

    /// Returns those of the partitions that are more than this process's share.
    pub(super) fn too_many(&self, held: &BTreeSet<Partition>, share: usize) -> Vec<Partition> {
        let counts =
            |partition: &&Partition| held.contains(*partition) && (share == 0 || !self.borrowed.contains_key(*partition));
        self.order.iter().filter(counts).skip(share).copied().collect()
    }

    /// Returns the free partitions that this process takes up to its share.
    pub(super) fn wanted(&self, held: &BTreeSet<Partition>, share: usize, has_others: bool) -> Vec<Partition> {
        let counted = held.iter().filter(|partition| !self.borrowed.contains_key(*partition)).count();
        let is_wanted = |partition: &&Partition| {
            self.free_since.contains_key(*partition) && !(has_others && self.avoided.contains_key(*partition))
        };
        self.order.iter().filter(is_wanted).take(share.saturating_sub(counted)).copied().collect()
    }

    /// Returns the partitions that nobody has taken, and notes that this process does now.
    pub(super) fn left_over(&mut self, taken: &[Partition]) -> Vec<Partition> {
        let is_left = |partition: &&Partition| {
            let patience = if self.avoided.contains_key(*partition) { LEFT_OVER * AVOIDED_FACTOR } else { LEFT_OVER };
            let is_free = self.free_since.get(*partition).is_some_and(|since| since.elapsed() >= patience);
            is_free && !taken.contains(*partition)
        };
        let left: Vec<Partition> = self.order.iter().filter(is_left).copied().collect();
        self.borrowed.extend(left.iter().map(|partition| (*partition, Instant::now())));
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn division() -> Division {
        Division::new(Partition::of_cluster())
    }

    #[test]
    fn shares_cover_everything() {
        for members in 1..=70 {
            assert!(share(65, members - 1, true) * members >= 65);
        }
        assert_eq!((share(1, 0, true), share(1, 3, true)), (1, 1));
        assert_eq!((share(65, 0, false), share(65, 1, false)), (65, 0));
    }

    #[test]
    fn what_is_wanted_and_what_is_too_much_are_two_ends_of_one_order() {
        let mut division = division();
        division.note_free(|_| true);
        let none = BTreeSet::new();
        let first = division.wanted(&none, 20, true);
        let held: BTreeSet<Partition> = division.order.iter().copied().collect();
        assert_eq!(first, division.order[..20]);
        assert_eq!(division.too_many(&held, 20), division.order[20..]);
        assert!(division.too_many(&first.iter().copied().collect(), 20).is_empty());
        assert!(division.left_over(&[]).is_empty());
    }

    #[test]
    fn what_was_given_up_is_left_to_others_and_what_is_left_over_does_not_count() {
        let mut division = division();
        let given_up = division.order[0];
        division.note_free(|partition| partition == given_up);
        division.avoid(given_up);
        let none = BTreeSet::new();
        assert!(division.wanted(&none, 65, true).is_empty());
        assert_eq!(division.wanted(&none, 65, false), [given_up]);
        *division.free_since.get_mut(&given_up).unwrap() -= LEFT_OVER;
        assert!(division.left_over(&[]).is_empty());
        *division.free_since.get_mut(&given_up).unwrap() -= LEFT_OVER;
        assert!(division.left_over(&[given_up]).is_empty());
        assert_eq!(division.left_over(&[]), [given_up]);
        let held: BTreeSet<Partition> = division.order[..3].iter().copied().collect();
        assert!(division.too_many(&held, 2).is_empty());
        assert_eq!(division.too_many(&held, 0).len(), 3);
    }
}
