//! What the reconciler needs of the drains of this process. The daemon implements it; the reconciler knows no drain.

use std::collections::BTreeSet;

use views_core::{ids::PostId, partition::Partition};

use crate::error::Failure;

/// The drains of this process, as the reconciler sees them.
///
/// All of the work is one task: while the reconciler takes a step, no drain does. In its turn it may lose some of them to
/// other processes, or get more. So nothing that this process has
/// stored waits for its acknowledgement when the reconciler compares counts, but for the pairs of deferred posts.
pub(crate) trait Drains {
    /// Gives the drains their turn where they have waited for one: views go on reaching PostgreSQL however long a scan
    /// takes. Returns whether it was so.
    async fn take_turn(&mut self) -> Result<bool, Failure>;

    /// Has a step of each drain taken now.
    async fn step(&mut self) -> Result<(), Failure>;

    /// Returns whether posts of a partition are to be looked at: all of them, or those that this process drains.
    fn covers(&self, partition: Partition) -> bool;

    /// Returns whether it is this process that drains a post's pairs.
    fn drains(&self, post: &PostId) -> bool;

    /// Returns whether pairs of a post are deferred: some of them may be stored, and are not acknowledged.
    fn defers(&self, post: &PostId) -> bool;

    /// Returns the partitions of whose posts no other process can have put anything into PostgreSQL that it has not
    /// acknowledged in Redis yet.
    async fn alone(&mut self) -> Result<BTreeSet<Partition>, Failure>;
}
