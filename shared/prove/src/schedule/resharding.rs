//! What an operator does to a cluster when, one thing after the other: a list that follows from the seed alone.

use std::{fmt, time::Duration};

use testkit::cluster::slot_of;
use views_core::{ids::PostId, keys::Keys};

use super::{CALM_END_MS, millis};
use crate::{random::Random, world::World};

/// The pause between two of them, in milliseconds.
const GAP_MS: (u64, u64) = (30, 250);
/// More keys than any slot has here.
const ALL: usize = 1_000;

/// Something that is done to the cluster. Nodes are named by their places in the list of those that come into question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A slot is moved to another primary.
    Move { slot: u16, to: usize },
    /// Whoever moves the slot dies after so many keys.
    HalfMove { slot: u16, to: usize, keys: usize },
    /// The replica of the primary of a slot takes its place, and both agree.
    FailOver { slot: u16 },
    /// All slots that are half moved are mended.
    Mend,
}

/// A step with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at: Duration,
    pub(crate) step: Step,
}

/// Returns the steps of a run in their order. Until `counts_until`, every slot that begins to move arrives.
pub(crate) fn steps(seed: u64, duration: Duration, counts_until: Duration, world: &World) -> Vec<Event> {
    let mut random = Random::stream(seed, 31);
    let keys = Keys::default().in_cluster();
    let outboxes: Vec<u16> = keys.partitions().map(|partition| slot_of(keys.outbox_of(partition))).collect();
    let single: Vec<u16> = [keys.outbox(), keys.dead(), keys.owner()].into_iter().map(slot_of).collect();
    let post = |post: &crate::world::Post| keys.slot(&PostId::parse(&post.id).expect("the id was made by us"));
    let posts: Vec<u16> = world.posts.iter().map(post).collect();
    let end_ms = millis(duration).saturating_sub(CALM_END_MS);
    let mut events = Vec::new();
    let mut now_ms = 0;
    loop {
        now_ms += random.between(GAP_MS.0, GAP_MS.1);
        if now_ms >= end_ms {
            return events;
        }
        let slots = match random.place(12) {
            0..4 => &outboxes,
            4 => &single,
            _ => &posts,
        };
        let (slot, to) = (slots[random.place(slots.len())], random.place(2));
        let keys = [0, 1, ALL][random.place(3)];
        let choice = random.place(80);
        let may_hide = now_ms >= millis(counts_until);
        let step = match choice {
            0..2 => Step::FailOver { slot },
            2..5 if may_hide => Step::Mend,
            5..10 if may_hide => Step::HalfMove { slot, to, keys },
            _ => Step::Move { slot, to },
        };
        if may_hide || !matches!(step, Step::FailOver { .. }) {
            events.push(Event { at: Duration::from_millis(now_ms), step });
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Move { slot, .. } => write!(f, "slot {slot} moves"),
            Self::HalfMove { slot, keys: ALL, .. } => write!(f, "slot {slot} moves; its mover dies after all keys"),
            Self::HalfMove { slot, keys, .. } => write!(f, "slot {slot} moves; its mover dies after {keys} keys"),
            Self::FailOver { slot } => write!(f, "the replica of the primary of slot {slot} takes its place"),
            Self::Mend => f.write_str("the cluster is mended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn of(seed: u64) -> Vec<Event> {
        steps(seed, MINUTE, MINUTE / 4, &World::new(seed, MINUTE))
    }

    #[test]
    fn the_same_seed_gives_the_same_steps_and_another_one_others() {
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn a_minute_has_two_hundred_moves_and_a_third_of_them_are_of_outboxes() {
        for seed in 1..20 {
            let slots: Vec<u16> = of(seed)
                .iter()
                .filter_map(|event| if let Step::Move { slot, .. } = event.step { Some(slot) } else { None })
                .collect();
            let outboxes = slots.iter().filter(|slot| *slot % 256 == 0).count();
            assert!(slots.len() >= 250, "{}", slots.len());
            assert!((slots.len() / 4..slots.len() / 2).contains(&outboxes), "{outboxes} of {}", slots.len());
        }
    }

    #[test]
    fn movers_die_and_primaries_are_replaced_only_when_counts_may_be_wrong() {
        let events = of(3);
        let is_move = |event: &Event| matches!(event.step, Step::Move { .. });
        assert!(events.iter().filter(|event| event.at < MINUTE / 4).all(is_move));
        let count = |is: fn(&Step) -> bool| events.iter().filter(|event| is(&event.step)).count();
        assert!(count(|step| matches!(step, Step::HalfMove { .. })) > 8);
        assert!(count(|step| matches!(step, Step::FailOver { .. })) > 2);
        assert!(count(|step| matches!(step, Step::Mend)) > 1);
    }
}
