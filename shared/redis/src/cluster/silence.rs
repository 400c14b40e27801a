//! Nodes that have not answered in time: a circuit breaker for those sessions that have none of their own. They would wait
//! for such a node with each command, one after the other, and whatever comes behind these waits as long.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::slot_map::NodeId;
use crate::RedisError;

/// The nodes that have not answered in time, and do not answer yet.
#[derive(Default)]
pub(super) struct SilentNodes(Mutex<BTreeSet<NodeId>>);

impl SilentNodes {
    /// Returns whether a node is one of them.
    pub(super) fn has(&self, node: NodeId) -> bool {
        self.nodes().contains(&node)
    }

    /// Adds a node. Returns whether it is new.
    pub(super) fn add(&self, node: NodeId) -> bool {
        self.nodes().insert(node)
    }

    pub(super) fn remove(&self, node: NodeId) {
        self.nodes().remove(&node);
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether an error is that of a node that says nothing at all, which takes its time: one that refuses a connection
/// is away at once.
pub(super) fn is_silence(error: &RedisError) -> bool {
    match error {
        RedisError::Timeout => true,
        RedisError::Io(error) => {
            matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_node_that_refuses_is_not_silent_and_one_whose_machine_is_gone_is() {
        let io = |kind| is_silence(&RedisError::Io(io::Error::from(kind)));
        assert!(is_silence(&RedisError::Timeout) && io(ErrorKind::HostUnreachable) && io(ErrorKind::TimedOut));
        assert!(!io(ErrorKind::ConnectionRefused) && !io(ErrorKind::ConnectionReset) && !is_silence(&RedisError::NoReply));
    }
}
