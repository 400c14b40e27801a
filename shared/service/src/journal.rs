//! Priorities for the journal of systemd: it takes them off the beginning of each line, so that `journalctl -p warning`
//! finds what it is asked for.

use std::{
    env, fmt, fs,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Writes the priority before each line, where the journal reads it.
pub(crate) struct WithPriority<F> {
    pub(crate) format: F,
    pub(crate) is_read_by_journal: bool,
}

impl<S, N, F> FormatEvent<S, N> for WithPriority<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.is_read_by_journal {
            write!(writer, "<{}>", priority(*event.metadata().level()))?;
        }
        self.format.format_event(context, writer, event)
    }
}

/// Returns the priority of syslog.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Returns whether it is the journal that reads a stream: systemd names the socket in the environment, which a process
/// hands on also to others, whose output goes elsewhere.
pub(crate) fn reads(stream: &impl AsRawFd) -> bool {
    let Ok(socket) = env::var("JOURNAL_STREAM") else { return false };
    let file = fs::metadata(format!("/proc/self/fd/{}", stream.as_raw_fd()));
    file.is_ok_and(|file| socket == format!("{}:{}", file.dev(), file.ino()))
}
