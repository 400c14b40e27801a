//! A shell that kills a process when the test lets go of it, or dies.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Reads the process's id, then a word of dismissal. The end of input instead of it means that the process must die.
const SCRIPT: &str = r#"trap '' HUP INT TERM; read -r pid && { read -r word || kill -s KILL "$pid"; }"#;

pub(super) struct Watchdog(Mutex<Option<(Child, ChildStdin)>>);

impl Watchdog {
    pub(super) fn new() -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "testkit-watchdog"])
            // Ctrl-C in the terminal must not reach the watchdog before it has done its work.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot start sh");
        let input = shell.stdin.take().expect("stdin is piped");
        Self(Mutex::new(Some((shell, input))))
    }

    pub(super) fn guard(&self, pid: u32) {
        self.write(&pid.to_string());
    }

    /// The process has ended: its id may soon be another's.
    pub(super) fn dismiss(&self) {
        self.write("done");
        self.bite();
    }

    /// Kills the process, unless it has been dismissed before. The process is dead or dying afterwards.
    pub(super) fn bite(&self) {
        if let Some((mut shell, input)) = self.lock().take() {
            drop(input);
            let _ = shell.wait();
        }
    }

    fn write(&self, word: &str) {
        if let Some((_, input)) = self.lock().as_mut() {
            // A watchdog that somebody killed can only be replaced by the destructors.
            let _ = writeln!(input, "{word}");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Child, ChildStdin)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
