//! Tables of public applications, whose views are brought in with the documented commands and counted on by both
//! daemons; and the documentation's way from an older service and back.

mod chapter;
mod check;
mod finding;
mod layout;
mod layouts;
mod older_service;
mod walk;

use std::path::{Path, PathBuf};

use self::{finding::Finding, layout::Layout, layouts::LAYOUTS};
use crate::{report::Report, stores::Stores};

/// What the layouts are tried with.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder of view-ingest and view-syncd
    #[arg(long, value_name = "FOLDER")]
    binaries: PathBuf,
}

/// Tries all layouts and returns the exit status.
pub(crate) async fn run(options: &Options) -> u8 {
    let binaries = options.binaries.canonicalize();
    let binaries = binaries.unwrap_or_else(|error| panic!("no folder {}: {error}", options.binaries.display()));
    let mut report = Report::in_full("adoption");
    let stores = Stores::start().await;
    let (first, second) = LAYOUTS.split_at(LAYOUTS.len() / 2);
    let (first, second, chapter) =
        tokio::join!(all(first, &binaries, &stores), all(second, &binaries, &stores), walk::walk(&binaries, &stores));
    for Finding { what, outcome } in first.into_iter().chain(second).chain(chapter) {
        report.holds(&what, outcome);
    }
    let status = report.verdict();
    if !report.is_good() {
        report.show_logs(stores.logs());
    }
    status
}

async fn all(layouts: &[Layout], binaries: &Path, stores: &Stores) -> Vec<Finding> {
    let mut findings = Vec::new();
    for layout in layouts {
        findings.extend(check::check(layout, binaries, stores).await);
    }
    findings
}
