//! A real browser: pages of another origin send views to view-ingest, also while they are being closed, and pages that
//! may not do so count nothing.

mod cases;
mod chromium;
mod demo;
mod forged;
mod module;
mod pages;
mod stage;

use std::path::PathBuf;

use self::stage::Stage;

/// How the browser is started.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder of view-ingest and view-syncd
    #[arg(long, value_name = "FOLDER")]
    binaries: PathBuf,
}

/// Checks everything and returns the exit status.
pub(crate) async fn run(options: &Options) -> u8 {
    let mut stage = Stage::start(&options.binaries).await;
    cases::check(&mut stage).await;
    module::check(&mut stage).await;
    forged::check(&mut stage).await;
    demo::check(&mut stage).await;
    stage.end().await
}
