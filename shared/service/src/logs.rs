//! How much is logged, and in which form.

use clap::Args;
use tracing_subscriber::EnvFilter;
use views_core::settings::{Problems, Setting};

/// The flags of logging.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// What to log: error, warn, info, debug or trace, or a filter such as `info,view_ingest=debug`
    ///
    /// The default leaves out the lines of the Redis library, which reports each lost connection once more in its own words.
    #[arg(long, env = "LOG_LEVEL", default_value = "info,fred=error", value_name = "FILTER")]
    log_level: Setting,
    /// The form of log lines: text or json
    #[arg(long, env = "LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: Setting,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// Logging, as set.
#[derive(Debug)]
pub struct LogSettings {
    /// Which events are logged.
    pub filter: EnvFilter,
    /// The form of a line.
    pub format: LogFormat,
    /// What is told first: settings that should not stay as they are.
    pub warnings: Vec<String>,
}

impl LogArgs {
    /// Returns the settings and notes what is wrong with them. To be resolved last: it takes along the warnings that
    /// all other settings gave.
    pub fn resolve(&self, problems: &mut Problems) -> LogSettings {
        let format = problems.resolve(&self.log_format, |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => Err(format!("{other:?} is neither text nor json")),
        });
        let filter = problems.resolve(&self.log_level, |text| EnvFilter::try_new(text));
        LogSettings { filter, format, warnings: problems.take_warnings() }
    }
}
