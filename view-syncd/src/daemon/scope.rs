//! What a cycle works on: one on the interval works on what this process drains, one that is asked for on everything.

/// What is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The partitions that this process drains.
    Own,
    /// All of them.
    All,
}
