//! schemathesis: requests that it makes out of the document, with all of its checks on the answers.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use testkit::scratch::Scratch;
use tokio::process::Command;
use tokio::time::{Instant, timeout_at};

use super::posts::VIEWER;
use super::target::Target;
use crate::repository;

const DOCUMENT: &str = "deploy/openapi.yaml";
const HOOKS: &str = "deploy/lib/hooks.py";
/// A browser's preflight without its headers is no preflight, but a method that there is not: 405.
const NOT_CHECKED: &str = "missing_required_header";
/// How long both runs together may take; they take a sixth of that where nothing else is going on.
pub(super) const RUN: Duration = Duration::from_secs(85);
/// Cases that are made up for each operation, beside the document's examples and the edges of every value.
const CASES: &str = "200";
const INGEST_PATHS: [&str; 7] =
    ["/posts/view", "/posts/views-batch", "/posts/{postId}/views", "/posts/views", "/posts/viewed", "/livez", "/readyz"];
const SYNCD_PATHS: [&str; 3] = ["/posts/sync-views", "/livez", "/readyz"];

/// How requests are made.
pub(super) struct Throw<'a> {
    pub(super) program: &'a Path,
    pub(super) seed: u32,
    pub(super) until: Instant,
}

impl Throw<'_> {
    /// Sends requests to view-ingest.
    pub(super) async fn at_ingest(&self, target: &mut Target) {
        let (address, token) = (target.ingest.public, target.stores.token(VIEWER));
        self.run(target, "view-ingest", address, &token, &INGEST_PATHS).await;
    }

    /// Sends requests to view-syncd.
    pub(super) async fn at_syncd(&self, target: &mut Target) {
        let (address, token) = (target.syncd.admin, target.stores.admin_token("administrator"));
        self.run(target, "view-syncd", address, &token, &SYNCD_PATHS).await;
    }

    async fn run(&self, target: &mut Target, name: &str, address: SocketAddr, token: &str, paths: &[&str]) {
        target.report.headline(&format!("schemathesis against {name} (http://{address}), seed {}", self.seed));
        // It leaves its own files where it is started.
        let folder = Scratch::new();
        let mut command = Command::new(self.program);
        command.current_dir(folder.path()).stdin(Stdio::null()).kill_on_drop(true);
        command.args(["--no-color", "run"]).arg(repository::path(DOCUMENT)).args(["--url", &format!("http://{address}")]);
        command.args(paths.iter().flat_map(|path| ["--include-path", path]));
        command.args([
            "--header",
            &format!("Authorization: Bearer {token}"),
            "--checks",
            "all",
            "--exclude-checks",
            NOT_CHECKED,
            "--mode",
            "all",
        ]);
        command.env("SCHEMATHESIS_HOOKS", repository::path(HOOKS));
        command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", CASES, "--seed", &self.seed.to_string()]);
        command.args(["--workers", "1", "--generation-database", "none", "--request-timeout", "10", "--continue-on-failure"]);
        let mut running = command.spawn().unwrap_or_else(|error| panic!("cannot run {}: {error}", self.program.display()));
        let outcome = match timeout_at(self.until, running.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(status.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("both runs took longer than {RUN:?}")),
        };
        target.report.holds(&format!("{name} keeps to deploy/openapi.yaml"), outcome);
    }
}
