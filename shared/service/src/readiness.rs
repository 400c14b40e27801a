//! Whether this process should get work: the answer of `/readyz`.

use std::sync::atomic::{AtomicBool, Ordering};

/// What keeps the process from being ready, as a short sentence for the answer.
type Obstacle = String;

/// Not ready while starting and while draining; in between, as its probe says.
pub struct Readiness {
    started: AtomicBool,
    draining: AtomicBool,
    probe: Box<dyn Fn() -> Option<Obstacle> + Send + Sync>,
    role: Option<Box<dyn Fn() -> &'static str + Send + Sync>>,
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
        Self { started: AtomicBool::new(false), draining: AtomicBool::new(false), probe: Box::new(probe), role: None }
    }

    /// Has the answer tell the process's role among its like.
    #[must_use]
    pub fn with_role(self, role: impl Fn() -> &'static str + Send + Sync + 'static) -> Self {
        Self { role: Some(Box::new(role)), ..self }
    }

    /// Returns the process's role among its like, where it has one.
    #[must_use]
    pub fn role(&self) -> Option<&'static str> {
        self.role.as_ref().map(|role| role())
    }

    /// The process has started.
    pub fn started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// The process is about to stop; there is no way back.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// What keeps the process from being ready; `None` when it is.
    #[must_use]
    pub fn obstacle(&self) -> Option<Obstacle> {
        if self.draining.load(Ordering::Acquire) {
            Some("shutting down".to_owned())
        } else if !self.started.load(Ordering::Acquire) {
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
