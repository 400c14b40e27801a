//! The drains, as the reconciler is given them: their steps and its own alternate in one task.
//!
//! They could be two tasks. But then something that a drain has stored and not acknowledged could fall between two
//! looks of the reconciler at any time, and counts could be written by a scan only where the outbox has nothing of a
//! post, as is done already where another process drains: busy posts would have to wait for a quiet moment.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use views_core::{ids::PostId, partition::Partition};

use super::{partition_drains::PartitionDrains, scope::Scope};
use crate::{drain::Urgency, error::Failure, reconcile::drains::Drains};

/// How often the drains have their turn. Each costs a look at an outbox.
const DRAIN_EVERY: Duration = Duration::from_millis(20);

/// How often those partitions of several have their turn that could not be drained the last time: the reconciler waits
/// for a node that does not answer, too.
const FAILING_EVERY: Duration = Duration::from_secs(15);

/// The drains of this process, while the reconciler works.
pub(super) struct Interleaved<'a> {
    drains: &'a mut PartitionDrains,
    scope: Scope,
    last_turn: Instant,
    /// When partitions had their turn that could not be drained.
    last_failing: Instant,
}

impl<'a> Interleaved<'a> {
    pub(super) fn new(drains: &'a mut PartitionDrains, scope: Scope) -> Self {
        Self { drains, scope, last_turn: Instant::now(), last_failing: Instant::now() }
    }

    fn partition(&self, post: &PostId) -> Partition {
        self.drains.context.keys.partition(post)
    }
}

impl Drains for Interleaved<'_> {
    async fn take_turn(&mut self) -> Result<bool, Failure> {
        if self.last_turn.elapsed() < DRAIN_EVERY {
            return Ok(false);
        }
        self.drains.follow();
        // Where there is but one, a scan of which a turn takes little is no reason to look at it less often.
        let with_failing = self.last_failing.elapsed() >= FAILING_EVERY;
        let turn = if self.drains.are_many() { self.drains.due(with_failing) } else { self.drains.own() };
        if turn.is_empty() {
            return Ok(false);
        }
        let ended = self.drains.work_on(turn, |part| part.step(Urgency::Patient)).await;
        if !self.drains.are_many() {
            self.drains.sum_up(ended)?;
        } else {
            // What is in the way of a partition is not in the way of the scan of others.
            self.drains.tell_failures(&ended);
        }
        self.last_turn = Instant::now();
        if with_failing {
            self.last_failing = self.last_turn;
        }
        Ok(true)
    }

    async fn step(&mut self) -> Result<(), Failure> {
        self.drains.follow();
        let ended = self.drains.work_on(self.drains.own(), |part| part.step(Urgency::AtOnce)).await;
        self.drains.sum_up(ended).map(drop)
    }

    fn covers(&self, partition: Partition) -> bool {
        self.scope == Scope::All || self.drains.is_own(partition)
    }

    fn drains(&self, post: &PostId) -> bool {
        self.drains.is_own(self.partition(post))
    }

    fn defers(&self, post: &PostId) -> bool {
        // What is left from before a cluster is of posts of all partitions.
        let drains = [self.partition(post), Partition::LEGACY].map(|partition| self.drains.of(partition));
        drains.into_iter().flatten().any(|drain| drain.deferred().contains(post))
    }

    async fn alone(&mut self) -> Result<BTreeSet<Partition>, Failure> {
        self.drains.alone().await
    }
}
