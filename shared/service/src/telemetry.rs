//! Logging to standard output, which systemd and containers collect; to standard error where the output is what a
//! command tells.

use std::{
    env,
    io::{self, IsTerminal},
    os::fd::AsRawFd,
    sync::{Mutex, OnceLock, PoisonError},
};

use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    fmt::{self, format::JsonFields},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};
use views_core::log_names;

use crate::{
    journal::{self, WithPriority},
    levels::Levels,
    logs::{LogFormat, LogSettings},
    repetitions::Repetitions,
};

/// The logging of the process, once it has started.
static LOGGING: OnceLock<Logging> = OnceLock::new();

struct Logging {
    repetitions: Repetitions,
    configured: Levels,
    /// What is logged now.
    now: Mutex<Levels>,
    set: Box<dyn Fn(EnvFilter) + Send + Sync>,
}

/// Starts logging for the whole process. Called once, before anything logs.
pub fn start(settings: LogSettings) {
    start_on(settings, io::stdout);
}

/// Starts logging to standard error, for a command whose output others read.
pub fn start_aside(settings: LogSettings) {
    start_on(settings, io::stderr);
}

/// Writes what is yet to be told. Called last.
pub fn finish() {
    if let Some(logging) = LOGGING.get() {
        logging.repetitions.tell_rest();
    }
}

/// Logs one step more.
pub(crate) fn more() {
    if let Some(logging) = LOGGING.get() {
        logging.change("SIGUSR1", "one step more is logged", Levels::raised);
    }
}

/// Logs what is configured.
pub(crate) fn as_configured() {
    if let Some(logging) = LOGGING.get() {
        logging.change("SIGUSR2", "what is configured is logged", |_| logging.configured.clone());
    }
}

impl Logging {
    fn change(&self, signal: &str, what: &str, next: impl Fn(&Levels) -> Levels) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = next(&now);
        (self.set)(now.filter_with_own_lines());
        tracing::info!(filter = now.as_str(), "{signal}: {what}");
    }
}

fn start_on<W>(settings: LogSettings, stream: impl Fn() -> W + Send + Sync + 'static)
where
    W: io::Write + IsTerminal + AsRawFd + 'static,
{
    let is_terminal = stream().is_terminal();
    let is_read_by_journal = journal::reads(&stream());
    let (lines, format) = (fmt::layer().with_writer(stream), fmt::format().with_target(false));
    let lines = match settings.format {
        LogFormat::Text => {
            let format = format.with_ansi(is_terminal && wants_colours());
            lines.event_format(WithPriority { format, is_read_by_journal }).boxed()
        }
        LogFormat::Json => {
            let format = format.json().flatten_event(true);
            lines.event_format(WithPriority { format, is_read_by_journal }).fmt_fields(JsonFields::new()).boxed()
        }
    };
    let (filter, handle) = reload::Layer::new(settings.levels.filter());
    let repetitions = Repetitions::new();
    // A second start would be a test's; the first one stays.
    if Registry::default().with(lines).with(repetitions.clone()).with(filter).try_init().is_ok() {
        repetitions.tell_in_time();
        // The subscriber lives as long as the process, so there is one to be changed.
        let set = Box::new(move |filter| drop(handle.reload(filter)));
        let now = Mutex::new(settings.levels.clone());
        let _ = LOGGING.set(Logging { repetitions, configured: settings.levels, now, set });
    }
    for warning in settings.warnings {
        tracing::warn!(name: log_names::STATE, "{warning}");
    }
}

/// Returns whether the environment does not ask for plain text (<https://no-color.org>).
fn wants_colours() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
