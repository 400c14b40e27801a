//! The start-up order of view-syncd.

use std::process::ExitCode;

use view_syncd::{
    cli::{self, Command},
    commands, daemon,
};
use views_service::{level_signals, telemetry};

fn main() -> ExitCode {
    level_signals::follow();
    let settings = match cli::read(std::env::args_os()) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let (command, settings) = settings.into_parts();
    match &command {
        Command::Daemon(_) | Command::Sync | Command::Migrate(_) | Command::Claim => telemetry::start(settings.logs),
        _ => telemetry::start_aside(settings.logs),
    }
    // One thread: the work is one step after the other, and each step that wakes another thread costs more than most
    // steps do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match command {
            Command::Daemon(daemon) => daemon::run::run(settings.sync, *daemon).await,
            Command::Sync => commands::sync::run(settings.sync).await,
            Command::Dead(action) => commands::dead::run(settings.sync, action).await,
            Command::Doctor(doctor) => commands::doctor::run(settings.sync, *doctor).await,
            Command::Explain(explain) => commands::explain::run(settings.sync, explain).await,
            Command::Status(status) => commands::status::run(settings.sync, status).await,
            Command::Adopt(adopt) => commands::adopt::run(settings.sync, adopt).await,
            Command::Claim => commands::claim::run(settings.sync).await,
            Command::Migrate(options) => commands::migrate::run(settings.sync, options).await,
            Command::Forget(options) => commands::forget::run(settings.sync, options).await,
            Command::Reconcile(options) => commands::reconcile::run(settings.sync, options).await,
            Command::Recount(options) => commands::recount::run(settings.sync, options).await,
            Command::Warm(command) => commands::warm::run(settings.sync, command).await,
        }
    });
    // What still runs is an operator's connection: nobody waits for it.
    runtime.shutdown_background();
    let exit = result.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    });
    telemetry::finish();
    exit
}
