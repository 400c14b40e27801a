//! Sessions that are lent to whoever sends something seldom. A node that hangs keeps none from the others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Semaphore;

use super::{ClusterSession, NodeId, route, topology::Topology};
use crate::{
    RedisError,
    resp::{Commands, Replies},
};

/// How many commands are under way to a node at most.
const AT_A_NODE: usize = 4;

/// Sessions that are lent.
pub(crate) struct Pool {
    topology: Arc<Topology>,
    idle: Mutex<Vec<ClusterSession>>,
    /// For each node, and for commands without a key, which any node may get.
    places: Mutex<BTreeMap<Option<NodeId>, Arc<Semaphore>>>,
    timeout: Duration,
}

impl Pool {
    pub(crate) fn new(topology: Arc<Topology>, timeout: Duration) -> Self {
        Self { topology, idle: Mutex::default(), places: Mutex::default(), timeout }
    }

    /// Sends commands, to the nodes that have their keys or to a certain one, and returns the replies.
    ///
    /// # Errors
    /// [`RedisError`].
    pub(crate) async fn send(&self, node: Option<NodeId>, commands: &Commands) -> Result<Replies, RedisError> {
        let places = self.places(node.or_else(|| self.owner(commands)));
        // The semaphore is never closed.
        let _place = places.acquire().await;
        let mut session = self.lend();
        let mut replies = Replies::default();
        let result = match node {
            Some(node) => session.exchange_at(node, false, commands, &mut replies, self.timeout).await,
            None => session.exchange(commands, &mut replies, self.timeout, None).await,
        };
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        result.map(|()| replies)
    }

    /// Returns the node that has the key of the first command, as far as is known.
    fn owner(&self, commands: &Commands) -> Option<NodeId> {
        let mut routed = Vec::new();
        route::read(commands.bytes(), &mut routed);
        self.topology.slots().owner(routed.first()?.slot?)
    }

    fn places(&self, node: Option<NodeId>) -> Arc<Semaphore> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(node).or_insert_with(|| Arc::new(Semaphore::new(AT_A_NODE))))
    }

    fn lend(&self) -> ClusterSession {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| ClusterSession::new(Arc::clone(&self.topology)))
    }
}
