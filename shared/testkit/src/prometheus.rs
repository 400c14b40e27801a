//! A private Prometheus, and `promtool`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::http::Client;
use crate::ports;
use crate::process::Daemon;
use crate::scratch::Scratch;
use crate::{SOON, eventually};

/// A Prometheus in a temporary folder, on a free port of 127.0.0.1. Dropping it ends it.
pub struct Prometheus {
    _daemon: Daemon,
    client: Client,
    address: SocketAddr,
    _scratch: Scratch,
}

impl Prometheus {
    /// Starts it with a configuration and the files that stand beside it, and waits until it is ready.
    ///
    /// # Panics
    /// When Prometheus is not installed, or refuses the configuration.
    pub async fn start(configuration: &str, files: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new();
        let file = scratch.write("prometheus.yml", configuration);
        for (name, contents) in files {
            scratch.write(name, contents);
        }
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let daemon = Daemon::builder(program("prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", scratch.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .start();
        let client = Client::new(address);
        eventually("Prometheus is ready", SOON, async || {
            assert!(daemon.is_running(), "Prometheus did not start:\n{}", daemon.output().join("\n"));
            client.try_request("GET", "/-/ready", &[], "").await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        Self { _daemon: daemon, client, address, _scratch: scratch }
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the result of a query: an array, of a series each.
    ///
    /// # Panics
    /// When Prometheus refuses it.
    pub async fn query(&self, query: &str) -> Vec<Value> {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
        let answer = self.client.get(&format!("/api/v1/query?{query}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// Returns the names of the alerts that fire.
    pub async fn firing(&self) -> BTreeSet<String> {
        let answer = self.client.get("/api/v1/alerts").await;
        let alerts = answer.json()["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect()
    }
}

/// Runs `promtool` and returns what it says; an error where it is not content.
///
/// # Errors
/// What it says.
///
/// # Panics
/// When it is not installed.
pub fn promtool(arguments: &[&str], input: Option<&Path>) -> Result<String, String> {
    let mut command = Command::new(program("promtool"));
    command.args(arguments);
    if let Some(input) = input {
        command.stdin(std::fs::File::open(input).unwrap_or_else(|error| panic!("cannot read {}: {error}", input.display())));
    }
    let output = command.output().expect("promtool can be started");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// Returns the path of one of Prometheus' programs.
///
/// # Panics
/// When it is not installed.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file());
    program.unwrap_or_else(|| {
        panic!("{name} is missing: install it with `apt-get install prometheus`, or run deploy/test, which does")
    })
}
