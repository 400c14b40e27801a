//! Slots of a cluster that are half moved, as they stay where the mover has ended halfway: looked for every few seconds,
//! and told when they stay so. A resharding opens each slot for a moment, which is well.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::registry::Registry;
use views_core::{log_names, partition::slot, ticks};
use views_redis::{HalfMovedSlot, NodeId, Redis};
use views_service::{checks::Check, metrics::gauges};

use crate::metrics::PREFIX;

/// How often the primaries are asked.
const INTERVAL: Duration = Duration::from_secs(3);
/// How long a slot may be half moved before that is told.
const PATIENCE: Duration = Duration::from_secs(30);

/// The slots that are half moved. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct HalfMoved(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    slots: Vec<(HalfMovedSlot, Instant)>,
    /// Whether the log has that some stay so.
    is_told: bool,
}

impl HalfMoved {
    /// Looks again and again, where there is a cluster.
    pub(crate) fn follow(&self, redis: &Redis) {
        if !redis.is_clustered() {
            return;
        }
        let (half_moved, redis) = (self.clone(), redis.clone());
        tokio::spawn(async move {
            let mut tick = ticks::every(INTERVAL);
            loop {
                tick.tick().await;
                half_moved.note(redis.half_moved_slots().await, Instant::now());
            }
        });
    }

    /// Registers the number of those that stay so.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let half_moved = self.clone();
        let help =
            "Slots of a Redis Cluster that have been half moved for more than 30 seconds: redis-cli --cluster fix ends that";
        let registry = registry.sub_registry_with_prefix(PREFIX);
        gauges::register(registry, "half_moved_slots", help, move || half_moved.lasting(Instant::now()).len() as f64);
    }

    /// Returns the node that has, or may have, entries of an outbox of which the owner of its slot does not know: that one has
    /// taken the place of a node that was moving the slot.
    pub(crate) fn hidden_at(&self, outbox: &str) -> Option<NodeId> {
        let slot = slot(outbox.as_bytes());
        let state = self.state();
        let half_moved = state.slots.iter().map(|(half_moved, _)| half_moved).find(|half_moved| half_moved.slot == slot)?;
        half_moved.importing.filter(|_| !half_moved.is_sent_on)
    }

    /// Returns what is in the way of views where slots stay half moved.
    pub(crate) fn obstacle(&self) -> Option<String> {
        obstacle(&self.lasting(Instant::now()))
    }

    /// Returns how the slots are.
    pub(crate) fn check(&self) -> Check {
        let number = self.state().slots.len();
        let check = self.obstacle().map_or_else(|| Check::new(Check::UP), |obstacle| Check::because("half moved", obstacle));
        check.with("halfMovedSlots", number)
    }

    /// Returns those that have been so for long.
    fn lasting(&self, now: Instant) -> Vec<(HalfMovedSlot, Duration)> {
        let state = self.state();
        let lasting = state.slots.iter().map(|(slot, since)| (slot.clone(), now.saturating_duration_since(*since)));
        lasting.filter(|(_, time)| *time >= PATIENCE).collect()
    }

    /// Notes which are half moved now.
    fn note(&self, found: Vec<HalfMovedSlot>, now: Instant) {
        let mut state = self.state();
        let before: HashMap<(u16, String), Instant> =
            state.slots.drain(..).map(|(slot, since)| ((slot.slot, slot.to), since)).collect();
        let since = |slot: &HalfMovedSlot| before.get(&(slot.slot, slot.to.clone())).copied().unwrap_or(now);
        state.slots = found.into_iter().map(|slot| (slot.clone(), since(&slot))).collect();
        drop(state);
        let obstacle = obstacle(&self.lasting(now));
        let was_told = std::mem::replace(&mut self.state().is_told, obstacle.is_some());
        match obstacle {
            Some(obstacle) if !was_told => tracing::warn!(name: log_names::STATE, "{obstacle}"),
            None if was_told => tracing::info!("no slot is half moved any more"),
            _ => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn obstacle(lasting: &[(HalfMovedSlot, Duration)]) -> Option<String> {
    let longest = lasting.iter().max_by_key(|(_, time)| *time)?;
    let slots: Vec<HalfMovedSlot> = lasting.iter().map(|(slot, _)| slot.clone()).collect();
    Some(format!("{}, for {} s by now", in_words(&slots)?, longest.1.as_secs()))
}

/// Returns which slots are half moved, and what to do about it; nothing where there is none.
pub(crate) fn in_words(slots: &[HalfMovedSlot]) -> Option<String> {
    let HalfMovedSlot { slot, from, to, .. } = slots.first()?;
    let which = match slots.len() {
        1 => format!("slot {slot} of the cluster is half moved from {from} to {to}"),
        number => format!("{number} slots of the cluster are half moved, slot {slot} from {from} to {to} among them"),
    };
    Some(format!("{which}: unless a resharding is under way, end it with `redis-cli --cluster fix {from}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half_moved(slot: u16) -> HalfMovedSlot {
        HalfMovedSlot { slot, from: "a:1".to_owned(), to: "b:2".to_owned(), importing: None, is_sent_on: true }
    }

    #[test]
    fn only_a_slot_that_stays_half_moved_is_told() {
        let (half_moved, start) = (HalfMoved::default(), Instant::now());
        let told = |seconds| obstacle(&half_moved.lasting(start + Duration::from_secs(seconds)));
        half_moved.note(vec![self::half_moved(7), self::half_moved(8)], start);
        half_moved.note(vec![self::half_moved(8), self::half_moved(9)], start + Duration::from_secs(3));
        assert_eq!((told(29), half_moved.state().slots.len()), (None, 2));
        let text = told(31).unwrap();
        assert!(text.contains("slot 8 ") && text.contains("from a:1 to b:2") && text.contains("--cluster fix a:1"), "{text}");
        assert!(text.ends_with("for 31 s by now"), "{text}");
        assert!(told(40).unwrap().starts_with("2 slots"));
        half_moved.note(Vec::new(), start + Duration::from_secs(41));
        assert_eq!(told(100), None);
    }
}
