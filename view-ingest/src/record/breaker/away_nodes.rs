//! Which nodes of a cluster take no views, as the workers together see it: the first worker that sees it and the last one
//! are news.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use views_core::log_names;

/// The nodes that take no views, shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct AwayNodes(Mutex<BTreeMap<String, AwayNode>>);

#[derive(Debug)]
struct AwayNode {
    /// How many workers see it.
    workers: usize,
    why: String,
}

impl AwayNodes {
    /// Notes that a worker sends a node nothing more for now.
    pub(super) fn add(&self, address: &str, why: &str) {
        let mut nodes = self.nodes();
        if let Some(node) = nodes.get_mut(address) {
            node.workers += 1;
            why.clone_into(&mut node.why);
            return;
        }
        nodes.insert(address.to_owned(), AwayNode { workers: 1, why: why.to_owned() });
        tracing::warn!(name: log_names::STATE, node = address, why, "a node of Redis takes no views: those of its posts go past it");
    }

    /// Notes that a worker sends a node commands again, or that the node has no slots any more.
    pub(super) fn remove(&self, address: &str, has_slots: bool) {
        let mut nodes = self.nodes();
        let Some(node) = nodes.get_mut(address) else { return };
        node.workers -= 1;
        if node.workers > 0 {
            return;
        }
        nodes.remove(address);
        if has_slots {
            tracing::info!(node = address, "a node of Redis takes views again");
        } else {
            tracing::info!(node = address, "other nodes of Redis have the slots of one that took no views");
        }
    }

    /// Returns how many there are.
    pub(crate) fn number(&self) -> usize {
        self.nodes().len()
    }

    /// Returns their addresses with the reasons; nothing where there are none.
    pub(crate) fn describe(&self) -> Option<String> {
        let nodes = self.nodes();
        let all: Vec<String> = nodes.iter().map(|(address, node)| format!("{address}: {}", node.why)).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, AwayNode>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_away_as_long_as_a_worker_sees_it() {
        let nodes = AwayNodes::default();
        nodes.add("one:1", "refused");
        nodes.add("one:1", "no answer");
        nodes.add("two:2", "it is loading its data");
        assert_eq!(nodes.describe().unwrap(), "one:1: no answer; two:2: it is loading its data");
        nodes.remove("one:1", true);
        assert_eq!(nodes.number(), 2);
        nodes.remove("one:1", false);
        nodes.remove("one:1", false);
        nodes.remove("two:2", true);
        assert_eq!((nodes.number(), nodes.describe()), (0, None));
    }
}
