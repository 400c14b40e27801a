//! How much is logged, and in which form.

use clap::Args;
use tracing_subscriber::EnvFilter;
use views_core::settings::{Problems, given};

/// The Redis library reports each lost connection once more in its own words, which are left out.
const DEFAULT_FILTER: &str = "info,fred=error";

/// The flags of logging.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// What to log: error, warn, info, debug or trace, or a filter such as `info,view_ingest=debug` [default: info]
    #[arg(long, env = "LOG_LEVEL", value_name = "FILTER")]
    log_level: Option<String>,
    /// The form of log lines: text or json [default: text]
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<String>,
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
    /// Reads the flags and notes what is wrong with them. To be read last: it takes along the warnings that all other settings gave.
    pub fn read(&self, problems: &mut Problems) -> LogSettings {
        let format = match given(self.log_format.as_deref()) {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => {
                problems.add("--log-format", format_args!("{other:?} is neither text nor json"));
                LogFormat::Text
            }
        };
        let filter = given(self.log_level.as_deref()).unwrap_or(DEFAULT_FILTER);
        let filter = EnvFilter::try_new(filter).unwrap_or_else(|error| {
            problems.add("--log-level", error);
            EnvFilter::new(DEFAULT_FILTER)
        });
        LogSettings { filter, format, warnings: problems.take_warnings() }
    }
}
