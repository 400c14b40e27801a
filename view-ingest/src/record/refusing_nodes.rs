//! Which nodes of a cluster take no views, as a recorder's own batches have shown: as long as one takes some, Redis does.

use std::collections::BTreeSet;

use views_redis::NodeId;

use crate::record::{
    context::Context,
    group::{Group, Membership},
    write::Written,
};

/// The nodes that have last refused what was to be done. Empty without a cluster.
#[derive(Debug, Default)]
pub(super) struct RefusingNodes(BTreeSet<NodeId>);

impl RefusingNodes {
    /// Notes what became of a batch. Returns whether something was refused, and some nodes take views all the same.
    pub(super) fn note(&mut self, context: &Context, written: &[Written<'_>], refused: &[&mut Group]) -> bool {
        if !context.redis.is_clustered() || (self.0.is_empty() && refused.is_empty()) {
            return false;
        }
        let node = |group: &Group| context.redis.node_of_slot(context.keys.slot(&group.post));
        self.0.extend(refused.iter().filter_map(|group| node(group)));
        if !self.0.is_empty() {
            let has_new = |group: &Group| group.viewers.iter().any(|viewer| viewer.membership == Membership::New);
            for Written { group, .. } in written.iter().filter(|written| has_new(written.group)) {
                node(group).map(|node| self.0.remove(&node));
            }
        }
        !refused.is_empty() && context.breaker.takes_views() && !context.redis.nodes().iter().all(|node| self.0.contains(node))
    }
}
