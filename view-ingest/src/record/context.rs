//! What the stages of a recorder work with: the stores, and what the process knows of them.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use views_core::{
    ids::{PostId, ViewerId},
    keys::Keys,
};
use views_postgres::{Database, ledger};
use views_redis::{Redis, scripts::Depth};

use crate::{
    metrics::Metrics,
    record::{
        breaker::CircuitBreaker, health::Health, not_found::NotFoundPosts, request::ReplyBatch, unverified::UnverifiedPosts,
    },
};

/// What a recorder works with.
#[derive(Clone)]
pub(crate) struct Context {
    /// This recorder's own connection.
    pub(crate) redis: Redis,
    /// The names of all keys.
    pub(crate) keys: Keys,
    /// Whether Redis is the one to write to.
    pub(crate) breaker: Arc<CircuitBreaker>,
    /// The database, where there is one.
    pub(crate) database: Option<Arc<Database>>,
    /// Posts that were not found a moment ago, shared by all recorders, bounded in number and time.
    pub(crate) not_found: NotFoundPosts,
    /// How many posts may be accepted that nobody could look up, shared by all recorders.
    pub(crate) unverified: UnverifiedPosts,
    /// The share that reads have of the connections to PostgreSQL, for all recorders together.
    pub(crate) read_queries: Arc<Semaphore>,
    /// Which store takes the process's views.
    pub(crate) health: Arc<Health>,
    /// The process's numbers.
    pub(crate) metrics: Metrics,
    /// Which worker this is.
    pub(crate) worker_id: usize,
    /// The ways to all workers' requests.
    pub(crate) mailboxes: Vec<mpsc::UnboundedSender<ReplyBatch>>,
}

impl Context {
    /// Remembers that there is no such post. An id that does not fit the column's type costs no query, and may fit as
    /// soon as the type is another one, so it is not remembered.
    pub(super) fn remember_not_found(&self, post: PostId, depth: Depth) {
        let schema = self.database.as_ref().map(|database| database.last_known_schema());
        let schema = schema.as_ref().and_then(|schema| schema.as_ref());
        if schema.is_none_or(|schema| schema.accepts_post(&post)) {
            self.not_found.insert(post, depth);
        }
    }

    /// Returns whether the ledger can hold a viewer, as far as is known.
    pub(super) fn can_hold(&self, viewer: &ViewerId) -> bool {
        self.database.as_ref().is_none_or(|database| ledger::seems_to_fit(database, viewer))
    }
}
