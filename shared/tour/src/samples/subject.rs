//! What is checked, with what: the repository and the programs that were built from it.

use std::path::{Path, PathBuf};

use testkit::scratch::Scratch;
use tokio::process::Command;

use crate::report::Report;
use crate::shell::output;

/// Both daemons.
pub(super) const DAEMONS: [&str; 2] = ["view-ingest", "view-syncd"];

/// The samples, the programs and the results.
pub(super) struct Subject {
    pub(super) report: Report,
    pub(super) binaries: PathBuf,
    /// For files of this run.
    pub(super) folder: Scratch,
}

impl Subject {
    /// Returns the samples of this repository, and the programs in a folder.
    ///
    /// # Panics
    /// When there is no such folder.
    pub(super) fn new(binaries: &Path) -> Self {
        let binaries = binaries.canonicalize().unwrap_or_else(|error| panic!("no folder {}: {error}", binaries.display()));
        Self { report: Report::new("samples"), binaries, folder: Scratch::new() }
    }

    /// Returns whether a program's help names an environment variable.
    ///
    /// # Errors
    /// That it does not.
    pub(super) async fn knows(&self, program: &str, variable: &str) -> Result<(), String> {
        let help = output(Command::new(self.binaries.join(program)).arg("--help")).await;
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        let is_named = ["=", "]"].iter().any(|end| help.contains(&format!("[env: {variable}{end}")));
        holds(is_named, || format!("{program} --help does not name {variable}"))
    }
}

/// Returns the outcome of a check that holds or does not.
///
/// # Errors
/// The reason, when it does not hold.
pub(super) fn holds(is_so: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(reason()) }
}
