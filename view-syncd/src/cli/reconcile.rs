//! The arguments of `view-syncd reconcile`.

use clap::Args;
use views_core::{
    ids::PostId,
    settings::{Problems, Setting},
};

/// What is compared, and what is done about differences.
#[derive(Debug, Clone, Default, Args)]
pub struct ReconcileArgs {
    /// Only this post
    #[arg(long, value_name = "ID")]
    post: Option<Setting>,
    /// Mend what differs
    #[arg(long)]
    repair: bool,
    /// Mend what differs, and bring viewers back into the ledger whom only Redis knows, as after the restoration of a backup
    #[arg(long)]
    restore_from_redis: bool,
    /// Tell everything in JSON
    #[arg(long)]
    json: bool,
}

/// The same, checked.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub(crate) post: Option<PostId>,
    pub(crate) repair: bool,
    pub(crate) restore: bool,
    pub(crate) json: bool,
}

impl ReconcileArgs {
    /// Returns the options and notes what is wrong with them.
    pub(crate) fn resolve(&self, problems: &mut Problems) -> Options {
        let post = problems.optional(self.post.as_ref(), PostId::parse);
        let repair = self.repair || self.restore_from_redis;
        Options { post, repair, restore: self.restore_from_redis, json: self.json }
    }
}
