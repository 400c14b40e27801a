//! What is in the way of views on their way to PostgreSQL, as `/readyz` tells it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::registry::Registry;
use views_core::log_names;
use views_service::{checks::Check, metrics::gauges};

use crate::{entry_id::EntryId, metrics::PREFIX};

/// How long a post may wait for a lock before that is told. Applications lock their rows all the time, for a moment.
const DEFERRED_PATIENCE: Duration = Duration::from_secs(3);

/// What is in the way.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

/// How the last step of the drain ended that could tell.
#[derive(Debug, Default)]
enum Drain {
    /// There was none yet.
    #[default]
    Unseen,
    /// It got on, or had nothing to do.
    Well,
    /// This is in the way.
    Fails(String),
    /// What was in the way is so no more, but everything waits for locks: nothing has shown that it is well again.
    OnlyDeferred,
}

/// Posts whose views wait in the outbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeferredSummary {
    pub(crate) posts: usize,
    /// Since when the first of them waits.
    pub(crate) since: Instant,
    /// What it waits for.
    pub(crate) waits_for: &'static str,
}

#[derive(Debug, Default)]
struct State {
    drain: Drain,
    /// Of the last cycle.
    cycle: Option<String>,
    deferred: Option<DeferredSummary>,
    /// Whether the log has that they wait.
    is_told: bool,
    /// The oldest entry of the outbox.
    oldest: Option<EntryId>,
}

impl Health {
    /// Returns what is in the way, if anything is, and how old the oldest entry of the outbox is.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        let state = self.state();
        let obstacle = match &state.drain {
            Drain::Unseen => return Some("starting: nothing has been drained yet".to_owned()),
            Drain::Well => None,
            Drain::Fails(obstacle) => Some(obstacle.clone()),
            Drain::OnlyDeferred => {
                Some(state.deferred(Duration::ZERO).unwrap_or_else(|| "nothing has been stored yet".to_owned()))
            }
        };
        let obstacle = obstacle.or_else(|| state.cycle.clone()).or_else(|| state.deferred(DEFERRED_PATIENCE))?;
        Some(state.with_age(obstacle))
    }

    /// Returns how the drain is.
    pub(crate) fn check_drain(&self, is_standby: bool) -> Check {
        let state = self.state();
        let check = match &state.drain {
            Drain::Unseen => Check::new("starting"),
            Drain::Fails(obstacle) => Check::because("stuck", obstacle),
            Drain::OnlyDeferred => Check::because("waiting", state.deferred(Duration::ZERO).unwrap_or_default()),
            Drain::Well => match state.deferred(DEFERRED_PATIENCE) {
                Some(deferred) => Check::because("waiting", deferred),
                None => Check::new(if is_standby { "standby" } else { Check::UP }),
            },
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

    /// Adds what is known of the outbox.
    pub(crate) fn with_numbers(&self, check: Check) -> Check {
        self.state().with_numbers(check)
    }

    /// Registers the ages of what waits for longest, which grow also while nobody looks.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix(PREFIX);
        let health = self.clone();
        let help = "Age of the oldest entry in the outbox, as last seen; 0 where the outbox is empty";
        gauges::register(registry, "outbox_oldest_entry_age_seconds", help, move || health.oldest_age().as_secs_f64());
        let health = self.clone();
        let help = "Time that the first of the deferred posts has waited; 0 where there is none";
        gauges::register(registry, "held_posts_oldest_age_seconds", help, move || health.longest_deferral().as_secs_f64());
    }

    /// Returns an obstacle that somebody else has found, with the age of the oldest entry.
    pub(crate) fn with_age(&self, obstacle: &str) -> String {
        self.state().with_age(obstacle.to_owned())
    }

    /// Returns whether the drain got on when it was last seen.
    pub(crate) fn is_healthy(&self) -> bool {
        matches!(self.state().drain, Drain::Unseen | Drain::Well)
    }

    /// Notes how a step of the drain ended that could tell.
    pub(crate) fn note_drain(&self, obstacle: Option<String>) {
        let now = obstacle.map_or(Drain::Well, Drain::Fails);
        let is_well = matches!(now, Drain::Well);
        let before = std::mem::replace(&mut self.state().drain, now);
        if is_well && matches!(before, Drain::Fails(_) | Drain::OnlyDeferred) {
            tracing::info!("the outbox is drained again");
        }
    }

    /// Notes that everything in the outbox is deferred.
    pub(crate) fn note_only_deferred(&self) {
        let mut state = self.state();
        state.drain = match state.drain {
            Drain::Unseen | Drain::Well => Drain::Well,
            Drain::Fails(_) | Drain::OnlyDeferred => Drain::OnlyDeferred,
        };
    }

    /// Notes how a cycle ended.
    pub(crate) fn note_cycle(&self, obstacle: Option<String>) {
        self.state().cycle = obstacle;
    }

    /// Notes which posts wait, and logs when they begin to wait for longer than a moment, and when none does any more.
    pub(crate) fn note_deferred(&self, deferred: Option<DeferredSummary>) {
        let mut state = self.state();
        state.deferred = deferred;
        match deferred {
            Some(DeferredSummary { posts, since, waits_for }) if !state.is_told && since.elapsed() >= DEFERRED_PATIENCE => {
                state.is_told = true;
                tracing::warn!(name: log_names::STATE, posts, "views wait for {waits_for}");
            }
            None if std::mem::take(&mut state.is_told) => tracing::info!("no views wait for others any more"),
            _ => {}
        }
    }

    /// Notes the oldest entry.
    pub(crate) fn note_oldest(&self, oldest: Option<EntryId>) {
        self.state().oldest = oldest;
    }

    /// Returns the age of the oldest entry; zero where there is none.
    fn oldest_age(&self) -> Duration {
        self.state().oldest.map_or(Duration::ZERO, EntryId::age)
    }

    /// Returns how long the first of the deferred posts has waited; zero where there is none.
    fn longest_deferral(&self) -> Duration {
        self.state().deferred.map_or(Duration::ZERO, |deferred| deferred.since.elapsed())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn with_age(&self, obstacle: String) -> String {
        match self.oldest.map(EntryId::age) {
            Some(age) => format!("{obstacle}; the oldest entry of the outbox is {} s old", age.as_secs()),
            None => obstacle,
        }
    }

    fn with_numbers(&self, check: Check) -> Check {
        let age = self.oldest.map_or(0, |oldest| oldest.age().as_secs());
        let posts = self.deferred.map_or(0, |deferred| deferred.posts);
        check.with("oldestEntryAgeSeconds", age).with("waitingPosts", posts)
    }

    /// Returns what posts wait for, where the first of them has done so for longer than `patience`.
    fn deferred(&self, patience: Duration) -> Option<String> {
        let DeferredSummary { posts, since, waits_for } =
            self.deferred.filter(|deferred| deferred.since.elapsed() >= patience)?;
        Some(format!("views of {posts} posts wait, the first for {} s, for {waits_for}", since.elapsed().as_secs()))
    }
}
