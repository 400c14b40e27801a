//! A copy of this system, in which packages can be installed and removed.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use testkit::process::{Daemon, DaemonBuilder};
use tokio::process::Command;

use crate::shell::{output, succeeds};

/// Where the copy's `systemctl` writes down what it is asked for.
const SYSTEMCTL_LOG: &str = "/run/systemctl.log";

/// The copy. It ends with the process that made it.
pub(super) struct System(PathBuf);

impl System {
    pub(super) fn at(root: &Path) -> Self {
        Self(root.to_owned())
    }

    /// Returns where a path of the copy is.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// Returns the text of a file; none where there is no such file.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok()
    }

    /// Returns owner, group and mode of a file, as `root view-counter 640`.
    pub(super) async fn rights(&self, path: &str) -> String {
        self.output(&["stat", "-c", "%U %G %a", path]).await
    }

    /// Returns a user's number.
    pub(super) async fn user(&self, name: &str) -> String {
        self.output(&["id", "-u", name]).await
    }

    /// Returns what a command prints.
    pub(super) async fn output(&self, command: &[&str]) -> String {
        let output = output(&mut self.command(command)).await;
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim_end().to_owned()
    }

    /// Runs a command.
    ///
    /// # Errors
    /// What it has printed, when it does not succeed.
    pub(super) async fn succeeds(&self, command: &[&str]) -> Result<(), String> {
        succeeds(&mut self.command(command)).await
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.0).args(words).current_dir("/").env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Prepares to run a program of the copy as one of its users.
    pub(super) fn daemon(&self, user: &str, program: &str) -> DaemonBuilder {
        Daemon::builder("chroot").arg(format!("--userspec={user}:{user}")).arg(&self.0).arg(program)
    }

    /// Returns what `systemctl` has been asked for since the last time, without options.
    pub(super) fn asked_of_systemctl(&self) -> Vec<String> {
        let log = self.text(SYSTEMCTL_LOG).unwrap_or_default();
        // It has not been asked yet where there is no such file.
        let _ = std::fs::remove_file(self.path(SYSTEMCTL_LOG));
        let words = |line: &str| line.split(' ').filter(|word| !word.starts_with("--")).collect::<Vec<_>>().join(" ");
        log.lines().map(words).collect()
    }

    /// Returns whether a process runs a program that is there under its path, and not one that has been replaced.
    pub(super) fn runs_installed(&self, pid: u32, program: &str) -> bool {
        let running = std::fs::metadata(format!("/proc/{pid}/exe"));
        let installed = std::fs::metadata(self.path(program));
        matches!((running, installed), (Ok(running), Ok(installed)) if running.ino() == installed.ino() && installed.permissions().mode() & 0o111 != 0)
    }
}
