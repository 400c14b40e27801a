//! A recorder's pipelines to Redis, as long as the circuit breaker is closed.

use std::sync::Arc;

use views_redis::{
    Session,
    resp::{Commands, Replies},
};

use crate::record::{
    breaker::{CircuitBreaker, REDIS_TIMEOUT},
    context::Context,
};

/// The session, and the memory that one batch leaves to the next.
pub(super) struct Pipeline {
    session: Session,
    breaker: Arc<CircuitBreaker>,
    pub(super) commands: Commands,
    pub(super) replies: Replies,
}

impl Pipeline {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            session: Session::new(context.redis.clone(), REDIS_TIMEOUT, context.breaker.epoch()),
            breaker: Arc::clone(&context.breaker),
            commands: Commands::default(),
            replies: Replies::default(),
        }
    }

    /// Sends the commands. Returns whether the replies are there; otherwise the commands may have been carried out or not.
    pub(super) async fn exchange(&mut self, context: &Context) -> bool {
        if !self.breaker.is_closed() {
            return false;
        }
        match self.session.exchange(&self.commands, &mut self.replies).await {
            Ok(()) => true,
            Err(error) => {
                context.health.report("Redis does not take a batch", &error);
                self.breaker.reconnect();
                false
            }
        }
    }
}
