//! Two partitions of a cluster: a post of each, an outbox beside each post, and a view-syncd for each or for both.
//!
//! Their keys are on nodes of their own, until a slot moves: then one node has both, and its failover takes the last of
//! both at the same moment. What a process does about the one and about the other goes on side by side, in any order.
//! That it dies as a whole is that it dies in both with nothing in between.

use std::ops::RangeBounds;

use stateright::{Model, Property};

use crate::{
    actions::Action,
    cluster::ClusterAction,
    ingest::state::Step,
    properties::{ACKNOWLEDGED, ALWAYS, SOMETIMES},
    redis::{Node, SOURCE, TARGET},
    setup::Setup,
    variant::Variant,
    world::World,
};

/// Each partition is in order.
pub const EVERYTHING: &str = "whatever must hold of a partition holds of both";

/// Two partitions that are to be checked together, each of which is such a world. Failovers and moves are those of both.
#[derive(Debug, Clone, Copy)]
pub struct Partitions(pub Setup);

/// Both at one moment.
pub type Worlds = [World; 2];

/// Anything that happens in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionAction {
    /// In one of the partitions.
    In(usize, Action),
    /// To a node, and to what it has of both.
    At(Node, NodeAction),
    /// A process of view-ingest goes on to write the set of a post in this partition, whose outbox has not answered. The
    /// other one's has.
    SkipsOutbox(usize, usize),
}

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeAction {
    /// Its replica gets nothing more.
    Lags,
    /// The replica takes over.
    FailsOver,
}

impl Model for Partitions {
    type State = Worlds;
    type Action = PartitionAction;

    fn init_states(&self) -> Vec<Worlds> {
        vec![[World::new(&self.0), World::new(&self.0)]]
    }

    fn actions(&self, worlds: &Worlds, actions: &mut Vec<PartitionAction>) {
        for (partition, world) in worlds.iter().enumerate() {
            let mut own = Vec::new();
            self.0.actions(world, &mut own);
            let is_joint =
                |action: &Action| matches!(action, Action::Cluster(ClusterAction::Lags(_) | ClusterAction::FailsOver(_)));
            actions
                .extend(own.into_iter().filter(|action| !is_joint(action)).map(|action| PartitionAction::In(partition, action)));
            if self.0.variant == Variant::AnyOutboxSuffices {
                let has_answered = |place: &usize| is_recording(&worlds[1 - partition], *place, 1..);
                let goes_on = |place: &usize| is_recording(world, *place, 0..1) && has_answered(place);
                actions.extend((0..self.0.ingests).filter(goes_on).map(|place| PartitionAction::SkipsOutbox(partition, place)));
            }
        }
        for node in [0, 1] {
            if worlds.iter().enumerate().any(|(partition, world)| world.redis.nodes.replicas[place(partition, node)].is_some()) {
                actions.push(PartitionAction::At(node, NodeAction::FailsOver));
            } else if worlds[0].left.failovers > 0 {
                actions.push(PartitionAction::At(node, NodeAction::Lags));
            }
        }
    }

    fn next_state(&self, worlds: &Worlds, action: PartitionAction) -> Option<Worlds> {
        let mut worlds = worlds.clone();
        match action {
            PartitionAction::In(partition, action) => {
                worlds[partition] = self.0.next_state(&worlds[partition], action)?;
                // There are as many moves as there are for both.
                let moves = worlds[partition].left.moves;
                worlds[1 - partition].left.moves = moves;
            }
            PartitionAction::At(node, action) => {
                for (partition, world) in worlds.iter_mut().enumerate() {
                    let node = place(partition, node);
                    let action = match action {
                        NodeAction::Lags => ClusterAction::Lags(node),
                        NodeAction::FailsOver => ClusterAction::FailsOver(node),
                    };
                    *world = self.0.next_state(world, Action::Cluster(action))?;
                }
            }
            PartitionAction::SkipsOutbox(partition, place) => {
                if let Step::Record(pipeline) = &mut worlds[partition].ingests[place].step {
                    pipeline.executed = 1;
                }
            }
        }
        // It is all the same which of them is called the first.
        if self.0.symmetric {
            worlds.sort_unstable();
        }
        Some(worlds)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let [drained, sent] = SOMETIMES;
        vec![
            Property::always(ACKNOWLEDGED, |partitions, worlds| {
                let mut acknowledged = ALWAYS.iter().filter(|(name, _)| *name == ACKNOWLEDGED);
                acknowledged.all(|(_, condition)| partitions.both(worlds, *condition))
            }),
            Property::always(EVERYTHING, |partitions, worlds| {
                ALWAYS.iter().all(|(_, condition)| partitions.both(worlds, *condition))
            }),
            Property::sometimes(drained.0, |partitions, worlds| partitions.both(worlds, SOMETIMES[0].1)),
            Property::sometimes(sent.0, |partitions, worlds| partitions.both(worlds, SOMETIMES[1].1)),
        ]
    }
}

impl Partitions {
    fn both(&self, worlds: &Worlds, condition: fn(&Setup, &World) -> bool) -> bool {
        worlds.iter().all(|world| condition(&self.0, world))
    }
}

/// Returns whether a process has executed so many of the commands by which it records.
fn is_recording(world: &World, place: usize, executed: impl RangeBounds<usize>) -> bool {
    matches!(&world.ingests[place].step, Step::Record(pipeline) if executed.contains(&pipeline.executed))
}

/// Returns which of a partition's nodes that is: each partition's keys come from a node of its own.
fn place(partition: usize, node: Node) -> Node {
    if partition == node { SOURCE } else { TARGET }
}
