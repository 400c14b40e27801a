//! Sessions that are lent to whoever sends something seldom.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Semaphore;

use super::{ClusterSession, NodeId, topology::Topology};
use crate::{
    RedisError,
    resp::{Commands, Replies},
};

/// How many sessions there are at most.
const SESSIONS: usize = 8;

/// Sessions that are lent.
pub(crate) struct Pool {
    topology: Arc<Topology>,
    idle: Mutex<Vec<ClusterSession>>,
    places: Semaphore,
    timeout: Duration,
}

impl Pool {
    pub(crate) fn new(topology: Arc<Topology>, timeout: Duration) -> Self {
        Self { topology, idle: Mutex::default(), places: Semaphore::new(SESSIONS), timeout }
    }

    /// Sends commands, to the nodes that have their keys or to a certain one, and returns the replies.
    ///
    /// # Errors
    /// [`RedisError`].
    pub(crate) async fn send(&self, node: Option<NodeId>, commands: &Commands) -> Result<Replies, RedisError> {
        // The semaphore is never closed.
        let _place = self.places.acquire().await;
        let mut session = self.lend();
        let mut replies = Replies::default();
        let result = match node {
            Some(node) => session.exchange_at(node, false, commands, &mut replies, self.timeout).await,
            None => session.exchange(commands, &mut replies, self.timeout, None).await,
        };
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        result.map(|()| replies)
    }

    fn lend(&self) -> ClusterSession {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| ClusterSession::new(Arc::clone(&self.topology)))
    }
}
