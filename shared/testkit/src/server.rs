//! What the throw-away servers have in common: start and readiness, death, pause, restart, log.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::supervisor::Supervisor;

/// Generous, because a loaded build machine is slow; a server that dies is noticed at once.
const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Redis and PostgreSQL end their start with the same words, but for a standby, which accepts "read-only connections".
/// The server's own log is a better witness than its port, which another process may have taken.
pub(crate) const READY: &str = "ready to accept";

/// A server that could not be started: the end of its log.
pub(crate) struct StartError(pub(crate) String);

impl StartError {
    /// Another process took the port between its choice and its use.
    pub(crate) fn is_port_taken(&self) -> bool {
        self.0.to_lowercase().contains("address already in use")
    }
}

pub(crate) struct Server {
    supervisor: Supervisor,
    command: String,
    ready: &'static str,
}

impl Server {
    /// `command` is a shell line that becomes the server; it is run by [`Server::start`], which waits until the log has
    /// the words of `ready`, in lower case.
    pub(crate) fn new(supervisor: Supervisor, command: String, ready: &'static str) -> Self {
        Self { supervisor, command, ready }
    }

    pub(crate) async fn start(&self) -> Result<(), StartError> {
        let before = self.log().len();
        self.supervisor.spawn(&self.command);
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            // Asked before the log is read, so that the last words of a dying server are not missed.
            let running = self.supervisor.is_running();
            let log = self.log();
            let news = log.get(before..).unwrap_or(&log);
            if running && news.to_lowercase().contains(self.ready) {
                return Ok(());
            }
            if !running || Instant::now() > deadline {
                self.kill().await;
                return Err(StartError(format!("`{}` did not start:\n{news}", self.command)));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Asks the server to end by the named signal, waits for it, and does nothing when it has ended already.
    pub(crate) async fn stop(&self, signal: &str) {
        if self.supervisor.pid().is_some() {
            self.supervisor.run(&format!("kill -s {signal} $pid; signal_all CONT"));
            self.wait_for_exit().await;
        }
    }

    pub(crate) async fn kill(&self) {
        if self.supervisor.pid().is_some() {
            self.supervisor.run("signal_all KILL");
            self.wait_for_exit().await;
        }
    }

    pub(crate) fn pause(&self) {
        self.supervisor.run("signal_all STOP");
    }

    pub(crate) fn resume(&self) {
        self.supervisor.run("signal_all CONT");
    }

    /// # Panics
    /// When the server does not come back.
    pub(crate) async fn restart(&self) {
        self.kill().await;
        if let Err(StartError(message)) = self.start().await {
            panic!("{message}");
        }
    }

    /// Like [`Self::restart`], without waiting for the server to be ready.
    pub(crate) async fn begin_restart(&self) {
        self.kill().await;
        self.supervisor.spawn(&self.command);
    }

    async fn wait_for_exit(&self) {
        wait_for_exit(&self.supervisor, STOP_DEADLINE).await;
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.supervisor.pid()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.supervisor.is_running()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.supervisor.folder()
    }

    pub(crate) fn log(&self) -> String {
        read_log(self.folder())
    }
}

/// Everything that has been written to the log in a server's folder.
pub(crate) fn read_log(folder: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(folder.join("log")).unwrap_or_default()).into_owned()
}

/// Waits until the supervised process has ended and returns its exit status.
pub(crate) async fn wait_for_exit(supervisor: &Supervisor, limit: Duration) -> i32 {
    let deadline = Instant::now() + limit;
    while supervisor.is_running() {
        assert!(Instant::now() < deadline, "a server does not end:\n{}", read_log(supervisor.folder()));
        sleep(POLL_INTERVAL).await;
    }
    supervisor.run("reap")
}
