//! The layout of an application's tables, how its views are brought in, and what is to come of it.

/// A layout with at least one post.
pub(super) struct Layout {
    pub(super) name: &'static str,
    /// Makes the tables and the posts.
    pub(super) setup: &'static str,
    /// The settings that both programs and all commands have.
    pub(super) settings: &'static [(&'static str, &'static str)],
    /// Behind `migrate`.
    pub(super) migrate: &'static [&'static str],
    /// Behind `adopt`.
    pub(super) adopt: [&'static str; 2],
    /// The last line of `adopt`.
    pub(super) told: &'static str,
    pub(super) post: &'static str,
    pub(super) author: &'static str,
    /// A viewer of the source.
    pub(super) known: &'static str,
    /// Somebody who has not seen the post.
    pub(super) other: &'static str,
    /// The post's count after the adoption.
    pub(super) views: i64,
    /// The post's rows in the ledger after the adoption.
    pub(super) rows: i64,
    /// Gives the post's count.
    pub(super) count: &'static str,
    pub(super) ledger: &'static str,
}
