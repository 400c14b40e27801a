//! A check, and what came of it.

use std::collections::HashSet;

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

    /// Adds what was found of several servers, each with its address: of a check that is well with all, once, and of any other
    /// one, what is not well.
    pub(super) fn add_all(&mut self, mut of_servers: Vec<(String, Self)>) {
        if let [(_, only)] = &mut *of_servers {
            return self.0.append(&mut only.0);
        }
        let mut names: Vec<&'static str> =
            of_servers.iter().flat_map(|(_, of_server)| &of_server.0).map(|check| check.name).collect();
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(*name));
        let mut told: Vec<(String, Check)> = of_servers
            .into_iter()
            .flat_map(|(address, checks)| checks.0.into_iter().map(move |check| (address.clone(), check)))
            .collect();
        for name in names {
            let (of_name, others): (Vec<_>, Vec<_>) = told.into_iter().partition(|(_, check)| check.name == name);
            told = others;
            let is_well = of_name.iter().all(|(_, check)| check.verdict == Verdict::Ok);
            if is_well {
                self.0.extend(of_name.into_iter().map(|(_, check)| check).next());
            } else {
                let unwell = of_name.into_iter().filter(|(_, check)| check.verdict != Verdict::Ok);
                self.0.extend(unwell.map(|(address, check)| Check { text: format!("{address}: {}", check.text), ..check }));
            }
        }
    }

    pub(super) fn into_list(self) -> Vec<Check> {
        self.0
    }

    fn add(&mut self, name: &'static str, verdict: Verdict, text: impl Into<String>, is_unfit: bool) {
        self.0.push(Check { name, verdict, text: text.into(), is_unfit });
    }
}
