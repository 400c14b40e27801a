//! One view's journey: each step is shown as the command that repeats it by hand, with its real output, and then checked.

mod drain;
mod exports;
mod forget;
mod guide;
mod many;
mod metrics;
mod older_service;
mod page;
mod people;
mod redis;
mod stay;
mod stop;
mod sync;
mod view;

use std::io::Write;
use std::path::PathBuf;

use self::guide::Guide;
use crate::signals::Signals;

/// How the journey is made.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Unattended: stops both daemons at the end and exits 0 or 1, instead of staying up until Ctrl-C
    #[arg(long)]
    once: bool,
    /// The folder of view-ingest and view-syncd
    #[arg(long, value_name = "FOLDER")]
    binaries: PathBuf,
}

/// Makes the journey and returns the exit status. A signal ends it early.
pub(crate) async fn run(options: &Options, signals: &mut Signals) -> u8 {
    let mut guide = None;
    let status = tokio::select! {
        status = travel(&mut guide, options) => status,
        status = signals.stop() => {
            // Perhaps the terminal is gone.
            let _ = writeln!(std::io::stdout(), "\nStopping both daemons, then the stores");
            status
        }
    };
    if let Some(guide) = guide {
        guide.end().await;
    }
    status
}

async fn travel(place: &mut Option<Guide>, options: &Options) -> u8 {
    let guide = place.insert(Guide::start(&options.binaries, options.once).await);
    guide.prepare().await;
    view::arrive(guide).await;
    redis::look(guide).await;
    drain::follow(guide).await;
    older_service::imitate(guide).await;
    many::view(guide).await;
    sync::ask(guide).await;
    forget::everything(guide).await;
    metrics::look(guide).await;
    page::look(guide).await;
    if options.once {
        stop::look(guide).await;
        let status = guide.report.verdict();
        guide.show_logs_of_a_failure();
        return status;
    }
    guide.show_logs_of_a_failure();
    stay::until_something_ends(guide).await
}
