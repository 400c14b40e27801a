//! Temporary folders that vanish with the test, however it ends.

use std::path::{Path, PathBuf};

use crate::supervisor::Supervisor;

/// A temporary folder, removed when this is dropped or the process dies.
pub struct Scratch(Supervisor);

impl Scratch {
    /// Makes an empty folder.
    #[expect(clippy::new_without_default, reason = "a default that makes a folder would surprise")]
    pub fn new() -> Self {
        Self(Supervisor::new("scratch", &std::env::temp_dir()))
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        self.0.folder()
    }

    /// Writes a file into the folder, over an existing one, and returns its path.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, contents).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }
}
