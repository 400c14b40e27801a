//! Reading settings: every value arrives as text from a flag or its environment variable, and everything that is wrong is reported
//! together, so that an operator mends a unit file once and not once per mistake.

use std::{ffi::OsString, net::SocketAddr, path::Path, process::ExitCode, str::FromStr, time::Duration};

use clap::{CommandFactory, FromArgMatches, Parser};

use crate::{
    command_line,
    files::{self, Reading},
};

/// The exit status for wrong settings: `EX_USAGE` of BSD's `sysexits.h`.
pub const EXIT_USAGE: u8 = 64;
/// The exit status for a store that is not set up for this program: `EX_CONFIG` of BSD's `sysexits.h`.
pub const EXIT_CONFIG: u8 = 78;

/// Collects what is wrong with the settings while they are read.
#[derive(Debug, Default)]
pub struct Problems {
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Problems {
    /// Notes that the setting `name` is wrong, and why. The text must not repeat a secret.
    pub fn add(&mut self, name: &str, why: impl std::fmt::Display) {
        self.problems.push(format!("{name}: {}", without_credentials(&why.to_string())));
    }

    /// Notes what is no mistake, but should not stay as it is. It is logged with the start. The text must not repeat a secret.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// Gives the warnings away: there is a log for them now.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Whether nothing is wrong so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The complaints, in the order in which they were found.
    #[must_use]
    pub fn all(&self) -> &[String] {
        &self.problems
    }

    /// Reads a value by its type's own rules, or takes the default where none is given.
    pub fn parse<T: FromStr>(&mut self, name: &str, text: Option<&str>, default: T) -> T
    where
        T::Err: std::fmt::Display,
    {
        match given(text).map(T::from_str) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(error)) => {
                self.add(name, format_args!("{error} in {:?}", text.unwrap_or_default()));
                default
            }
        }
    }

    /// Reads a whole number within bounds.
    pub fn number(&mut self, name: &str, text: Option<&str>, default: usize, range: std::ops::RangeInclusive<usize>) -> usize {
        let number = self.parse(name, text, default);
        if !range.contains(&number) {
            self.add(name, format_args!("must be between {} and {}, not {number}", range.start(), range.end()));
        }
        number
    }

    /// Reads a length of time in words (`5m`, `24h`, `1s 500ms`), at least `least` long. A bare `0` needs no unit.
    pub fn duration(&mut self, name: &str, text: Option<&str>, default: Duration, least: Duration) -> Duration {
        let Some(text) = given(text) else { return default };
        match humantime::parse_duration(text) {
            Ok(duration) if duration < least => {
                self.add(name, format_args!("must be at least {}, not {text}", humantime::format_duration(least)));
                default
            }
            Ok(duration) if duration > LONGEST => {
                self.add(name, format_args!("must be at most {}, not {text}", humantime::format_duration(LONGEST)));
                default
            }
            Ok(duration) => duration,
            Err(error) => {
                self.add(name, format_args!("{text:?} is not a length of time such as 5m, 24h or 1s 500ms: {error}"));
                default
            }
        }
    }

    /// Reads an address to listen on: an IP address (or `localhost`) and a port.
    pub fn address(&mut self, name: &str, text: Option<&str>, default: &str) -> SocketAddr {
        let text = given(text).unwrap_or(default);
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        numeric.parse().unwrap_or_else(|_| {
            self.add(name, format_args!("{text:?} is not an address such as 127.0.0.1:3001 or [::]:3001"));
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    /// Reads a yes or no.
    pub fn switch(&mut self, name: &str, text: Option<&str>) -> bool {
        match given(text).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "0" | "no" | "off") => false,
            Some("true" | "1" | "yes" | "on") => true,
            Some(other) => {
                self.add(name, format_args!("{other:?} is neither true nor false"));
                false
            }
        }
    }

    /// Reads a setting that may stand in a file instead, because it holds a secret: `(name, text)` and `(name, path)`.
    ///
    /// Returns the name of the one that is given, and the text; `None` where neither is given, or the file cannot be used.
    pub fn text_or_file<'n>(
        &mut self,
        direct: (&'n str, Option<&str>),
        file: (&'n str, Option<&str>),
    ) -> Option<(&'n str, String)> {
        let path = match (given(direct.1), given(file.1)) {
            (text, None) => return text.and_then(|text| Some((direct.0, self.one_line(direct.0, text)?))),
            (Some(_), Some(_)) => {
                self.add(direct.0, format_args!("give only one of {} and {}", direct.0, file.0));
                return None;
            }
            (None, Some(path)) => Path::new(path),
        };
        let read = files::read(path, Reading::First);
        let read = read.map_err(|error| self.add(file.0, format_args!("cannot read {}: {error}", path.display()))).ok()?;
        // The library's error would show the text.
        let Ok(text) = std::str::from_utf8(read.bare()) else {
            self.add(file.0, format_args!("{} is no text in UTF-8", path.display()));
            return None;
        };
        let Some(text) = given(Some(text)) else {
            self.add(file.0, format_args!("{} is empty", path.display()));
            return None;
        };
        let text = self.one_line(file.0, text)?;
        if let Some(warning) = read.exposed(file.0) {
            self.warn(warning);
        }
        Some((file.0, text))
    }

    /// Returns a text that is one line. What else it may be is not repeated: it may hold a secret.
    fn one_line(&mut self, name: &str, text: &str) -> Option<String> {
        let text = text.trim_start_matches('\u{feff}');
        if text.contains(['\n', '\r']) {
            self.add(name, "has more than one line");
        } else if text.contains(|letter: char| letter.is_control() && letter != '\t') {
            self.add(name, "has control characters");
        } else {
            return Some(text.to_owned());
        }
        None
    }

    /// Gives the settings where nothing was wrong.
    ///
    /// # Errors
    /// These very problems where something was.
    pub fn into_result<T>(self, settings: T) -> Result<T, Problems> {
        if self.is_empty() { Ok(settings) } else { Err(self) }
    }

    /// Prints all complaints to standard error and gives the exit status for them.
    #[must_use]
    pub fn report(&self, program: &str) -> ExitCode {
        let count = self.problems.len();
        let noun = if count == 1 { "setting is" } else { "settings are" };
        eprintln!("{program}: {count} {noun} wrong:");
        for problem in &self.problems {
            eprintln!("  {problem}");
        }
        eprintln!("`{program} --help` lists the settings.");
        ExitCode::from(EXIT_USAGE)
    }
}

/// No setting means more than this; beyond it, deadlines would overflow the clock.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Leaves out who logs in where a text repeats a URL, which was meant for another setting.
fn without_credentials(text: &str) -> String {
    match text.split_once("://").and_then(|(before, rest)| Some((before, rest.rsplit_once('@')?))) {
        // What our own examples say.
        None | Some((_, ("user:password", _))) => text.to_owned(),
        Some((before, (_, host))) => format!("{before}://…@{host}"),
    }
}

/// A setting that is given, but empty, counts as not given: `REDIS_PASSWORD=` in an environment file means no password.
#[must_use]
pub fn given(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

/// Parses the command line and the environment.
///
/// # Errors
/// The exit status to end with, after the help text (0) or the complaint (64) has been printed.
pub fn parse_args<A: Parser + CommandFactory + FromArgMatches>(args: impl IntoIterator<Item = OsString>) -> Result<A, ExitCode> {
    A::try_parse_from(args).map_err(|error| command_line::tell(&A::command(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_wrong_is_reported_together() {
        let mut problems = Problems::default();
        problems.duration("--interval", Some("soon"), Duration::ZERO, Duration::ZERO);
        problems.address("--listen", Some("nowhere"), "127.0.0.1:1");
        problems.number("--workers", Some("0"), 1, 1..=8);
        problems.switch("--reads-require-token", Some("perhaps"));
        assert_eq!(problems.all().len(), 4, "{:?}", problems.all());
        assert!(problems.into_result(()).is_err());
    }

    #[test]
    fn a_url_that_was_meant_for_another_setting_is_told_without_its_password() {
        let mut problems = Problems::default();
        let url = "postgres://u:hid@hid/den@db/app";
        problems.duration("--interval", Some(url), Duration::ZERO, Duration::ZERO);
        problems.address("--listen", Some(url), "127.0.0.1:1");
        problems.switch("--reads-require-token", Some(url));
        problems.parse("REDIS_PORT", Some(url), 1_u16);
        let all = problems.all().join("\n");
        assert!(problems.all().len() == 4 && !all.contains("hid") && all.matches("postgres://…@db/app").count() == 4, "{all}");
        assert_eq!(without_credentials("as redis://user:password@host (no)"), "as redis://user:password@host (no)");
    }

    #[test]
    fn durations_are_read_in_words() {
        let mut problems = Problems::default();
        let mut read = |text| problems.duration("--linger", Some(text), Duration::ZERO, Duration::ZERO);
        assert_eq!(read("5m"), Duration::from_secs(300));
        assert_eq!(read("24h"), Duration::from_secs(86_400));
        assert_eq!(read("1s 500ms"), Duration::from_millis(1_500));
        assert_eq!(read("0"), Duration::ZERO);
        assert!(problems.is_empty(), "{:?}", problems.all());
    }

    #[test]
    fn a_duration_that_no_clock_can_hold_is_refused() {
        let mut problems = Problems::default();
        problems.duration("--interval", Some("100000years"), Duration::ZERO, Duration::ZERO);
        problems.duration("--view-ttl", Some("0s"), Duration::from_secs(60), Duration::from_secs(1));
        assert_eq!(problems.all().len(), 2);
    }

    #[test]
    fn an_empty_setting_counts_as_not_given() {
        let mut problems = Problems::default();
        assert_eq!(problems.number("--workers", Some(" "), 3, 1..=8), 3);
        assert_eq!(problems.address("--listen", Some(""), "127.0.0.1:3001").port(), 3001);
        assert!(problems.is_empty());
    }
}
