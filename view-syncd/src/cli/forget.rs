//! The arguments of `view-syncd forget`.

use clap::Args;
use views_core::{
    ids::ViewerId,
    settings::{Problems, Setting},
};

/// Who is erased.
#[derive(Debug, Clone, Args)]
pub struct ForgetArgs {
    /// The viewer's id, as tokens have it
    #[arg(value_name = "VIEWER")]
    viewer: Setting,
    /// Tell the result in JSON
    #[arg(long)]
    json: bool,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) viewer: ViewerId,
    pub(crate) json: bool,
}

impl ForgetArgs {
    /// Returns the options and notes what is wrong with them.
    pub(crate) fn resolve(&self, problems: &mut Problems) -> Option<Options> {
        let viewer =
            ViewerId::parse(self.viewer.non_empty().unwrap_or_default()).map_err(|error| problems.add("VIEWER", error)).ok()?;
        Some(Options { viewer, json: self.json })
    }
}
