//! How much is logged, and in which form.

use clap::Args;
use views_core::settings::{Problems, Setting};

use crate::levels::Levels;

/// The flags of logging.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// What to log: error, warn, info, debug or trace, or a filter such as `info,view_ingest=debug`
    ///
    /// The default leaves out the lines of the libraries for both stores, which report each lost connection once more in
    /// their own words.
    ///
    /// While the process runs, SIGUSR1 raises every level of the filter by one step, and SIGUSR2 brings back the
    /// configured one.
    #[arg(long, env = "LOG_LEVEL", default_value = "info,fred=error,deadpool.postgres=error", value_name = "FILTER")]
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
    pub levels: Levels,
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
        let levels = problems.resolve(&self.log_level, Levels::parse);
        LogSettings { levels, format, warnings: problems.take_warnings() }
    }
}
