//! What happens to the nodes of a cluster: slots move, primaries fail over.

use crate::{
    ingest::state::{Step, commands},
    redis::{Node, SOURCE, Slot, TARGET},
    setup::Setup,
    variant::Variant,
    world::World,
};

/// What happens to the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterAction {
    /// All processes are stopped and the keys moved from a server without a cluster to one, where their outbox is not
    /// that of a partition.
    BecomesCluster,
    /// A node's replica gets nothing more.
    Lags(Node),
    /// It takes over.
    FailsOver(Node),
    /// A slot begins to move. Its mover may die at any time.
    MoveBegins,
    /// Set and hash are moved.
    PostMoves,
    /// The outbox is moved.
    OutboxMoves,
    /// The slot is where its keys are.
    MoveEnds,
    /// Somebody mends a slot that its source has forgotten to be moving. Of keys that there are two of, the hidden one
    /// goes, or replaces the other.
    IsMended(bool),
}

impl World {
    /// What may happen to the nodes.
    pub(crate) fn cluster_actions(&self, setup: &Setup) -> Vec<ClusterAction> {
        use ClusterAction as Do;
        let (nodes, left) = (&self.redis.nodes, &self.left);
        let mut actions = Vec::new();
        actions.extend((left.legacy > 0 && self.is_at_rest()).then_some(Do::BecomesCluster));
        for node in [SOURCE, TARGET] {
            let is_used = nodes.post == node || nodes.outbox == node || nodes.slot == Slot::Moving;
            if nodes.replicas[node].is_some() {
                actions.push(Do::FailsOver(node));
            } else if left.failovers > 0 && is_used {
                actions.push(Do::Lags(node));
            }
        }
        match nodes.slot {
            Slot::Steady => actions.extend((left.moves > 0).then_some(Do::MoveBegins)),
            Slot::Moving => {
                actions.extend((nodes.post == SOURCE).then_some(Do::PostMoves));
                actions.extend((nodes.outbox == SOURCE).then_some(Do::OutboxMoves));
                actions.extend((nodes.post == TARGET && nodes.outbox == TARGET).then_some(Do::MoveEnds));
            }
            Slot::Forgotten => {
                // What is hidden is drained, and goes.
                let is_drained = self.redis.hidden().is_empty() || self.redis.outbox.is_empty();
                let replaces = setup.variant == Variant::MendsUndrained;
                actions.extend((is_drained || replaces).then_some(Do::IsMended(false)));
                actions.extend(replaces.then_some(Do::IsMended(true)));
            }
        }
        actions
    }

    /// Has something happen to the nodes.
    pub(crate) fn cluster(&mut self, action: ClusterAction, setup: &Setup) {
        use ClusterAction as Do;
        match action {
            Do::BecomesCluster => {
                self.left.legacy -= 1;
                self.redis.leave_outbox();
            }
            Do::Lags(node) => {
                self.left.failovers -= 1;
                self.redis.lag(node);
            }
            Do::FailsOver(node) => self.fail_over(node, setup),
            Do::MoveBegins => {
                self.left.moves -= 1;
                self.redis.nodes.slot = Slot::Moving;
            }
            Do::PostMoves => self.redis.nodes.post = TARGET,
            Do::OutboxMoves => self.redis.nodes.outbox = TARGET,
            Do::MoveEnds => {
                self.redis.nodes.slot = Slot::Steady;
                // What its replica has is of no interest any more.
                self.redis.nodes.replicas[SOURCE] = None;
            }
            Do::IsMended(keeps_hidden) => self.redis.mend(keeps_hidden),
        }
    }

    fn fail_over(&mut self, node: Node, setup: &Setup) {
        if self.redis.nodes.replicas[node].is_none() {
            return;
        }
        let posts_are_there = self.redis.nodes.post == node;
        let outbox_is_there = self.redis.nodes.outbox == node;
        let before = self.redis.listed();
        self.redis.fail_over(node, setup.clocks_differ);
        let left = self.redis.listed().with(self.redis.hidden());
        self.lost.add_all(before.without(left).without(self.postgres.ledger).without(self.redis.dead));
        for ingest in &mut self.ingests {
            let Step::Record(pipeline) = ingest.step else { continue };
            let is_recorded = pipeline.executed == commands(setup.variant).len();
            let is_noticed = is_recorded || setup.variant != Variant::RecordsOverTwoConnections;
            let is_cut = pipeline.executed > 0 && pipeline.at == node && is_noticed;
            let is_torn = posts_are_there && pipeline.executed > 1 && !is_recorded;
            if is_recorded && is_cut {
                // The replies are there. Had they been lost, the connection might as well have broken before.
                self.acknowledged.add(pipeline.viewer);
                ingest.step = Step::Idle;
            } else if is_cut || is_torn {
                ingest.step = Step::Store(pipeline.viewer);
            }
        }
        for ingest in &mut self.ingests {
            let is_there = |executed| if executed == 0 { outbox_is_there } else { posts_are_there };
            ingest.adrift = ingest.adrift.filter(|pipeline| !is_there(pipeline.executed));
        }
        for daemon in &mut self.daemons {
            if let Some(batch) = daemon.task.batch_mut()
                && batch.from == Some(node)
            {
                batch.from = None;
            }
        }
    }
}
