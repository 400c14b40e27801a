//! The arguments of `view-syncd explain`.

use clap::Args;
use views_core::{
    ids::{PostId, ViewerId},
    settings::Problems,
};

/// Which view is explained.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// The post's id
    #[arg(value_name = "POST")]
    post: String,
    /// The viewer's id, as in tokens
    #[arg(value_name = "VIEWER")]
    viewer: String,
    /// Tell everything in JSON
    #[arg(long)]
    json: bool,
}

/// What the command needs.
#[derive(Debug, Clone, Copy)]
pub struct ExplainSettings {
    pub(crate) post: PostId,
    pub(crate) viewer: ViewerId,
    pub(crate) json: bool,
}

impl ExplainArgs {
    /// Returns the settings, and notes which of the two is no id.
    pub(super) fn resolve(&self, problems: &mut Problems) -> Option<ExplainSettings> {
        let post = PostId::parse(&self.post).map_err(|error| problems.add("POST", error)).ok();
        let viewer = ViewerId::parse(&self.viewer).map_err(|error| problems.add("VIEWER", error)).ok();
        Some(ExplainSettings { post: post?, viewer: viewer?, json: self.json })
    }
}
