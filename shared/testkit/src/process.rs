//! The programs under test, as real processes.

mod watchdog;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;

use self::watchdog::Watchdog;

/// Generous, because a loaded build machine is slow; a process that ends is noticed at once.
const DEADLINE: Duration = Duration::from_secs(60);

/// A shell that becomes the program whose path is its first argument: the socket that it finds as its standard input is
/// descriptor 3 there, and the program is told so with the id of its process, which is the shell's.
const HAND_OVER: &str = r#"exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" "$@""#;

/// A program that is yet to start. Its environment is `PATH` and what the test adds.
pub struct DaemonBuilder {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    socket: Option<TcpListener>,
    log: Option<PathBuf>,
}

/// A running program under test. It is killed when this is dropped and when the test process dies; a failing test
/// prints its output.
pub struct Daemon {
    name: String,
    pid: u32,
    state: watch::Receiver<State>,
    /// Shared with the task that waits for the exit; whoever comes first dismisses it or lets it bite.
    watchdog: Arc<Watchdog>,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    exit: Option<ExitStatus>,
}

impl State {
    fn matching(&self, pattern: &str) -> impl Iterator<Item = &String> {
        self.lines.iter().filter(move |line| line.contains(pattern))
    }
}

/// Returns the path of another package's binary, for tests of two programs together. Its own tests know their binary as
/// `env!("CARGO_BIN_EXE_<name>")`.
///
/// # Panics
/// When the binary has not been built. Cargo does not build it for this test, so it may also be an old one.
pub fn sibling_binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    // Tests are in <target>/<profile>/deps, binaries one level up.
    let profile = test.ancestors().nth(2).expect("tests are two folders deep in the target folder");
    let binary = profile.join(name);
    let release = if profile.ends_with("release") { " --release" } else { "" };
    assert!(binary.is_file(), "{} is missing: run `cargo build{release} -p {name}` first", binary.display());
    binary
}

impl DaemonBuilder {
    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Hands a listening socket over the way systemd does, which keeps it while the program is restarted.
    pub fn socket(mut self, listener: &TcpListener) -> Self {
        self.socket = Some(listener.try_clone().expect("a socket can be duplicated"));
        self
    }

    /// Appends the lines of both output streams to a file as well, for people to read while the program runs.
    pub fn log_to(mut self, file: impl Into<PathBuf>) -> Self {
        self.log = Some(file.into());
        self
    }

    /// Starts the program. It does not wait for anything.
    ///
    /// # Panics
    /// When the program cannot be started, the log cannot be opened, or outside a runtime.
    pub fn start(self) -> Daemon {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Before the program, so that it can outlive the test only if the test dies in the instant between the next two
        // calls.
        let watchdog = Watchdog::new();
        let (mut command, input) = match self.socket {
            None => (Command::new(&self.program), Stdio::null()),
            Some(socket) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", HAND_OVER]).arg(&self.program);
                (shell, OwnedFd::from(socket).into())
            }
        };
        let mut child = command
            .args(self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.environment)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The terminal's Ctrl-C is for the test; the watchdog does the rest.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.program.display()));
        let pid = child.id().expect("a process that has not been waited for has an id");
        watchdog.guard(pid);
        let watchdog = Arc::new(watchdog);

        let (sender, state) = watch::channel(State::default());
        let sender = Arc::new(sender);
        let log = self.log.as_deref().map(open_log);
        let output = tokio::spawn(capture(child.stdout.take().expect("stdout is piped"), sender.clone(), log.clone()));
        let errors = tokio::spawn(capture(child.stderr.take().expect("stderr is piped"), sender.clone(), log));
        let leash = watchdog.clone();
        tokio::spawn(async move {
            // Both streams end with the process, and an exit that is known must come with the complete output.
            let _ = tokio::join!(output, errors);
            let exit = child.wait().await.expect("a child can be waited for");
            leash.dismiss();
            sender.send_modify(|state| state.exit = Some(exit));
        });
        Daemon { name, pid, state, watchdog }
    }
}

fn open_log(file: &Path) -> Arc<File> {
    let opened = File::options().create(true).append(true).open(file);
    Arc::new(opened.unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display())))
}

async fn capture(stream: impl AsyncRead + Unpin, state: Arc<watch::Sender<State>>, log: Option<Arc<File>>) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
        if let Some(mut log) = log.as_deref() {
            // A folder that has been removed meanwhile is no reason to lose the line.
            let _ = log.write_all(&line);
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        state.send_modify(|state| state.lines.push(text));
        line.clear();
    }
}

impl Daemon {
    /// Prepares to run the program at a path.
    pub fn builder(program: impl AsRef<Path>) -> DaemonBuilder {
        DaemonBuilder {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            socket: None,
            log: None,
        }
    }

    /// Returns the process's id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns all lines of both output streams so far.
    pub fn output(&self) -> Vec<String> {
        self.state.borrow().lines.clone()
    }

    /// Returns the lines so far that contain `pattern`.
    pub fn lines_with(&self, pattern: &str) -> Vec<String> {
        self.state.borrow().matching(pattern).cloned().collect()
    }

    /// Returns whether the process has not ended yet.
    pub fn is_running(&self) -> bool {
        self.state.borrow().exit.is_none()
    }

    /// Waits for the first line that contains `pattern`, which may have been written before, and returns it.
    ///
    /// # Panics
    /// When the process ends without it, or after a minute.
    pub async fn wait_for_line(&self, pattern: &str) -> String {
        self.wait_for_nth_line(1, pattern).await
    }

    /// Waits until `number` lines contain `pattern` and returns the last of them.
    ///
    /// # Panics
    /// When the process ends before, or after a minute.
    pub async fn wait_for_nth_line(&self, number: usize, pattern: &str) -> String {
        let mut state = self.state.clone();
        let nth = |state: &State| state.matching(pattern).nth(number - 1).cloned();
        let wait = state.wait_for(|state| state.exit.is_some() || nth(state).is_some());
        let line = timeout(DEADLINE, wait).await.ok().and_then(Result::ok).and_then(|state| nth(&state));
        line.unwrap_or_else(|| {
            let exit = self.state.borrow().exit;
            panic!("{} (exit: {exit:?}) did not write line {number} with {pattern:?}", self.name)
        })
    }

    /// Waits until the program listens and returns the address of the named listener, which it logs as
    /// `listening … listener=<name> address=<address>`.
    pub async fn wait_for_listening(&self, listener: &str) -> SocketAddr {
        let mut state = self.state.clone();
        let address = |state: &State| state.matching("listening").find_map(|line| listening_address(line, listener));
        let wait = state.wait_for(|state| state.exit.is_some() || address(state).is_some());
        let found = timeout(DEADLINE, wait).await.ok().and_then(Result::ok).and_then(|state| address(&state));
        found.unwrap_or_else(|| panic!("{} did not log that its listener {listener:?} is listening", self.name))
    }

    /// Sends a signal by its name without `SIG`, such as `HUP`.
    ///
    /// # Panics
    /// When the process has ended.
    pub fn signal(&self, name: &str) {
        assert!(self.is_running(), "{} has ended and cannot get SIG{name}", self.name);
        let pid = self.pid.to_string();
        let status = std::process::Command::new("sh").args(["-c", r#"kill -s "$0" "$1""#, name, &pid]).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot send SIG{name} to {}", self.name);
    }

    /// Sends SIGKILL and waits for the end.
    pub async fn kill9(&self) {
        if self.is_running() {
            self.signal("KILL");
            self.wait_exit().await;
        }
    }

    /// Waits until the process ends by itself or by an earlier signal; the output is complete then.
    ///
    /// # Panics
    /// After a minute.
    pub async fn wait_exit(&self) -> ExitStatus {
        self.wait_exit_within(DEADLINE).await
    }

    /// Like [`Self::wait_exit`], with another deadline.
    pub async fn wait_exit_within(&self, limit: Duration) -> ExitStatus {
        let mut state = self.state.clone();
        let exit = timeout(limit, state.wait_for(|state| state.exit.is_some())).await.ok().and_then(Result::ok);
        exit.and_then(|state| state.exit).unwrap_or_else(|| panic!("{} did not end within {limit:?}", self.name))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- output of {} ({}) ---\n{}\n---", self.name, self.pid, self.output().join("\n"));
        }
        self.watchdog.bite();
    }
}

/// Returns the address in a log line of the listener, whose fields may be quoted.
fn listening_address(line: &str, listener: &str) -> Option<SocketAddr> {
    let field =
        |name: &str| line.split_whitespace().find_map(|word| Some(word.strip_prefix(name)?.strip_prefix('=')?.trim_matches('"')));
    (field("listener")? == listener).then(|| field("address")?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::listening_address;

    #[test]
    fn the_address_is_found_with_and_without_quotes() {
        let plain = "2026-01-01T00:00:00Z  INFO view_ingest: listening listener=public address=127.0.0.1:43211";
        let quoted = r#"INFO listening listener="public" address="[::1]:43211" tls=false"#;
        assert_eq!(listening_address(plain, "public"), "127.0.0.1:43211".parse().ok());
        assert_eq!(listening_address(quoted, "public"), "[::1]:43211".parse().ok());
        assert_eq!(listening_address(plain, "admin"), None);
        assert_eq!(listening_address("listening", "public"), None);
    }
}
