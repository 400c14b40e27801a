//! What the requests are sent to: both daemons on private stores.

use std::path::Path;

use super::posts;
use crate::daemons::{self, ANY_PORT, Ingest, Syncd, migrate, program};
use crate::report::Report;
use crate::stores::Stores;

/// The origin in the examples of the document.
const PAGE: &str = "https://site.example";

/// The daemons, the stores and the results.
pub(super) struct Target {
    pub(super) report: Report,
    pub(super) stores: Stores,
    pub(super) ingest: Ingest,
    pub(super) syncd: Syncd,
}

impl Target {
    /// Starts everything, with posts to view.
    pub(super) async fn start(binaries: &Path) -> Self {
        let report = Report::new("hostile");
        report.headline("Starting private stores and both daemons");
        let stores = Stores::start().await;
        posts::create(&stores).await;
        let environment = stores.environment(&stores.database.url());
        migrate(binaries, &environment).await.unwrap_or_else(|reason| panic!("view-syncd migrate: {reason}"));
        let ingest = program(binaries, "view-ingest", &environment).args(["--cors-origin", PAGE, "--jwt-cookie", "token"]);
        let ingest = Ingest::start(ingest, ANY_PORT, ANY_PORT).await;
        let syncd = program(binaries, "view-syncd", &environment).args(["--linger", "100ms"]);
        let syncd = Syncd::start(syncd, ANY_PORT).await;
        Self { report, stores, ingest, syncd }
    }

    /// Returns all that both daemons have logged.
    pub(super) fn log_lines(&self) -> Vec<String> {
        [self.ingest.daemon.output(), self.syncd.daemon.output()].concat()
    }

    /// Ends both daemons. One that is well ends well.
    pub(super) async fn end(&mut self) {
        for (name, daemon) in [("view-ingest", &self.ingest.daemon), ("view-syncd", &self.syncd.daemon)] {
            let status = daemons::stop(daemon).await;
            self.report.check(&format!("exit status of {name}"), 0, status);
        }
    }

    /// Prints the ends of all logs, if anything was wrong.
    pub(super) fn show_logs_of_a_failure(&self) {
        if !self.report.is_good() {
            self.report.show_logs(self.stores.logs());
            let daemons = [("view-ingest", &self.ingest.daemon), ("view-syncd", &self.syncd.daemon)];
            self.report.show_logs(daemons.map(|(name, daemon)| (name.to_owned(), daemon.output().join("\n"))));
        }
    }
}
