//! The work of one process: its drain and its reconciler, of which one task takes one step after the other.

use std::sync::Arc;

use super::{interleave::Interleaved, leases::Leases};
use crate::{
    context::Context,
    drain::{Drain, Drained, Urgency, shared::Shared},
    error::Failure,
    reconcile::{reconciler::Reconciler, report::ScanReport, retry_dead_letters, scan::scan},
};

/// The work of one process. One task owns it.
#[derive(Debug)]
pub struct Synchronizer {
    pub(super) context: Arc<Context>,
    pub(super) drain: Drain,
    pub(super) reconciler: Reconciler,
    /// Whether this process is the one that drains. Another one's counts in PostgreSQL may be ahead of what Redis has
    /// been told.
    pub(super) drains: bool,
    /// Whether it is the only one that does; where nobody can tell, it is.
    pub(super) leases: Option<Leases>,
}

impl Synchronizer {
    /// Puts the parts together. Nothing is asked of either store yet.
    #[must_use]
    pub fn new(context: &Arc<Context>) -> Self {
        let shared = Shared::new(context);
        Self {
            context: Arc::clone(context),
            drain: Drain::new(context, &shared),
            reconciler: Reconciler::new(context, &shared),
            drains: true,
            leases: None,
        }
    }

    /// Sets whether this process is the one that drains, or leaves that to another one. It is, unless told otherwise.
    pub fn set_drains(&mut self, drains: bool) {
        self.drains = drains;
    }

    /// Sets who can tell whether this process is the only one that drains.
    pub fn set_leases(&mut self, leases: Leases) {
        self.leases = Some(leases);
    }

    /// Takes one step of the drain, and retries dead letters where that is due before the next cycle. When it fails,
    /// everything that was not acknowledged is still in the outbox.
    ///
    /// # Errors
    /// [`Failure`]: a store is away.
    pub async fn drain(&mut self, urgency: Urgency) -> Result<Drained, Failure> {
        let drained = self.drain.step(urgency).await?;
        if self.reconciler.shared.dead_letter_timer.is_due()
            && let Err(failure) = retry_dead_letters::retry(&mut self.reconciler).await
        {
            return self.drain.finish(Err(failure));
        }
        Ok(drained)
    }

    /// Drains everything that is in the outbox now, but for what others have locked. What arrives meanwhile may stay,
    /// so that this ends under load too.
    ///
    /// # Errors
    /// [`Failure`]: a store is away, or the process is about to stop.
    pub async fn drain_all(&mut self) -> Result<(), Failure> {
        let Some(newest) = self.drain.newest().await? else { return Ok(()) };
        loop {
            match self.drain(Urgency::AtOnce).await? {
                Drained::Stored { last, .. } if last < newest => self.context.checkpoint()?,
                _ => return Ok(()),
            }
        }
    }

    /// Scans everything.
    ///
    /// # Errors
    /// [`Failure`]: a store is away, or the process is about to stop; what has been done so far stays done.
    pub async fn scan(&mut self) -> Result<ScanReport, Failure> {
        let (reconciler, mut drains) = self.parts();
        scan(reconciler, &mut drains).await
    }

    /// Looks whether this process could drain, and leaves that to the one that leads. Returns whether Redis would let it.
    pub async fn stand_by(&mut self) -> bool {
        self.drain.stand_by().await
    }

    /// Returns the reconciler, and the drains as it is given them.
    pub(super) fn parts(&mut self) -> (&mut Reconciler, Interleaved<'_>) {
        let drains = Interleaved::new(&self.context, &mut self.drain, self.drains, self.leases.as_ref());
        (&mut self.reconciler, drains)
    }
}
