//! A shell beside the test process that owns a temporary folder and a server, and removes both when the test ends.
//!
//! Destructors do not run for statics, nor after SIGKILL, nor after `process::exit`. The kernel closes the pipe to the
//! shell in all these cases, so the end of its standard input is the one signal that cannot be missed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard};

/// See the comments in the script for its protocol.
const SCRIPT: &str = include_str!("supervisor.sh");

pub(crate) struct Supervisor {
    folder: PathBuf,
    shell: Child,
    /// Locked for a question and its answer together. `None` once dropping has begun.
    pipes: Mutex<Option<Pipes>>,
}

struct Pipes {
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    server: Option<u32>,
}

impl Supervisor {
    /// Starts the shell, which makes a folder `testkit-<name>.XXXXXX` in `parent`.
    pub(crate) fn new(name: &str, parent: &Path) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "testkit-supervisor"])
            .arg(parent.join(format!("testkit-{name}.XXXXXX")))
            // A group of its own keeps the terminal's Ctrl-C away from the shell and from the server.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot start sh");
        let questions = shell.stdin.take().expect("stdin is piped");
        let mut answers = BufReader::new(shell.stdout.take().expect("stdout is piped"));
        let mut folder = String::new();
        answers.read_line(&mut folder).expect("cannot read from the supervisor");
        assert!(!folder.is_empty(), "the supervisor could not make a folder in {}", parent.display());
        let pipes = Mutex::new(Some(Pipes { questions, answers, server: None }));
        Self { folder: PathBuf::from(folder.trim_end()), shell, pipes }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Evaluates one line in the shell and returns its exit status. Only for what takes no time.
    pub(crate) fn run(&self, line: &str) -> i32 {
        assert!(!line.contains('\n'), "the protocol is one line a question: {line}");
        let mut guard = self.lock();
        let pipes = guard.as_mut().expect("the supervisor is gone");
        writeln!(pipes.questions, "{line}").expect("cannot write to the supervisor");
        let mut answer = String::new();
        pipes.answers.read_line(&mut answer).expect("cannot read from the supervisor");
        let mut words = answer.split_whitespace();
        let status = words.next().and_then(|word| word.parse().ok());
        pipes.server = words.next().and_then(|word| word.parse().ok());
        status.unwrap_or_else(|| panic!("the supervisor died at `{line}`: {answer:?}"))
    }

    /// Starts `command`, a program and its arguments, as the supervised server, its output appended to the log.
    pub(crate) fn spawn(&self, command: &str) {
        assert!(self.pid().is_none(), "the server in {} is running already", self.folder.display());
        self.run(&format!(r#"exec {command} </dev/null >>"$folder/log" 2>&1 & pid=$!"#));
    }

    /// Starts `command` like a server, but lets it end by itself even when the test does not.
    pub(crate) fn spawn_unkillable(&self, command: &str) {
        self.run("patience=yes");
        self.spawn(command);
    }

    /// Returns the server's process, from its start until it has been reaped.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.lock().as_ref().and_then(|pipes| pipes.server)
    }

    /// Returns whether the server has been started and has not ended since.
    pub(crate) fn is_running(&self) -> bool {
        self.pid().is_some_and(is_alive)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pipes>> {
        // A test that panicked while it held the lock must not keep others from cleaning up.
        self.pipes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.lock().take();
        // The shell ends after the clean-up, so a finished test leaves nothing behind.
        let _ = self.shell.wait();
    }
}

/// Returns whether the process exists and is more than a zombie.
fn is_alive(pid: u32) -> bool {
    // The state follows the command's name, which is in parentheses and may contain anything.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Quotes a word for the shell.
pub(crate) fn quoted(word: impl AsRef<std::ffi::OsStr>) -> String {
    let word = word.as_ref().to_str().expect("paths and settings of tests are UTF-8");
    format!("'{}'", word.replace('\'', r"'\''"))
}
