//! What a session asks before it sends anything, and tells when that has failed.

use std::sync::Arc;

use crate::{RedisError, cluster::NodeId};

/// Circuit breakers before a session: one for each node of a cluster.
pub trait Breaker: Send + Sync {
    /// Returns whether exchanges with a node may be tried.
    fn is_closed(&self, node: NodeId) -> bool;

    /// Notes that an exchange with a node has failed.
    fn failed(self: Arc<Self>, node: NodeId, error: &RedisError);
}
