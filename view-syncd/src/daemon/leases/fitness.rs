//! Whether this process can drain at all: one whose Redis is of no use leaves the partitions to those whose is.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use views_core::partition::Partition;

use crate::error::Failure;

/// A lease is given up after as many steps in a row that failed by Redis: with the pauses between them, after some
/// seconds.
const MOST_FAILURES: u32 = 5;

/// What is known of that.
#[derive(Debug, Default)]
pub(super) struct Fitness(Mutex<Known>);

#[derive(Debug)]
struct Known {
    /// Whether Redis was well when it was last seen by somebody who drains nothing, or drains again.
    looks_well: bool,
    /// How often in a row the steps of each partition have failed by Redis.
    failures: BTreeMap<Partition, u32>,
}

impl Default for Known {
    fn default() -> Self {
        Self { looks_well: true, failures: BTreeMap::new() }
    }
}

impl Fitness {
    /// Notes how a step ended.
    pub(super) fn note_step(&self, partition: Partition, failure: Option<&Failure>) {
        let mut known = self.known();
        match failure {
            None => {
                known.failures.remove(&partition);
                known.looks_well = true;
            }
            Some(Failure::Redis(_) | Failure::Foreign(_)) => *known.failures.entry(partition).or_default() += 1,
            // PostgreSQL is everybody's.
            Some(Failure::Database(_) | Failure::Stopped) => {}
        }
    }

    /// Notes whether Redis was well when it was looked at.
    pub(super) fn note_look(&self, is_well: bool) {
        self.known().looks_well = is_well;
    }

    /// Returns whether this process can drain, which holds these partitions. One that fails with all of them cannot,
    /// until something shows that it can again.
    pub(super) fn is_able(&self, held: impl Iterator<Item = Partition>) -> bool {
        let mut known = self.known();
        let mut held = held.peekable();
        if held.peek().is_some() && held.all(|partition| known.fails(partition)) {
            known.looks_well = false;
        }
        known.looks_well
    }

    /// Returns whether the steps of a partition have failed too often.
    pub(super) fn fails(&self, partition: Partition) -> bool {
        self.known().fails(partition)
    }

    /// Forgets a partition that is given back.
    pub(super) fn forget(&self, partition: Partition) {
        self.known().failures.remove(&partition);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn fails(&self, partition: Partition) -> bool {
        self.failures.get(&partition).is_some_and(|failures| *failures >= MOST_FAILURES)
    }
}

#[cfg(test)]
mod tests {
    use views_redis::RedisError;

    use super::*;

    #[test]
    fn who_fails_with_everything_is_unable_until_a_look_or_a_step_is_well() {
        let [first, second]: [Partition; 2] = [0, 256].map(Partition::of_slot);
        let (fitness, away) = (Fitness::default(), Failure::Redis(RedisError::Timeout));
        let fail = |partition| (0..MOST_FAILURES).for_each(|_| fitness.note_step(partition, Some(&away)));
        let is_able = || fitness.is_able([first, second].into_iter());
        fail(first);
        assert!(is_able() && fitness.fails(first) && !fitness.fails(second));
        fail(second);
        assert!(!is_able());
        fitness.forget(first);
        fitness.forget(second);
        assert!(!is_able() && !fitness.is_able(std::iter::empty()));
        fitness.note_look(true);
        assert!(is_able());
        fitness.note_look(false);
        fitness.note_step(second, None);
        assert!(is_able());
    }
}
