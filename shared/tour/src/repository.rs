//! Files of the repository that this program was built from.

use std::path::{Path, PathBuf};

const TOUR: &str = env!("CARGO_MANIFEST_DIR");

/// Returns the path of a file or folder, which is named from the root of the repository.
///
/// # Panics
/// When the repository is not where it was.
pub(crate) fn path(name: &str) -> PathBuf {
    let root = Path::new(TOUR).ancestors().nth(2).expect("the tour is two folders deep in the repository");
    assert!(root.is_dir(), "{} is gone: build the tour again", root.display());
    root.join(name)
}

/// Returns the text of a file.
///
/// # Panics
/// When it cannot be read.
pub(crate) fn text(name: &str) -> String {
    let path = path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}
