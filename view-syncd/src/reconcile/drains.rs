//! What the reconciler needs of the drains of this process. The daemon implements it; the reconciler knows no drain.

use views_core::ids::PostId;

use crate::error::Failure;

/// The drains of this process, as the reconciler sees them.
///
/// All of the work is one task: while the reconciler takes a step, no drain does. So nothing that this process has
/// stored waits for its acknowledgement when the reconciler compares counts, but for the pairs of deferred posts.
pub(crate) trait Drains {
    /// Gives the drains their turn where they have waited for one: views go on reaching PostgreSQL however long a scan
    /// takes. Returns whether it was so.
    async fn take_turn(&mut self) -> Result<bool, Failure>;

    /// Has a step of each drain taken now.
    async fn step(&mut self) -> Result<(), Failure>;

    /// Returns whether pairs of a post are deferred: some of them may be stored, and are not acknowledged.
    fn defers(&self, post: &PostId) -> bool;

    /// Returns whether no other process can have put anything into PostgreSQL that it has not acknowledged in Redis yet.
    async fn are_alone(&self) -> Result<bool, Failure>;
}
