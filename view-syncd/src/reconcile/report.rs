//! What a scan has seen and done.

use std::collections::HashSet;

use views_core::{ids::PostId, log_names};

/// Posts with something unacknowledged that are remembered for the repair of drifts. The rest has its turn with the
/// next scan.
const MAX_UNACKNOWLEDGED: usize = 10_000;

/// What a scan has seen and done.
#[derive(Debug, Default)]
pub struct ScanReport {
    /// Posts with views in Redis.
    pub found: u64,
    /// Posts whose count in Redis is right now.
    pub successful: u64,
    /// Posts that could not be brought into order.
    pub errors: u64,
    /// Posts that do not exist in PostgreSQL, and whose keys are gone now.
    pub removed: u64,
    /// Posts whose set somebody else had written, and whose members are all in PostgreSQL now.
    pub imported: u64,
    /// Why the posts of servers of a cluster could not be found.
    pub(crate) unseen: Vec<String>,
    /// Posts of which something was not acknowledged, for the repair of drifts.
    pub(crate) unacknowledged: HashSet<PostId>,
    /// Posts whose set somebody else seems to have written, and that wait for others to be imported together.
    pub(crate) with_foreign_members: Vec<PostId>,
    /// Posts of which PostgreSQL has fewer views than it had.
    pub(crate) regressed: HashSet<PostId>,
}

impl ScanReport {
    /// Adds what is worth knowing of posts that are not counted themselves.
    pub(crate) fn take_over(&mut self, aside: Self) {
        self.errors += aside.errors;
        self.regressed.extend(aside.regressed);
        self.removed += aside.removed;
        self.note_unacknowledged(aside.unacknowledged.into_iter());
    }

    /// Remembers posts for the repair of drifts, as far as there is room.
    pub(crate) fn note_unacknowledged(&mut self, posts: impl Iterator<Item = PostId>) {
        let room = MAX_UNACKNOWLEDGED.saturating_sub(self.unacknowledged.len());
        self.unacknowledged.extend(posts.take(room));
    }

    /// Notes that a post could not be brought into order.
    pub(crate) fn fail(&mut self, post: &PostId, error: &dyn std::fmt::Display) {
        self.errors += 1;
        tracing::warn!(name: log_names::EXAMPLE, %post, %error, "a post cannot be synchronized");
    }
}
