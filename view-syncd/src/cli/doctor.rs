//! The arguments of `view-syncd doctor`.

use std::path::Path;

use clap::Args;
use views_auth::{Verifier, config::KeyArgs};
use views_core::{
    files::{self, Reading},
    settings::{Problems, Setting},
};

/// What is looked at beside the stores.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// A file with a sample token, of which is told whether it is accepted, for whom, and if not, what to do
    #[arg(long, value_name = "FILE")]
    token_file: Option<Setting>,
    /// Tell everything in JSON
    #[arg(long)]
    json: bool,
}

/// What the command needs.
pub struct DoctorSettings {
    /// By which tokens are checked, where it is said where the keys come from.
    pub(crate) verifier: Option<Verifier>,
    /// The sample token.
    pub(crate) token: Option<Vec<u8>>,
    /// What is no mistake in the settings, but should not stay as it is.
    pub(crate) warnings: Vec<String>,
    pub(crate) json: bool,
}

/// Shows nothing of the token.
impl std::fmt::Debug for DoctorSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DoctorSettings").field("has_token", &self.token.is_some()).finish_non_exhaustive()
    }
}

impl DoctorArgs {
    /// Returns the settings, and notes what is wrong with them. Keys are not demanded, as no other command needs them.
    pub(super) fn resolve(&self, keys: &KeyArgs, problems: &mut Problems) -> DoctorSettings {
        let is_asked = self.token_file.as_ref().is_some_and(|setting| setting.non_empty().is_some());
        let verifier = if keys.is_given() || is_asked { keys.resolve(problems) } else { None };
        let token = problems.optional(self.token_file.as_ref(), |path| {
            let file = files::read(Path::new(path), Reading::First).map_err(|error| format!("cannot read {path}: {error}"))?;
            Ok::<_, String>(file.bare().trim_ascii().to_vec())
        });
        DoctorSettings { verifier, token, warnings: Vec::new(), json: self.json }
    }
}
