//! Files of the repository that are made from what clap knows about the programs. Tests compare them with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Tells the tests to write the files.
const UPDATE: &str = "UPDATE_CONFIGURATION";

/// Returns the path of a file or folder, which is named from the root of the repository.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(REPOSITORY).join(name)
}

/// Demands that a file has a text, or writes it where the environment asks for that.
///
/// # Panics
/// When it has another one.
pub(crate) fn assert_file(name: &str, text: &str) {
    let path = path(name);
    if std::fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return;
    }
    assert_updating(name);
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Demands that a folder has just these files of a program, or makes it so where the environment asks for that.
///
/// # Panics
/// When it has others.
pub(crate) fn assert_folder(folder: &str, program: &str, files: &BTreeMap<String, String>) {
    for (name, text) in files {
        assert_file(&format!("{folder}/{name}"), text);
    }
    for entry in std::fs::read_dir(path(folder)).unwrap_or_else(|error| panic!("{folder}: {error}")).flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.trim_start_matches('_').starts_with(program) && !files.contains_key(&name) {
            assert_updating(&format!("{folder}/{name}"));
            std::fs::remove_file(entry.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

fn assert_updating(name: &str) {
    assert!(
        std::env::var_os(UPDATE).is_some(),
        "{name} is not what --help says. Make it anew:\n  {UPDATE}=1 cargo test -p view-ingest -p view-syncd every_setting_is_documented"
    );
}
