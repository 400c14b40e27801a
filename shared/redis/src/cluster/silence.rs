//! Nodes that have not answered in time: a circuit breaker for those sessions that have none of their own. They would wait
//! for such a node with each command, one after the other, and whatever comes behind these waits as long.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{refresh, slot_map::NodeId, topology::Topology};

/// How often a node is asked whether it answers again.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long one is asked that has no slots.
const LONGEST_WITHOUT_SLOTS: Duration = Duration::from_secs(60);

/// The nodes that have not answered in time, and do not answer yet.
#[derive(Default)]
pub(super) struct SilentNodes(Mutex<BTreeSet<NodeId>>);

impl SilentNodes {
    /// Returns whether a node is one of them.
    pub(super) fn has(&self, node: NodeId) -> bool {
        self.nodes().contains(&node)
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes that a node has not answered in time, and has it asked until it answers. One that has no slots any more, because
/// a replica has taken its place, say, may be gone for ever: connections to it hang for a while longer.
pub(super) fn note(topology: &Arc<Topology>, node: NodeId) {
    if !topology.silent.nodes().insert(node) {
        return;
    }
    let topology = Arc::downgrade(topology);
    let since = Instant::now();
    tokio::spawn(async move {
        loop {
            sleep(INTERVAL).await;
            // With the last session, the last one ends that waits.
            let Some(topology) = topology.upgrade() else { return };
            // Another node may have its slots by now.
            topology.refresh_soon();
            let is_gone = !topology.primaries().contains(&node) && since.elapsed() > LONGEST_WITHOUT_SLOTS;
            let server = topology.server(node).filter(|_| !is_gone);
            let is_over = match server {
                Some(server) => refresh::answers(&topology.config, &server).await,
                None => true,
            };
            if is_over {
                topology.silent.nodes().remove(&node);
                return;
            }
        }
    });
}
