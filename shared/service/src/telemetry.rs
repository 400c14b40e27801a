//! Logging to standard output, which systemd and containers collect; to standard error where the output is what a
//! command tells.

use std::io::{self, IsTerminal};

use tracing_subscriber::fmt::MakeWriter;

use crate::logs::{LogFormat, LogSettings};

/// Starts logging for the whole process. Called once, before anything logs.
pub fn start(settings: LogSettings) {
    start_on(settings, io::stdout, io::stdout().is_terminal());
}

/// Starts logging to standard error, for a command whose output others read.
pub fn start_aside(settings: LogSettings) {
    start_on(settings, io::stderr, io::stderr().is_terminal());
}

fn start_on(settings: LogSettings, stream: impl for<'w> MakeWriter<'w> + Send + Sync + 'static, is_terminal: bool) {
    let builder = tracing_subscriber::fmt().with_env_filter(settings.filter).with_target(false).with_writer(stream);
    // A second start would be a test's; the first one stays.
    let _ = match settings.format {
        LogFormat::Text => builder.with_ansi(is_terminal).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    for warning in settings.warnings {
        tracing::warn!("{warning}");
    }
}
