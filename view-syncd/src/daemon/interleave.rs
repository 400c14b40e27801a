//! The drains, as the reconciler is given them: their steps and its own alternate in one task.
//!
//! They could be two tasks. But then something that a drain has stored and not acknowledged could fall between two
//! looks of the reconciler at any time, and counts could be written by a scan only where the outbox has nothing of a
//! post, as is done already where another process drains: busy posts would have to wait for a quiet moment.

use std::time::{Duration, Instant};

use views_core::{ids::PostId, partition::Partition};

use super::leases::Leases;
use crate::{
    context::Context,
    drain::{Drain, Urgency},
    error::Failure,
    reconcile::drains::Drains,
};

/// How often a drain has its turn. Each costs a look at the outbox.
const DRAIN_EVERY: Duration = Duration::from_millis(20);

/// The drains of this process, while the reconciler works.
pub(super) struct Interleaved<'a> {
    context: &'a Context,
    drain: &'a mut Drain,
    /// Whether this process is one that drains.
    drains: bool,
    leases: Option<&'a Leases>,
    last_turn: Instant,
}

impl<'a> Interleaved<'a> {
    pub(super) fn new(context: &'a Context, drain: &'a mut Drain, drains: bool, leases: Option<&'a Leases>) -> Self {
        Self { context, drain, drains, leases, last_turn: Instant::now() }
    }
}

impl Drains for Interleaved<'_> {
    async fn take_turn(&mut self) -> Result<bool, Failure> {
        if !self.drains || self.last_turn.elapsed() < DRAIN_EVERY {
            return Ok(false);
        }
        self.drain.step(Urgency::Patient).await?;
        self.last_turn = Instant::now();
        Ok(true)
    }

    async fn step(&mut self) -> Result<(), Failure> {
        self.drain.step(Urgency::AtOnce).await.map(drop)
    }

    fn defers(&self, post: &PostId) -> bool {
        self.drain.deferred().contains(post)
    }

    async fn are_alone(&self) -> Result<bool, Failure> {
        match self.leases {
            _ if !self.drains => Ok(false),
            Some(leases) => Ok(leases.alone(&self.context.database).await?.contains(&Partition::WHOLE)),
            None => Ok(true),
        }
    }
}
