//! Logging to standard output, which systemd and containers collect.

use std::io::IsTerminal;

use crate::settings::{LogFormat, LogSettings};

/// Starts logging for the whole process. Called once, before anything logs.
pub fn start(settings: LogSettings) {
    let builder = tracing_subscriber::fmt().with_env_filter(settings.filter).with_target(false);
    // A second start would be a test's; the first one stays.
    let _ = match settings.format {
        LogFormat::Text => builder.with_ansi(std::io::stdout().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
