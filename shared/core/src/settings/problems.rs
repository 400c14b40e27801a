//! Collects what is wrong with the settings, so that it is reported together.

use std::{fmt::Display, net::SocketAddr, ops::RangeInclusive, path::Path, process::ExitCode, str::FromStr, time::Duration};

use super::{EXIT_USAGE, Setting, parse};
use crate::files::{self, Reading};

/// What is wrong with the settings, collected while they are resolved.
#[derive(Debug, Default)]
pub struct Problems {
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Problems {
    /// Notes that the setting `name` is wrong, and why. The text must not repeat a secret.
    pub fn add(&mut self, name: &str, why: impl Display) {
        self.problems.push(format!("{name}: {}", without_credentials(&why.to_string())));
    }

    /// Notes what is no mistake, but should not stay as it is. It is logged with the start. The text must not repeat a
    /// secret.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// Returns the warnings and forgets them: there is a log for them now.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Returns whether nothing is wrong so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Returns the complaints, in the order in which they were found.
    #[must_use]
    pub fn all(&self) -> &[String] {
        &self.problems
    }

    /// Returns what a setting with a default means. Where it is wrong, that is noted and the default is returned.
    ///
    /// # Panics
    /// When the default itself is wrong.
    pub fn resolve<T, E: Display>(&mut self, setting: &Setting, parse: impl Fn(&str) -> Result<T, E>) -> T {
        parse(setting.text()).unwrap_or_else(|error| {
            self.add(setting.name(), error);
            parse(setting.default()).unwrap_or_else(|error| panic!("the default of {}: {error}", setting.name()))
        })
    }

    /// Returns what a setting without a default means, or `None` where it is not given, or is wrong, which is noted.
    pub fn optional<T, E: Display>(&mut self, setting: Option<&Setting>, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let setting = setting?;
        parse(setting.non_empty()?).map_err(|error| self.add(setting.name(), error)).ok()
    }

    /// Resolves a value by its type's own rules.
    ///
    /// # Panics
    /// When the default is wrong.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, setting: &Setting) -> T {
        self.resolve(setting, parse::from_str)
    }

    /// Resolves a whole number within bounds.
    ///
    /// # Panics
    /// When the default is wrong.
    pub fn number(&mut self, setting: &Setting, range: RangeInclusive<usize>) -> usize {
        self.resolve(setting, |text| parse::number(text, &range))
    }

    /// Resolves a length of time of at least `least`; see [`parse::duration`].
    ///
    /// # Panics
    /// When the default is wrong.
    pub fn duration(&mut self, setting: &Setting, least: Duration) -> Duration {
        self.resolve(setting, |text| parse::duration(text, least))
    }

    /// Resolves an address to listen on. Where it is wrong, the address that is returned is nobody's.
    pub fn address(&mut self, setting: &Setting) -> SocketAddr {
        parse::address(setting.text()).unwrap_or_else(|error| {
            self.add(setting.name(), error);
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    /// Resolves a yes or no.
    ///
    /// # Panics
    /// When the default is wrong.
    pub fn switch(&mut self, setting: &Setting) -> bool {
        self.resolve(setting, parse::switch)
    }

    /// Resolves a setting that may stand in a file instead, because it holds a secret.
    ///
    /// Returns the name of the one that is given, and the text; `None` where neither is given, or the file cannot be used.
    pub fn text_or_file<'s>(&mut self, direct: Option<&'s Setting>, file: Option<&'s Setting>) -> Option<(&'s str, String)> {
        let given = |setting: Option<&'s Setting>| setting.and_then(|setting| Some((setting.name(), setting.non_empty()?)));
        let (name, path) = match (given(direct), given(file)) {
            (direct, None) => return direct.and_then(|(name, text)| Some((name, self.one_line(name, text)?))),
            (Some((direct, _)), Some((file, _))) => {
                self.add(direct, format_args!("give only one of {direct} and {file}"));
                return None;
            }
            (None, Some((file, path))) => (file, Path::new(path)),
        };
        let read = files::read(path, Reading::First);
        let read = read.map_err(|error| self.add(name, format_args!("cannot read {}: {error}", path.display()))).ok()?;
        // The library's error would show the text.
        let Ok(text) = std::str::from_utf8(read.bare()) else {
            self.add(name, format_args!("{} is no text in UTF-8", path.display()));
            return None;
        };
        let text = text.trim();
        if text.is_empty() {
            self.add(name, format_args!("{} is empty", path.display()));
            return None;
        }
        let text = self.one_line(name, text)?;
        if let Some(warning) = read.exposed(name) {
            self.warn(warning);
        }
        Some((name, text))
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

    /// Returns the settings where nothing was wrong.
    ///
    /// # Errors
    /// These very problems where something was.
    pub fn into_result<T>(self, settings: T) -> Result<T, Problems> {
        if self.is_empty() { Ok(settings) } else { Err(self) }
    }

    /// Prints all complaints to standard error and returns the exit status for them.
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

/// Leaves out who logs in where a text repeats a URL, which was meant for another setting.
fn without_credentials(text: &str) -> String {
    match text.split_once("://").and_then(|(before, rest)| Some((before, rest.rsplit_once('@')?))) {
        // What our own examples say.
        None | Some((_, ("user:password", _))) => text.to_owned(),
        Some((before, (_, host))) => format!("{before}://…@{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, text: &str, default: &str) -> Setting {
        Setting::new(name, text, default)
    }

    #[test]
    fn everything_that_is_wrong_is_reported_together() {
        let mut problems = Problems::default();
        problems.duration(&setting("--interval", "soon", "5m"), Duration::ZERO);
        problems.address(&setting("--listen", "nowhere", "127.0.0.1:1"));
        problems.number(&setting("--workers", "0", "1"), 1..=8);
        problems.switch(&setting("--reads-require-token", "perhaps", "false"));
        assert_eq!(problems.all().len(), 4, "{:?}", problems.all());
        assert!(problems.into_result(()).is_err());
    }

    #[test]
    fn what_is_wrong_is_told_by_its_name_and_the_default_stands_in_for_it() {
        let mut problems = Problems::default();
        let minute = Duration::from_secs(60);
        assert_eq!(problems.duration(&setting("--view-ttl", "0s", "1m"), Duration::from_secs(1)), minute);
        assert_eq!(problems.number(&setting("--workers", "9", "3"), 1..=8), 3);
        assert_eq!(problems.parse::<u16>(&setting("REDIS_PORT", "x", "6379")), 6379);
        let expected = [
            "--view-ttl: must be at least 1s, not 0s",
            "--workers: must be between 1 and 8, not 9",
            "REDIS_PORT: invalid digit found in string in \"x\"",
        ];
        assert_eq!(problems.all(), expected);
    }

    #[test]
    fn a_url_that_was_meant_for_another_setting_is_told_without_its_password() {
        let mut problems = Problems::default();
        let url = "postgres://u:hid@hid/den@db/app";
        problems.duration(&setting("--interval", url, "5m"), Duration::ZERO);
        problems.address(&setting("--listen", url, "127.0.0.1:1"));
        problems.switch(&setting("--reads-require-token", url, "false"));
        problems.parse::<u16>(&setting("REDIS_PORT", url, "1"));
        let all = problems.all().join("\n");
        assert!(problems.all().len() == 4 && !all.contains("hid") && all.matches("postgres://…@db/app").count() == 4, "{all}");
        assert_eq!(without_credentials("as redis://user:password@host (no)"), "as redis://user:password@host (no)");
    }

    #[test]
    fn an_empty_setting_counts_as_not_given() {
        let mut problems = Problems::default();
        assert_eq!(problems.number(&setting("--workers", " ", "3"), 1..=8), 3);
        assert_eq!(problems.address(&setting("--listen", "", "127.0.0.1:3001")).port(), 3001);
        assert_eq!(problems.optional(Some(&setting("--viewer-rate", " ", "")), parse::switch), None);
        assert!(problems.is_empty());
    }
}
