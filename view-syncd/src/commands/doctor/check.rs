//! A check, and what came of it.

use serde::Serialize;

/// What came of a check. The gravest is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// It is as it is needed.
    Ok,
    /// It works, and should not stay as it is.
    Warn,
    /// It does not work.
    Fail,
}

impl Verdict {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// A check.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    /// What was looked at, in a word that stays the same.
    pub(super) name: &'static str,
    pub(super) verdict: Verdict,
    /// What was found and, where it is not well, what to do.
    pub(super) text: String,
    /// Whether a store is not as it is needed, so that the daemon does not start.
    #[serde(skip)]
    pub(super) is_unfit: bool,
}

/// What all checks have found.
#[derive(Debug, Default)]
pub(super) struct Checks(Vec<Check>);

impl Checks {
    pub(super) fn ok(&mut self, name: &'static str, text: impl Into<String>) {
        self.add(name, Verdict::Ok, text, false);
    }

    pub(super) fn warn(&mut self, name: &'static str, text: impl Into<String>) {
        self.add(name, Verdict::Warn, text, false);
    }

    pub(super) fn fail(&mut self, name: &'static str, text: impl Into<String>) {
        self.add(name, Verdict::Fail, text, false);
    }

    /// Notes that a store is not as it is needed.
    pub(super) fn unfit(&mut self, name: &'static str, text: impl Into<String>) {
        self.add(name, Verdict::Fail, text, true);
    }

    /// Notes what is wrong, or that nothing is.
    pub(super) fn unfit_or(&mut self, name: &'static str, problem: Option<String>, ok: impl Into<String>) {
        match problem {
            Some(problem) => self.unfit(name, problem),
            None => self.ok(name, ok),
        }
    }

    /// Notes what should not stay as it is, or that nothing is wrong.
    pub(super) fn warn_or(&mut self, name: &'static str, problem: Option<String>, ok: impl Into<String>) {
        match problem {
            Some(problem) => self.warn(name, problem),
            None => self.ok(name, ok),
        }
    }

    pub(super) fn into_list(self) -> Vec<Check> {
        self.0
    }

    fn add(&mut self, name: &'static str, verdict: Verdict, text: impl Into<String>, is_unfit: bool) {
        self.0.push(Check { name, verdict, text: text.into(), is_unfit });
    }
}
