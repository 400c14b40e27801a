//! How much is logged, and what is a step more.

use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, ParseError},
};

/// What is logged when the filter says nothing.
const UNNAMED: &str = "error";
/// Makes the line that tells of a change visible, whatever the filter hides.
const OWN_LINES: &str = "views_service::telemetry=info";

/// Which lines are logged, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels(String);

impl Levels {
    /// Parses a level, or a filter such as `info,view_ingest=debug`.
    ///
    /// # Errors
    /// [`ParseError`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        EnvFilter::try_new(text)?;
        let text = text.trim();
        Ok(Self(if text.is_empty() { UNNAMED } else { text }.to_owned()))
    }

    /// Returns the filter.
    pub(crate) fn filter(&self) -> EnvFilter {
        // It has been parsed before.
        EnvFilter::new(&self.0)
    }

    /// Returns the same with the line about changes.
    pub(crate) fn filter_with_own_lines(&self) -> EnvFilter {
        EnvFilter::new(format!("{},{OWN_LINES}", self.0))
    }

    /// Returns the same with every level that it names one step more verbose.
    #[must_use]
    pub(crate) fn raised(&self) -> Self {
        Self(self.0.split(',').map(raise).collect::<Vec<_>>().join(","))
    }

    /// Returns the filter in words.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn raise(directive: &str) -> String {
    let (target, level) = directive.rsplit_once('=').map_or(("", directive), |(target, level)| (target, level));
    match level.trim().parse::<LevelFilter>() {
        Ok(level) if target.is_empty() => next(level).to_string(),
        Ok(level) => format!("{target}={}", next(level)),
        // The name of a module alone, all of whose lines are logged.
        Err(_) => directive.to_owned(),
    }
}

fn next(level: LevelFilter) -> LevelFilter {
    match level {
        LevelFilter::OFF => LevelFilter::ERROR,
        LevelFilter::ERROR => LevelFilter::WARN,
        LevelFilter::WARN => LevelFilter::INFO,
        LevelFilter::INFO => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_of_a_filter_is_raised_by_a_step_up_to_the_last() {
        for (filter, expected) in [
            ("info,fred=error", ["debug,fred=warn", "trace,fred=info", "trace,fred=debug", "trace,fred=trace"]),
            ("off", ["error", "warn", "info", "debug"]),
            ("", ["warn", "info", "debug", "trace"]),
            ("view_ingest", ["view_ingest"; 4]),
            ("WARN,x=1", ["info,x=warn", "debug,x=info", "trace,x=debug", "trace,x=trace"]),
            ("a[b{c=1}]=info", ["a[b{c=1}]=debug", "a[b{c=1}]=trace", "a[b{c=1}]=trace", "a[b{c=1}]=trace"]),
        ] {
            let mut levels = Levels::parse(filter).unwrap();
            for step in expected {
                levels = levels.raised();
                assert_eq!(levels.as_str(), step);
                EnvFilter::try_new(step).unwrap();
            }
        }
        assert!(Levels::parse("info,x=loud").is_err());
    }
}
