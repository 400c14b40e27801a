//! The arguments of `view-syncd recount`.

use clap::Args;
use views_core::{
    ids::PostId,
    settings::{Problems, Setting},
};

/// Which posts are counted anew.
#[derive(Debug, Clone, Default, Args)]
pub struct RecountArgs {
    /// Only this post
    #[arg(long, value_name = "ID")]
    post: Option<Setting>,
    /// Tell the result in JSON
    #[arg(long)]
    json: bool,
}

/// The same, checked.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub(crate) post: Option<PostId>,
    pub(crate) json: bool,
}

impl RecountArgs {
    /// Returns the options and notes what is wrong with them.
    pub(crate) fn resolve(&self, problems: &mut Problems) -> Options {
        Options { post: problems.optional(self.post.as_ref(), PostId::parse), json: self.json }
    }
}
