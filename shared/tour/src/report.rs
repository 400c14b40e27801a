//! What a run prints, and how many of its checks held.

use std::io::{IsTerminal, Write};
use std::process::exit;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// How many lines of each log are shown when something was wrong.
const LAST_LINES: usize = 30;

/// A run's output and its checks.
pub(crate) struct Report {
    name: &'static str,
    /// Whether checks that hold are shown as well.
    shows_all: bool,
    has_colours: bool,
    passed: usize,
    failed: usize,
}

impl Report {
    /// Returns a report that shows the checks that fail.
    pub(crate) fn new(name: &'static str) -> Self {
        let has_colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { name, shows_all: false, has_colours, passed: 0, failed: 0 }
    }

    /// Returns a report that shows every check.
    pub(crate) fn in_full(name: &'static str) -> Self {
        Self { shows_all: true, ..Self::new(name) }
    }

    /// Prints lines.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        print(text.as_ref());
    }

    /// Prints the title of what follows, so that a long output can be skimmed.
    pub(crate) fn headline(&self, text: &str) {
        print(&format!("\n{}", self.coloured(BOLD, &format!("==> {text}"))));
    }

    /// Prints what the next command does, and the command.
    pub(crate) fn step(&self, text: &str, command: &str) {
        print(&format!("\n{}\n{} {command}", self.coloured(DIM, &format!("# {text}")), self.coloured(BOLD, "$")));
    }

    /// Compares, and counts. The run goes on, so that it names everything that is wrong.
    #[expect(clippy::needless_pass_by_value, reason = "a caller has numbers and texts at hand, and no use for them afterwards")]
    pub(crate) fn check(&mut self, what: &str, expected: impl ToString, found: impl ToString) {
        let (expected, found) = (expected.to_string(), found.to_string());
        if expected == found {
            let value = if found.is_empty() { "nothing" } else { &found };
            self.passes(&format!("{what} = {value}"));
        } else {
            self.fails(&format!("{what}: expected \"{expected}\", found \"{found}\""));
        }
    }

    /// Counts a check that holds, or fails for a reason.
    pub(crate) fn holds(&mut self, what: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.passes(what),
            Err(reason) => self.fails(&format!("{what}: {reason}")),
        }
    }

    /// Returns whether all checks so far have held.
    pub(crate) fn is_good(&self) -> bool {
        self.failed == 0
    }

    /// Prints the ends of logs, for whoever has to find out what went wrong.
    pub(crate) fn show_logs<L: AsRef<str>>(&self, logs: impl IntoIterator<Item = (String, L)>) {
        for (name, log) in logs {
            let lines: Vec<&str> = log.as_ref().lines().collect();
            if !lines.is_empty() {
                eprintln!("--- the end of {name}'s log\n{}", lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"));
            }
        }
    }

    /// Prints how many checks held, and returns the exit status.
    pub(crate) fn verdict(&self) -> u8 {
        let colour = if self.is_good() { GREEN } else { RED };
        let line = format!("{}: {} passed, {} failed", self.name, self.passed, self.failed);
        print(&format!("\n{}", self.coloured(colour, &line)));
        u8::from(!self.is_good())
    }

    fn passes(&mut self, text: &str) {
        self.passed += 1;
        if self.shows_all {
            print(&format!("  {} {text}", self.coloured(GREEN, "ok")));
        }
    }

    fn fails(&mut self, text: &str) {
        self.failed += 1;
        eprintln!("{}", self.coloured(RED, &format!("WRONG: {text}")));
    }

    fn coloured(&self, colour: &str, text: &str) -> String {
        if self.has_colours { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    }
}

/// Prints a line. An output that nobody reads any more ends the run; the test kit's supervisors remove what it leaves.
fn print(text: &str) {
    if writeln!(std::io::stdout().lock(), "{text}").is_err() {
        exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn one_failure_among_many_checks_fails_the_run() {
        let mut report = Report::new("test");
        report.check("a number and its text", 1, "1");
        report.holds("an outcome", Ok(()));
        assert!(report.is_good());
        report.check("two numbers", 1, 2);
        assert_eq!((report.is_good(), report.passed, report.failed), (false, 2, 1));
        report.holds("an outcome", Err("a reason".to_owned()));
        assert_eq!((report.passed, report.failed), (2, 2));
    }
}
