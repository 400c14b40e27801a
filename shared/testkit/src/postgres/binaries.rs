//! Where PostgreSQL is installed, and as whom it may run.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::supervisor::quoted;

/// The environment variable that names the folder of another server's programs.
const FOLDER_VARIABLE: &str = "TESTKIT_POSTGRES_BIN";
/// Debian keeps the servers of all versions here, out of `PATH`.
const DEBIAN_FOLDER: &str = "/usr/lib/postgresql";

pub(super) struct Binaries {
    folder: PathBuf,
    /// The user to run as, when this process is root: PostgreSQL refuses to run as root.
    user: Option<String>,
}

impl Binaries {
    /// # Panics
    /// When PostgreSQL is not installed, or not where the environment says.
    pub(super) fn find() -> Self {
        let folder = named().or_else(in_path).or_else(newest_of_debian).unwrap_or_else(|| {
            panic!("no `initdb` and `postgres` in PATH or {DEBIAN_FOLDER}/*/bin: is the PostgreSQL server installed?")
        });
        let user = (id(&["-u"]).as_deref() == Some("0")).then(|| {
            let user = ["postgres", "nobody"].into_iter().find(|user| id(&["-u", user]).is_some());
            user.expect("running as root, and there is neither a user `postgres` nor `nobody`").to_owned()
        });
        Self { folder, user }
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns the words that start a program, and become it, in a shell line.
    pub(super) fn command(&self, program: &str) -> String {
        let program = quoted(self.program(program));
        match &self.user {
            Some(user) => format!(r#"setpriv --reuid={user} --regid="$(id -g {user})" --clear-groups -- {program}"#),
            None => program,
        }
    }
}

fn is_complete(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file())
}

fn named() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os(FOLDER_VARIABLE).filter(|folder| !folder.is_empty())?);
    assert!(is_complete(&folder), "{FOLDER_VARIABLE}: no `initdb` and `postgres` in {}", folder.display());
    folder.canonicalize().ok()
}

fn in_path() -> Option<PathBuf> {
    let folder = std::env::split_paths(&std::env::var_os("PATH")?).find(|folder| is_complete(folder))?;
    // What lies in PATH may be links, and not to all of the programs that lie together where they lead.
    folder.join("postgres").canonicalize().ok()?.parent().map(Path::to_owned)
}

fn newest_of_debian() -> Option<PathBuf> {
    let versions = std::fs::read_dir(DEBIAN_FOLDER).ok()?.flatten();
    let newest = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| is_complete(&Path::new(DEBIAN_FOLDER).join(version.to_string()).join("bin")))
        .max()?;
    Some(Path::new(DEBIAN_FOLDER).join(newest.to_string()).join("bin"))
}

fn id(arguments: &[&str]) -> Option<String> {
    let output = Command::new("id").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
