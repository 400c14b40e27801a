//! Hostile requests: what schemathesis makes of `deploy/openapi.yaml`, good requests and bad ones, and what strangers
//! without a token may send. Every answer must be one that the document promises, and afterwards both daemons must be
//! well and the views where they belong.

mod cost;
mod posts;
mod target;
mod throw;
mod wellness;

use std::path::PathBuf;

use tokio::time::Instant;

use self::target::Target;
use self::throw::Throw;

/// How the requests are made.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The same seed sends the same requests
    #[arg(default_value_t = 20, value_parser = clap::value_parser!(u32).range(..1_000_000_000))]
    seed: u32,
    /// The folder of view-ingest and view-syncd
    #[arg(long, value_name = "FOLDER")]
    binaries: PathBuf,
    /// The program that makes requests out of the document
    #[arg(long, value_name = "PROGRAM")]
    schemathesis: PathBuf,
}

/// Sends everything and returns the exit status.
pub(crate) async fn run(options: &Options) -> u8 {
    let mut target = Target::start(&options.binaries).await;
    let throw = Throw { program: &options.schemathesis, seed: options.seed, until: Instant::now() + throw::RUN };
    throw.at_ingest(&mut target).await;
    throw.at_syncd(&mut target).await;
    wellness::check(&mut target).await;
    let queries = cost::measure(&mut target).await;
    target.end().await;
    cost::check_queries(&mut target, queries).await;
    let status = target.report.verdict();
    target.show_logs_of_a_failure();
    status
}
