//! What is in the way of views on their way to PostgreSQL, as `/readyz` tells it.

mod outbox;
mod scraped;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::registry::Registry;
use views_core::{keys::Keys, partition::Partition};
use views_service::{checks::Check, metrics::gauges};

pub(crate) use self::outbox::DeferredSummary;
use self::{
    outbox::{OutboxHealth, Seen},
    scraped::PerPartition,
};
use crate::{entry_id::EntryId, metrics::PREFIX};

/// What is in the way.
#[derive(Debug, Clone)]
pub struct Health {
    /// Whether there are several outboxes, whose names operators are told.
    has_many: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The outboxes that this process drains or, where it drains none, has looked at.
    outboxes: BTreeMap<Partition, OutboxHealth>,
    /// Of the last cycle.
    cycle: Option<String>,
}

impl Health {
    /// Returns the health of a process that has done nothing yet.
    pub(crate) fn new(keys: &Keys) -> Self {
        Self { has_many: keys.are_in_cluster(), state: Arc::default() }
    }

    /// Returns what is in the way, if anything is, and how old the oldest entry of all outboxes is.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        let state = self.state();
        if !state.outboxes.values().any(|outbox| !matches!(outbox.seen(), Seen::Unseen)) {
            return Some("starting: nothing has been drained yet".to_owned());
        }
        let fails = self.first(&state, |seen| if let Seen::Fails(obstacle) = seen { Some(obstacle) } else { None });
        let waits = self.first(&state, |seen| match seen {
            Seen::Waiting(waiting) => Some(waiting.unwrap_or_else(|| "nothing has been stored yet".to_owned())),
            _ => None,
        });
        let cycle = state.cycle.clone();
        let are_healthy = state.outboxes.values().all(OutboxHealth::is_healthy);
        let obstacle = fails.or_else(|| if are_healthy { cycle.or(waits) } else { waits.or(cycle) })?;
        Some(state.with_age(obstacle))
    }

    /// Returns how the drains are.
    pub(crate) fn check_drain(&self, is_standby: bool) -> Check {
        let state = self.state();
        let fails = self.first(&state, |seen| if let Seen::Fails(obstacle) = seen { Some(obstacle) } else { None });
        let waits =
            self.first(&state, |seen| if let Seen::Waiting(waiting) = seen { Some(waiting.unwrap_or_default()) } else { None });
        let check = match (fails, waits) {
            (Some(obstacle), _) => Check::because("stuck", obstacle),
            (None, Some(waiting)) => Check::because("waiting", waiting),
            (None, None) if state.outboxes.values().all(|outbox| matches!(outbox.seen(), Seen::Unseen)) => Check::new("starting"),
            (None, None) => Check::new(if is_standby { "standby" } else { Check::UP }),
        };
        state.with_numbers(check)
    }

    /// Returns how the last cycle ended.
    pub(crate) fn check_cycle(&self) -> Check {
        match &self.state().cycle {
            Some(obstacle) => Check::because("failed", obstacle),
            None => Check::new(Check::UP),
        }
    }

    /// Adds what is known of the outboxes.
    pub(crate) fn with_numbers(&self, check: Check) -> Check {
        self.state().with_numbers(check)
    }

    /// Registers what is known of the outboxes, with ages that grow also while nobody looks.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix(PREFIX);
        let health = self.clone();
        let help = "Entries in the outbox, as last seen";
        gauges::register(registry, "outbox_entries", help, move || health.state().sum(|outbox| outbox.entries));
        let health = self.clone();
        let help = "Age of the oldest entry in the outbox, as last seen; 0 where the outbox is empty";
        gauges::register(registry, "outbox_oldest_entry_age_seconds", help, move || health.state().oldest_age().as_secs_f64());
        let health = self.clone();
        let help = "Deferred posts, left for later: their pairs wait in the outbox for locks that others hold in PostgreSQL";
        gauges::register(registry, "held_posts", help, move || health.state().sum(deferred_posts));
        let health = self.clone();
        let help = "Time that the first of the deferred posts has waited; 0 where there is none";
        let longest = move || health.state().longest_deferral().as_secs_f64();
        gauges::register(registry, "held_posts_oldest_age_seconds", help, longest);
        if self.has_many {
            let help = "Entries in the outbox of each partition that this daemon drains, as last seen";
            PerPartition::register(registry, "partition_outbox_entries", help, self, |outbox| outbox.entries as f64);
            let help = "Age of the oldest entry in the outbox of each partition that this daemon drains, as last seen";
            let age = |outbox: &OutboxHealth| outbox.oldest.map_or(0.0, |oldest| oldest.age().as_secs_f64());
            PerPartition::register(registry, "partition_oldest_entry_age_seconds", help, self, age);
            let help = "Deferred posts of each partition that this daemon drains";
            PerPartition::register(registry, "partition_held_posts", help, self, |outbox| deferred_posts(outbox) as f64);
        }
    }

    /// Returns an obstacle that somebody else has found, with the age of the oldest entry.
    pub(crate) fn with_age(&self, obstacle: &str) -> String {
        self.state().with_age(obstacle.to_owned())
    }

    /// Returns whether the drain of a partition got on when it was last seen.
    pub(crate) fn is_healthy(&self, partition: Partition) -> bool {
        self.state().outboxes.get(&partition).is_none_or(OutboxHealth::is_healthy)
    }

    /// Returns whether all drains got on when they were last seen.
    pub(crate) fn are_all_healthy(&self) -> bool {
        self.state().outboxes.values().all(OutboxHealth::is_healthy)
    }

    /// Notes how a step of a partition's drain ended that could tell.
    pub(crate) fn note_drain(&self, partition: Partition, obstacle: Option<String>) {
        if self.state().outbox(partition).note_drain(obstacle) {
            tracing::info!(partition = self.named(partition).map(Partition::name), "the outbox is drained again");
        }
    }

    /// Notes that everything in an outbox is deferred.
    pub(crate) fn note_only_deferred(&self, partition: Partition) {
        self.state().outbox(partition).note_only_deferred();
    }

    /// Notes how a cycle ended.
    pub(crate) fn note_cycle(&self, obstacle: Option<String>) {
        self.state().cycle = obstacle;
    }

    /// Notes which posts of an outbox wait.
    pub(crate) fn note_deferred(&self, partition: Partition, deferred: Option<DeferredSummary>) {
        self.state().outbox(partition).note_deferred(self.named(partition), deferred);
    }

    /// Notes how many entries an outbox has, and the oldest of them.
    pub(crate) fn note_outbox(&self, partition: Partition, entries: i64, oldest: Option<EntryId>) {
        let mut state = self.state();
        let outbox = state.outbox(partition);
        (outbox.entries, outbox.oldest) = (entries, oldest);
    }

    /// Notes that entries are deleted, of which there may be more by now than there were when the outbox was last seen.
    pub(crate) fn note_deleted(&self, partition: Partition, entries: i64) {
        let mut state = self.state();
        let outbox = state.outbox(partition);
        outbox.entries = outbox.entries.saturating_sub(entries).max(0);
    }

    /// Forgets all outboxes but these: others see to them.
    pub(crate) fn keep_only(&self, partitions: impl Fn(Partition) -> bool) {
        // The last one is kept, so that a standby is not one that has seen nothing.
        let mut state = self.state();
        if state.outboxes.keys().any(|partition| partitions(*partition)) {
            state.outboxes.retain(|partition, _| partitions(*partition));
        }
    }

    /// Returns a partition where it is one of many.
    fn named(&self, partition: Partition) -> Option<Partition> {
        self.has_many.then_some(partition)
    }

    /// Returns what is found of the first outbox of which anything is, with the partition where that is one of many.
    fn first(&self, state: &State, find: impl Fn(Seen) -> Option<String>) -> Option<String> {
        let mut found = state.outboxes.iter().filter_map(|(partition, outbox)| Some((*partition, find(outbox.seen())?)));
        let (partition, text) = found.next()?;
        if !self.has_many {
            return Some(text);
        }
        Some(match found.count() {
            0 => format!("partition {}: {text}", partition.name()),
            others => format!("partition {} and {others} others: {text}", partition.name()),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn outbox(&mut self, partition: Partition) -> &mut OutboxHealth {
        self.outboxes.entry(partition).or_default()
    }

    fn sum(&self, number: impl Fn(&OutboxHealth) -> i64) -> i64 {
        self.outboxes.values().map(number).sum()
    }

    /// Returns the oldest entry of all outboxes.
    fn oldest(&self) -> Option<EntryId> {
        self.outboxes.values().filter_map(|outbox| outbox.oldest).min()
    }

    /// Returns its age; zero where there is none.
    fn oldest_age(&self) -> Duration {
        self.oldest().map_or(Duration::ZERO, EntryId::age)
    }

    /// Returns how long the first of the deferred posts has waited; zero where there is none.
    fn longest_deferral(&self) -> Duration {
        let deferred = self.outboxes.values().filter_map(|outbox| outbox.deferred);
        deferred.map(|deferred| deferred.since.elapsed()).max().unwrap_or_default()
    }

    fn with_age(&self, obstacle: String) -> String {
        match self.oldest().map(EntryId::age) {
            Some(age) => format!("{obstacle}; the oldest entry of the outbox is {} s old", age.as_secs()),
            None => obstacle,
        }
    }

    fn with_numbers(&self, check: Check) -> Check {
        check.with("oldestEntryAgeSeconds", self.oldest_age().as_secs()).with("waitingPosts", self.sum(deferred_posts))
    }
}

fn deferred_posts(outbox: &OutboxHealth) -> i64 {
    outbox.deferred.map_or(0, |deferred| i64::try_from(deferred.posts).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_cluster() -> [Partition; 3] {
        let mut all = Partition::of_cluster();
        [(); 3].map(|()| all.next().unwrap())
    }

    #[test]
    fn the_only_outbox_has_no_name() {
        let health = Health::new(&Keys::default());
        assert_eq!(health.obstacle().as_deref(), Some("starting: nothing has been drained yet"));
        health.note_drain(Partition::WHOLE, Some("Redis is away".to_owned()));
        assert_eq!(health.obstacle().as_deref(), Some("Redis is away"));
        assert!(!health.is_healthy(Partition::WHOLE) && !health.are_all_healthy());
        health.note_only_deferred(Partition::WHOLE);
        assert_eq!(health.obstacle().as_deref(), Some("nothing has been stored yet"));
        health.note_drain(Partition::WHOLE, None);
        assert_eq!(health.obstacle(), None);
    }

    #[test]
    fn of_many_outboxes_that_is_named_which_is_not_drained_and_one_that_is_hides_none() {
        let health = Health::new(&Keys::default().in_cluster());
        let [first, second, third] = of_cluster();
        health.note_drain(first, None);
        assert_eq!(health.obstacle(), None, "one is drained; the others have their turn");
        health.note_drain(second, Some("Redis is away".to_owned()));
        health.note_drain(third, None);
        assert_eq!(health.obstacle().as_deref(), Some("partition 1: Redis is away"));
        assert!(health.is_healthy(first) && !health.is_healthy(second) && !health.are_all_healthy());
        health.note_drain(third, Some("Redis is away".to_owned()));
        assert_eq!(health.obstacle().as_deref(), Some("partition 1 and 1 others: Redis is away"));
        // What others drain is theirs to tell.
        health.keep_only(|partition| partition == first);
        assert_eq!(health.obstacle(), None);
    }

    #[test]
    fn the_age_is_that_of_the_oldest_entry_of_all_and_numbers_are_sums() {
        let health = Health::new(&Keys::default().in_cluster());
        let [first, second, _] = of_cluster();
        let ago = |seconds: u64| EntryId { ms: u64::try_from(crate::entry_id::now_ms()).unwrap() - seconds * 1000, sequence: 0 };
        health.note_outbox(first, 5, Some(ago(10)));
        health.note_outbox(second, 7, Some(ago(70)));
        assert_eq!(health.state().oldest_age().as_secs(), 70);
        assert_eq!(health.state().sum(|outbox| outbox.entries), 12);
        health.note_deleted(second, 9);
        assert_eq!(health.state().sum(|outbox| outbox.entries), 5);
    }
}
