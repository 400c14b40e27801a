//! The arguments of `view-syncd status`.

use std::time::Duration;

use clap::Args;

/// How the state is told.
#[derive(Debug, Clone, Copy, Args)]
pub struct StatusArgs {
    /// Tell everything in JSON
    #[arg(long)]
    json: bool,
}

/// What the command needs.
#[derive(Debug, Clone, Copy)]
pub struct StatusSettings {
    pub(crate) json: bool,
    /// How often there is a cycle.
    pub(crate) interval: Duration,
}

impl StatusArgs {
    /// Returns the settings.
    pub(super) fn resolve(self, interval: Duration) -> StatusSettings {
        StatusSettings { json: self.json, interval }
    }
}
