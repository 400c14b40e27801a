//! view-ingest: takes views over HTTP and records them in Redis. This file is the order in which it starts and stops.

mod api;
mod cli;
mod http;
mod metrics;
mod observed;
mod record;
mod startup;
mod worker;

use std::process::ExitCode;

use views_service::{level_signals, telemetry};

/// A request makes some dozens of small allocations, most of them inside the libraries.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    level_signals::follow();
    let (settings, logs) = match cli::Settings::read() {
        Ok(read) => read,
        Err(exit) => return exit,
    };
    telemetry::start(logs);
    let exit = startup::run(settings).unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    });
    telemetry::finish();
    exit
}
