//! The work of one process: its drains and its reconciler, which take their turns in one task.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use views_core::partition::Partition;

use super::{interleave::Interleaved, leases::Leases, partition_drains::PartitionDrains, scope::Scope};
use crate::{
    context::Context,
    drain::{Drain, Drained, Urgency, shared::Shared},
    error::Failure,
    owned_session::OwnedSession,
    reconcile::{reconciler::Reconciler, report::ScanReport, retry_dead_letters, scan::scan},
};

/// How far apart the partitions are that a standby looks at one after the other, so that it sees all nodes of a cluster
/// soon: it has no divisor in common with their number.
const STRIDE: usize = 23;

/// The work of one process. One task owns it.
#[derive(Debug)]
pub struct Synchronizer {
    pub(super) context: Arc<Context>,
    pub(super) drains: PartitionDrains,
    pub(super) reconciler: Reconciler,
    /// Looks at the outboxes that others drain.
    pub(super) look: OwnedSession,
    /// Looks whether this process could drain, while it drains nothing.
    standby: Drain,
    /// How often it has looked.
    looks: usize,
    /// Why the last scan could not see all posts.
    pub(super) unseen: Option<String>,
    /// Whether there was such a reason.
    pub(super) has_unseen: bool,
}

impl Synchronizer {
    /// Puts the parts together. Nothing is asked of either store yet. Without leases, this process drains everything.
    #[must_use]
    pub fn new(context: &Arc<Context>) -> Self {
        let shared = Shared::new(context);
        let mut drains = PartitionDrains::new(context, &shared);
        drains.follow();
        Self {
            context: Arc::clone(context),
            drains,
            reconciler: Reconciler::new(context, &shared),
            look: OwnedSession::new(context),
            standby: Drain::new(context, &shared, Partition::WHOLE, CancellationToken::new()),
            looks: 0,
            unseen: None,
            has_unseen: false,
        }
    }

    /// Has leases say what this process drains; the rest is left to others.
    pub fn set_leases(&mut self, leases: Leases) {
        self.drains.set_leases(leases);
        self.drains.follow();
    }

    /// Takes one step of each drain, and retries dead letters where that is due before the next cycle. When it fails,
    /// everything that was not acknowledged is still in the outbox.
    ///
    /// # Errors
    /// [`Failure`]: a store is away.
    pub async fn drain(&mut self, urgency: Urgency) -> Result<Drained, Failure> {
        self.drains.follow();
        let ended = self.drains.work_on(self.drains.own(), |part| part.step(urgency)).await;
        let (drained, _) = self.drains.sum_up(ended)?;
        self.retry_dead_letters_when_due().await?;
        Ok(drained)
    }

    /// Retries dead letters where that is due before the next cycle.
    pub(super) async fn retry_dead_letters_when_due(&mut self) -> Result<(), Failure> {
        if !self.reconciler.shared.dead_letter_timer.is_due() {
            return Ok(());
        }
        self.drains.rest().await;
        let Err(failure) = retry_dead_letters::retry(&mut self.reconciler).await else { return Ok(()) };
        match self.drains.only() {
            Some(part) => Err(part.fail(failure)),
            None => {
                // They are on one node, which may be away while the others are not.
                tracing::warn!("dead letters cannot be retried: {failure}");
                self.reconciler.shared.dead_letter_timer.start();
                Ok(())
            }
        }
    }

    /// Drains everything that is in the outboxes of this process now, but for what others have locked. What arrives
    /// meanwhile may stay, so that this ends under load too.
    ///
    /// # Errors
    /// [`Failure`]: a store is away, or the process is about to stop.
    pub async fn drain_all(&mut self) -> Result<(), Failure> {
        self.drains.follow();
        self.drain_own().await.map(drop)
    }

    /// Does that, and returns how many outboxes could not be drained.
    pub(super) async fn drain_own(&mut self) -> Result<usize, Failure> {
        let context = Arc::clone(&self.context);
        let mut own = self.drains.own();
        // What is left from before a cluster is acknowledged first: posts are acknowledged up to an entry, and these are
        // their first ones.
        let mut ended = Vec::new();
        for partitions in [own.split_off(&Partition::LEGACY), own] {
            ended.extend(self.drains.work_on(partitions, |part| part.drain_all(Arc::clone(&context))).await);
        }
        let (_, failed) = self.drains.sum_up(ended)?;
        self.retry_dead_letters_when_due().await?;
        Ok(failed)
    }

    /// Scans everything.
    ///
    /// # Errors
    /// [`Failure`]: a store is away, or the process is about to stop; what has been done so far stays done.
    pub async fn scan(&mut self) -> Result<ScanReport, Failure> {
        self.scan_in(Scope::All).await
    }

    pub(super) async fn scan_in(&mut self, scope: Scope) -> Result<ScanReport, Failure> {
        let (reconciler, mut drains) = self.parts(scope);
        scan(reconciler, &mut drains).await
    }

    /// Looks whether this process could drain, and leaves that to others. Returns whether Redis would let it.
    pub async fn stand_by(&mut self) -> bool {
        // A step that nobody takes further may hold what this waits for.
        self.drains.rest().await;
        let partitions: Vec<Partition> = self.context.keys.drained_partitions().collect();
        let partition = partitions[self.looks % partitions.len()];
        self.looks += STRIDE;
        self.standby.turn_to(partition);
        let is_well = self.standby.stand_by().await;
        self.context.health.keep_only(|seen| seen == partition);
        is_well
    }

    /// Returns the reconciler, and the drains as it is given them.
    pub(super) fn parts(&mut self, scope: Scope) -> (&mut Reconciler, Interleaved<'_>) {
        (&mut self.reconciler, Interleaved::new(&mut self.drains, scope))
    }
}
