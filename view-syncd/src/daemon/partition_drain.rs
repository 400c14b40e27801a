//! The drain of one partition, with its schedule and its lease.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use views_redis::NodeId;

use super::{
    leases::{InUse, Leases},
    schedule::Schedule,
};
use crate::{
    context::Context,
    drain::{Drain, Drained, Urgency, outbox, shared::Shared},
    error::Failure,
};

/// The drain of one partition.
pub(super) struct PartitionDrain {
    pub(super) drain: Drain,
    pub(super) schedule: Schedule,
    /// Keeps the lease, where there are leases.
    in_use: Option<InUse>,
    /// Whether all that PostgreSQL may have got from the outbox is acknowledged, but for what is deferred: not where a step has
    /// failed, perhaps between the two, nor where nobody knows what came before.
    pub(super) is_settled: bool,
    /// Whether it drains beside the process that holds the partition and does not get on with it.
    pub(super) is_guest: bool,
    /// Drains what another node has of the outbox, where the slot is half moved.
    hidden: Option<(NodeId, Drain)>,
    context: Arc<Context>,
    shared: Shared,
}

/// What a drain has done for now.
pub(super) type Done = (PartitionDrain, Result<Drained, Failure>);

impl PartitionDrain {
    /// Returns a drain whose first step is due. A guest has no lease.
    pub(super) fn new(context: &Arc<Context>, shared: &Shared, drain: Drain, in_use: Option<InUse>, is_guest: bool) -> Self {
        Self {
            drain,
            schedule: Schedule::starting_now(),
            in_use,
            is_settled: false,
            is_guest,
            hidden: None,
            context: Arc::clone(context),
            shared: shared.clone(),
        }
    }

    /// Takes one step.
    pub(super) fn step(mut self, urgency: Urgency) -> BoxFuture<'static, Done> {
        Box::pin(async move {
            self.step_hidden().await;
            let result = self.drain.step(urgency).await;
            (self, result)
        })
    }

    /// Takes a step of the drain of what another node has of the outbox, where the slot is half moved and its owner does not
    /// know that.
    async fn step_hidden(&mut self) {
        let partition = self.drain.partition();
        let Some(node) = self.context.half_moved.hidden_at(self.context.keys.outbox_of(partition)) else {
            self.hidden = None;
            return;
        };
        if self.hidden.as_ref().is_none_or(|(at, _)| *at != node) {
            let leaving = self.in_use.as_ref().map_or_else(CancellationToken::new, |in_use| in_use.leaving.clone());
            self.hidden = Some((node, Drain::of_hidden(&self.context, &self.shared, partition, node, leaving)));
        }
        let Some((_, drain)) = &mut self.hidden else { return };
        match drain.step(Urgency::AtOnce).await {
            Ok(Drained::Stored { pairs, .. }) => {
                let partition = partition.name();
                tracing::info!(partition, pairs, "stored views that a half moved slot of the cluster had hidden");
            }
            Ok(Drained::Idle) => {
                if let Err(error) = drain.outbox.session.remove_hidden_outbox().await {
                    tracing::debug!(partition = partition.name(), %error, "what is left of a half moved outbox is not removed");
                }
            }
            Ok(_) => {}
            Err(failure) => tracing::debug!(partition = partition.name(), "a half moved outbox cannot be drained: {failure}"),
        }
    }

    /// Drains everything that is in the outbox now, but for what others have locked. What arrives meanwhile may stay, so
    /// that this ends under load too.
    pub(super) fn drain_all(mut self, context: Arc<Context>) -> BoxFuture<'static, Done> {
        Box::pin(async move {
            self.step_hidden().await;
            let partition = self.drain.partition();
            let result = async {
                let Some(newest) = outbox::newest(&context, partition).await? else { return Ok(Drained::Idle) };
                loop {
                    match self.drain.step(Urgency::AtOnce).await? {
                        Drained::Stored { last, .. } if last < newest => context.checkpoint()?,
                        drained => return Ok(drained),
                    }
                }
            };
            let result = result.await;
            self.is_settled |= matches!(result, Ok(Drained::Idle | Drained::Stored { .. } | Drained::Deferred(_)));
            (self, result)
        })
    }

    /// Notes that something else was in the way of its work.
    pub(super) fn fail(&mut self, failure: Failure) -> Failure {
        let result = self.drain.finish(Err(failure));
        self.schedule.after(&result, Duration::ZERO, 1);
        result.err().unwrap_or(Failure::Stopped)
    }

    pub(super) fn stands(&self, leases: Option<&Leases>) -> bool {
        match (&self.in_use, leases) {
            (Some(in_use), Some(leases)) => in_use.stands(leases),
            (None, None) => true,
            _ => false,
        }
    }
}
