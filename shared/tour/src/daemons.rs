//! Both daemons: how they are started, and how they end.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use testkit::http::Client;
use testkit::process::{Daemon, DaemonBuilder};
use testkit::within;
use tokio::time::timeout;

use crate::shell::Environment;

/// How long a daemon may take to stop waiting for its stores.
const READY: Duration = Duration::from_secs(30);
/// How long a daemon may take to stop before it is killed. It has to fit view-syncd's last drain.
const STOPPED: Duration = Duration::from_secs(70);

/// A port that the system chooses, on this machine only.
pub(crate) const ANY_PORT: &str = "127.0.0.1:0";

/// A running view-ingest.
pub(crate) struct Ingest {
    pub(crate) daemon: Daemon,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// A running view-syncd.
pub(crate) struct Syncd {
    pub(crate) daemon: Daemon,
    pub(crate) admin: SocketAddr,
}

/// Prepares one of the programs. It has nothing of the caller's own environment.
pub(crate) fn program(binaries: &Path, name: &str, environment: &Environment) -> DaemonBuilder {
    environment.iter().fold(Daemon::builder(binaries.join(name)), |builder, (name, value)| builder.env(name, value))
}

/// Runs `view-syncd migrate`.
///
/// # Errors
/// What it has printed, when it does not succeed.
pub(crate) async fn migrate(binaries: &Path, environment: &Environment) -> Result<(), String> {
    let migration = program(binaries, "view-syncd", environment).arg("migrate").start();
    let exit = migration.wait_exit().await;
    if exit.success() { Ok(()) } else { Err(format!("{exit}:\n{}", migration.output().join("\n"))) }
}

impl Ingest {
    /// Starts view-ingest, and waits until each of its workers has its connection to Redis. Without one, views go
    /// straight into PostgreSQL, and there would be nothing to see in Redis.
    pub(crate) async fn start(builder: DaemonBuilder, public: &str, admin: &str) -> Self {
        let daemon = builder.env("VIEW_INGEST_LISTEN", public).env("VIEW_INGEST_ADMIN_LISTEN", admin).start();
        let (public, admin) = (daemon.wait_for_listening("public").await, daemon.wait_for_listening("admin").await);
        let started = daemon.wait_for_line("view-ingest started").await;
        let workers = started.split_once("workers=").map_or("", |(_, rest)| rest.split(' ').next().unwrap_or_default());
        daemon.wait_for_nth_line(workers.parse().unwrap_or(1), "Redis connected").await;
        wait_until_ready(&daemon, admin).await;
        Self { daemon, public, admin }
    }
}

impl Syncd {
    /// Starts view-syncd and waits until it is ready.
    pub(crate) async fn start(builder: DaemonBuilder, admin: &str) -> Self {
        let daemon = builder.env("VIEW_SYNCD_ADMIN_LISTEN", admin).start();
        let admin = daemon.wait_for_listening("admin").await;
        wait_until_ready(&daemon, admin).await;
        Self { daemon, admin }
    }
}

/// Returns whether a daemon's stores answer it.
pub(crate) async fn is_ready(admin: SocketAddr) -> bool {
    status(admin, "GET", "/readyz", &[]).await == 200
}

/// Returns the status of an answer; 0 where there is none.
pub(crate) async fn status(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    let answer = Client::without_keep_alive(address).try_request(method, path, headers, "").await;
    answer.map_or(0, |answer| answer.status)
}

async fn wait_until_ready(daemon: &Daemon, admin: SocketAddr) {
    // There is no use in waiting for the answer of a process that has ended.
    let settled = within(READY, async || is_ready(admin).await || !daemon.is_running()).await;
    assert!(settled.is_ok() && daemon.is_running(), "a daemon does not start");
}

/// Asks a daemon to stop, and returns how it ended.
pub(crate) async fn stop(daemon: &Daemon) -> String {
    if daemon.is_running() {
        daemon.signal("TERM");
    }
    end_of(daemon).await
}

/// Waits for the end of a daemon that has been asked to stop already, and returns its exit status. One that does not
/// stop is killed.
pub(crate) async fn end_of(daemon: &Daemon) -> String {
    match timeout(STOPPED, daemon.wait_exit_within(Duration::MAX)).await {
        Ok(exit) => exit.code().map_or_else(|| exit.to_string(), |code| code.to_string()),
        Err(_) => {
            daemon.kill9().await;
            format!("killed after {STOPPED:?}")
        }
    }
}
