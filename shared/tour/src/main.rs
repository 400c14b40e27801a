//! What `deploy/try`, `deploy/check-samples`, `deploy/check-package`, `deploy/adopt-samples`, `deploy/check-browsers` and
//! `deploy/hostile` do, once everything is installed and built: daemons on private stores, which nobody else can use and which are removed
//! however this ends.

mod adoption;
mod browsers;
mod daemons;
mod demo_page;
mod hostile;
mod journey;
mod package;
mod report;
mod repository;
mod samples;
mod shell;
mod signals;
mod site;
mod stores;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::signals::Signals;

/// Wrong usage, as both daemons report it.
const EXIT_USAGE: u8 = 64;
const EXIT_FAILURE: u8 = 1;

/// Tries view-ingest and view-syncd on private stores.
#[derive(Debug, Parser)]
#[command(name = "tour")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follows one view on its way, and shows the commands that repeat each step by hand
    Journey(journey::Options),
    /// Has each sample configuration read by the program that it is for
    Samples(samples::Options),
    /// Brings in the views of public applications' tables, and counts on
    Adoption(adoption::Options),
    /// Has pages in a real browser send views
    Browsers(browsers::Options),
    /// Installs, upgrades and removes the Debian package, in a copy of this system
    Package(package::Options),
    /// Sends what schemathesis makes of deploy/openapi.yaml, and what strangers may send
    Hostile(hostile::Options),
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Nobody can be told that nobody can be told.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("no runtime");
    // The test kit panics where a server or a daemon does not start. Its destructors end everything then, and the
    // status is that of a failure.
    let status = catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(&args.command))));
    ExitCode::from(status.unwrap_or(EXIT_FAILURE))
}

/// Runs a command until it ends or is told to, and returns the exit status.
async fn run(command: &Command) -> u8 {
    let mut signals = Signals::listen();
    match command {
        Command::Journey(options) => journey::run(options, &mut signals).await,
        Command::Samples(options) => tokio::select! {
            status = samples::run(options) => status,
            status = signals.stop() => status,
        },
        Command::Adoption(options) => tokio::select! {
            status = adoption::run(options) => status,
            status = signals.stop() => status,
        },
        Command::Browsers(options) => tokio::select! {
            status = browsers::run(options) => status,
            status = signals.stop() => status,
        },
        Command::Package(options) => tokio::select! {
            status = package::run(options) => status,
            status = signals.stop() => status,
        },
        Command::Hostile(options) => tokio::select! {
            status = hostile::run(options) => status,
            status = signals.stop() => status,
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Args;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }
}
