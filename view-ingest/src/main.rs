//! view-ingest: takes views over HTTP and records them in Redis. This file is the order in which it starts and stops.

mod app;
mod body;
mod cli;
mod connection;
mod handlers;
mod listener;
mod messages;
mod metrics;
mod places;
mod process;
mod reads;
mod recorder;
mod router;
mod viewer_rate;
mod watch;
mod worker;

use std::process::ExitCode;

use views_service::telemetry;

/// A request makes some dozens of small allocations, most of them inside the libraries.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let (settings, logs) = match cli::Settings::read() {
        Ok(read) => read,
        Err(exit) => return exit,
    };
    telemetry::start(logs);
    match process::run(settings) {
        Ok(exit) => exit,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
