//! HAProxy and nginx, each with the project's own sample configuration.

mod haproxy;
mod nginx;
mod sample;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

pub use self::sample::Place;
use crate::ports;
use crate::process::{Daemon, DaemonBuilder};
use crate::scratch::Scratch;
use crate::{SOON, eventually};

/// A server that has come back is noticed within a second or two. On a busy machine that takes longer.
const NOTICED: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const START_ATTEMPTS: usize = 5;
/// The file with a line for each request.
const LOG: &str = "log";

/// A load balancer in front of two view-ingest, on a free port of 127.0.0.1. Dropping it ends it.
pub struct LoadBalancer {
    daemon: Daemon,
    kind: Kind,
    place: Place,
    scratch: Scratch,
}

/// The programs that there is a sample configuration for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `deploy/haproxy.cfg`.
    HaProxy,
    /// `deploy/nginx.conf`.
    Nginx,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::HaProxy, Self::Nginx];

    /// Returns the sample's path from the root of the repository.
    pub fn sample(self) -> &'static str {
        match self {
            Self::HaProxy => haproxy::SAMPLE,
            Self::Nginx => nginx::SAMPLE,
        }
    }

    /// Returns a command that checks a configuration, and ends with 0 where it is one. It writes into a folder.
    ///
    /// # Panics
    /// When the program is not installed.
    pub fn check(self, text: &str, folder: &Scratch) -> std::process::Command {
        let (program, arguments) = match self {
            Self::HaProxy => (program("haproxy"), haproxy::check(text, folder)),
            Self::Nginx => (program("nginx"), nginx::check(text, folder)),
        };
        let mut command = std::process::Command::new(program);
        command.args(arguments);
        command
    }

    fn start(self, place: &Place, folder: &Scratch) -> DaemonBuilder {
        match self {
            Self::HaProxy => haproxy::start(&program("haproxy"), place, &folder.path().join(LOG), folder),
            Self::Nginx => nginx::start(&program("nginx"), place, &folder.path().join(LOG), folder),
        }
    }

    /// What the line of a request has when a server has answered it.
    fn mark(self, place: &Place, server: usize) -> String {
        match self {
            Self::HaProxy => haproxy::mark(server),
            Self::Nginx => nginx::mark(place, server),
        }
    }
}

impl LoadBalancer {
    /// Starts it with the sample configuration, in which only addresses are replaced: its own and those of the servers
    /// behind it.
    ///
    /// # Panics
    /// When the program is not installed.
    pub async fn start(kind: Kind, ingest: [SocketAddr; 2], syncd: SocketAddr) -> Self {
        let mut output = String::new();
        for _ in 0..START_ATTEMPTS {
            let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
            let address_v6 = has_ipv6().then(|| SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())));
            let place = Place { address, address_v6, ingest, syncd };
            let scratch = Scratch::new();
            scratch.write(LOG, "");
            let daemon = kind.start(&place, &scratch).start();
            let answers = || async { TcpStream::connect(address).await.is_ok() || !daemon.is_running() };
            eventually("the load balancer listens", SOON, answers).await;
            if daemon.is_running() {
                return Self { daemon, kind, place, scratch };
            }
            output = daemon.output().join("\n");
            // Another process may have taken the port between its choice and its use.
            let is_taken = ["cannot bind socket", "bind() to"].iter().any(|words| output.contains(words));
            assert!(is_taken, "{kind:?} did not start:\n{output}");
        }
        panic!("no port was free for {kind:?}:\n{output}");
    }

    /// Returns where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.place.address
    }

    /// Returns where clients connect to over IPv6, if this machine has it.
    pub fn address_v6(&self) -> Option<SocketAddr> {
        self.place.address_v6
    }

    /// Waits until one of the servers, by its place, answers a further request.
    pub async fn wait_until_served_by(&self, server: usize) {
        let mark = self.kind.mark(&self.place, server);
        let mut log = File::open(self.scratch.path().join(LOG)).expect("the log can be read");
        log.seek(SeekFrom::End(0)).expect("a file has an end");
        let mut news = String::new();
        eventually("a server gets requests", NOTICED, || {
            log.read_to_string(&mut news).expect("the log is text");
            let is_served = news.contains(&mark);
            async move {
                if !is_served {
                    // The log is long, and reading it over and over again would keep a small machine from everything else.
                    sleep(LOOK_AGAIN).await;
                }
                is_served
            }
        })
        .await;
    }

    /// What it has logged: each request, and what it says of itself.
    pub fn log(&self) -> String {
        let requests = std::fs::read_to_string(self.scratch.path().join(LOG)).expect("the log can be read");
        requests + &self.daemon.output().join("\n")
    }
}

fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|interfaces| !interfaces.is_empty())
}

/// Returns the path of a program, which Debian keeps in a folder that is not in every user's `PATH`.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]);
    let found = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: install it, or run deploy/test, which does"))
}
