//! Whether this process should get work: the answer of `/readyz`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use views_core::ticks;

use crate::checks::{Check, Checks};

/// How often it is looked at what the process depends on.
const INTERVAL: Duration = Duration::from_secs(1);

/// What keeps the process from being ready, as a short sentence for the answer.
type Obstacle = String;

/// What the process does.
#[derive(Debug, Default)]
struct Phase {
    started: AtomicBool,
    draining: AtomicBool,
}

/// Not ready while starting and while draining; in between, as its probe says.
pub struct Readiness {
    phase: Arc<Phase>,
    probe: Box<dyn Fn() -> Option<Obstacle> + Send + Sync>,
    role: Option<Box<dyn Fn() -> &'static str + Send + Sync>>,
    checks: Checks,
}

impl Phase {
    fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn as_str(&self) -> &'static str {
        match (self.is_draining(), self.has_started()) {
            (true, _) => "stopping",
            (false, true) => "running",
            (false, false) => "starting",
        }
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").field("obstacle", &self.obstacle()).finish()
    }
}

impl Readiness {
    /// Starts as not ready. `probe` tells what is in the way, if anything is; it is asked with every request and must
    /// be quick.
    pub fn new(probe: impl Fn() -> Option<Obstacle> + Send + Sync + 'static) -> Self {
        Self { phase: Arc::default(), probe: Box::new(probe), role: None, checks: Checks::default() }
    }

    /// Has the answer tell the process's role among its like.
    #[must_use]
    pub fn with_role(self, role: impl Fn() -> &'static str + Send + Sync + 'static) -> Self {
        Self { role: Some(Box::new(role)), ..self }
    }

    /// Has the verbose answer tell how everything is that the process depends on.
    #[must_use]
    pub fn with_checks(self, checks: Checks) -> Self {
        let phase = Arc::clone(&self.phase);
        Self { checks: checks.with("process", move || Check::new(phase.as_str())), ..self }
    }

    /// Returns how everything is that the process depends on.
    pub(crate) fn checks(&self) -> &Checks {
        &self.checks
    }

    /// Looks at everything now and then, for ever, so that it is known since when it is as it is.
    pub async fn watch(self: Arc<Self>) {
        let mut interval = ticks::every(INTERVAL);
        loop {
            interval.tick().await;
            self.checks.look();
        }
    }

    /// Returns the process's role among its like, where it has one.
    #[must_use]
    pub fn role(&self) -> Option<&'static str> {
        self.role.as_ref().map(|role| role())
    }

    /// The process has started.
    pub fn started(&self) {
        self.phase.started.store(true, Ordering::Release);
    }

    /// The process is about to stop; there is no way back.
    pub fn draining(&self) {
        self.phase.draining.store(true, Ordering::Release);
    }

    /// What keeps the process from being ready; `None` when it is.
    #[must_use]
    pub fn obstacle(&self) -> Option<Obstacle> {
        if self.phase.is_draining() {
            Some("shutting down".to_owned())
        } else if !self.phase.has_started() {
            Some("starting".to_owned())
        } else {
            (self.probe)()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_only_between_start_and_drain_and_while_nothing_is_in_the_way() {
        let readiness = Readiness::new(|| None);
        assert_eq!(readiness.obstacle().as_deref(), Some("starting"));
        readiness.started();
        assert_eq!(readiness.obstacle(), None);
        readiness.draining();
        assert_eq!(readiness.obstacle().as_deref(), Some("shutting down"));

        let blocked = Readiness::new(|| Some("Redis is away".to_owned()));
        blocked.started();
        assert_eq!(blocked.obstacle().as_deref(), Some("Redis is away"));
    }
}
