//! HAProxy with the project's own sample configuration, `deploy/haproxy.cfg`.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::ports;
use crate::process::Daemon;
use crate::scratch::Scratch;
use crate::{SOON, eventually};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/haproxy.cfg");
/// A server is checked every second, and is up or down after two checks at most. On a busy machine that takes longer.
const CHECKED: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const START_ATTEMPTS: usize = 5;

/// An HAProxy in front of two view-ingest, on a free port of 127.0.0.1. Dropping it ends it.
pub struct HaProxy {
    _daemon: Daemon,
    address: SocketAddr,
    address_v6: Option<SocketAddr>,
    scratch: Scratch,
}

impl HaProxy {
    /// Starts it with the sample configuration, in which only addresses are replaced: its own and those of the servers
    /// behind it.
    ///
    /// # Panics
    /// When HAProxy is not installed.
    pub async fn start(ingest: [SocketAddr; 2], syncd: SocketAddr) -> Self {
        let program = program();
        for _ in 0..START_ATTEMPTS {
            let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
            let address_v6 = has_ipv6().then(|| SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())));
            let scratch = Scratch::new();
            let file = scratch.write("haproxy.cfg", configuration(address, address_v6, ingest, syncd));
            let log = scratch.write("log", "");
            // The log has a line for each request, and many tests' worth of them; a file takes them in without being
            // looked at.
            let daemon = Daemon::builder("sh")
                .args(["-c", r#"exec "$0" -db -f "$1" >"$2""#])
                .args([program.as_path(), &file, &log])
                .start();
            let answers = || async { TcpStream::connect(address).await.is_ok() || !daemon.is_running() };
            eventually("HAProxy listens", SOON, answers).await;
            if daemon.is_running() {
                return Self { _daemon: daemon, address, address_v6, scratch };
            }
            let output = daemon.output().join("\n");
            // Another process may have taken the port between its choice and its use.
            assert!(output.contains("cannot bind socket"), "HAProxy did not start:\n{output}");
        }
        panic!("no port was free for HAProxy");
    }

    /// Returns where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns where clients connect to over IPv6, if this machine has it.
    pub fn address_v6(&self) -> Option<SocketAddr> {
        self.address_v6
    }

    /// Returns how often HAProxy has found that a server, by its name in the configuration, has come `"UP"` or gone
    /// `"DOWN"`.
    pub fn changes(&self, server: &str, state: &str) -> usize {
        let line = format!("Server ingest/{server} is {state}");
        self.log().lines().filter(|logged| logged.starts_with(&line)).count()
    }

    /// Waits until HAProxy has found `number` times that a server has come `"UP"` or gone `"DOWN"`.
    pub async fn wait_for_change(&self, server: &str, state: &str, number: usize) {
        eventually("HAProxy notices the change of a server", CHECKED, || async {
            let noticed = self.changes(server, state) >= number;
            if !noticed {
                // The log is long, and reading it over and over again would keep a small machine from everything else.
                sleep(LOOK_AGAIN).await;
            }
            noticed
        })
        .await;
    }

    /// What HAProxy has logged: each request, and each change of a server.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).expect("the log can be read")
    }
}

fn configuration(address: SocketAddr, address_v6: Option<SocketAddr>, ingest: [SocketAddr; 2], syncd: SocketAddr) -> String {
    let mut text = std::fs::read_to_string(SAMPLE).unwrap_or_else(|error| panic!("cannot read {SAMPLE}: {error}"));
    let bind = address_v6.map_or_else(|| address.to_string(), |v6| format!("{address},{v6}"));
    // With what stands before the address, which distinguishes it from the other ones and from those that take its place.
    let replaced = [
        ("bind ", ":8080", bind),
        ("server ingest1 ", "127.0.0.1:3001", ingest[0].to_string()),
        ("server ingest2 ", "127.0.0.1:3011", ingest[1].to_string()),
        ("server syncd ", "127.0.0.1:3002", syncd.to_string()),
    ];
    for (before, sample, actual) in replaced {
        let sample = format!("{before}{sample}");
        assert_eq!(text.matches(&sample).count(), 1, "{SAMPLE} has {sample:?} once");
        text = text.replace(&sample, &format!("{before}{actual}"));
    }
    text
}

fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|interfaces| !interfaces.is_empty())
}

/// Returns the path of HAProxy, which Debian keeps in a folder that is not in every user's `PATH`.
///
/// # Panics
/// When it is not installed.
pub fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]);
    folders
        .map(|folder| folder.join("haproxy"))
        .find(|program| program.is_file())
        .expect("haproxy is missing: install it with `apt-get install haproxy`, or run deploy/test, which does")
}
