//! What a process depends on, one by one, as `/readyz?verbose` tells it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde_json::{Map, Value, json};

/// How something is that the process depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    state: &'static str,
    reason: Option<String>,
    more: Vec<(&'static str, Value)>,
}

impl Check {
    /// It does what it is there for.
    pub const UP: &'static str = "up";
    /// It does not answer.
    pub const AWAY: &'static str = "away";
    /// Some of its servers do not answer, or take nothing; the others do what it is there for.
    pub const PARTLY_AWAY: &'static str = "partly_away";
    /// It answers, and does not take what it would be given, for now.
    pub const REFUSES: &'static str = "refuses";
    /// It is not as it is needed, and stays so until somebody changes it.
    pub const MISCONFIGURED: &'static str = "misconfigured";
    /// It has not been asked yet.
    pub const UNKNOWN: &'static str = "unknown";

    /// Returns a state without a reason.
    #[must_use]
    pub fn new(state: &'static str) -> Self {
        Self { state, reason: None, more: Vec::new() }
    }

    /// Returns a state with its reason.
    #[must_use]
    pub fn because(state: &'static str, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..Self::new(state) }
    }

    /// Returns whether this is the state.
    #[must_use]
    pub fn is(&self, state: &str) -> bool {
        self.state == state
    }

    /// Adds a number or the like.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.more.push((name, value.into()));
        self
    }
}

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Anybody: states, and nothing that names hosts, tables or roles.
    Public,
    /// Operators.
    Operators,
}

/// All that a process depends on.
#[derive(Default)]
pub struct Checks(Vec<Dependency>);

struct Dependency {
    name: &'static str,
    look: Box<dyn Fn() -> Check + Send + Sync>,
    /// The state when it was last looked, and since when it is.
    last: Mutex<Option<(&'static str, SystemTime)>>,
}

impl Checks {
    /// Adds something. `look` must be quick.
    #[must_use]
    pub fn with(mut self, name: &'static str, look: impl Fn() -> Check + Send + Sync + 'static) -> Self {
        self.0.push(Dependency { name, look: Box::new(look), last: Mutex::default() });
        self
    }

    /// Looks at everything, so that it is known since when it is as it is.
    pub(crate) fn look(&self) {
        for dependency in &self.0 {
            dependency.look();
        }
    }

    /// Returns how everything is.
    pub(crate) fn tell(&self, audience: Audience) -> Value {
        self.0.iter().map(|dependency| (dependency.name.to_owned(), dependency.tell(audience))).collect::<Map<_, _>>().into()
    }
}

impl Dependency {
    fn look(&self) -> (Check, SystemTime) {
        let check = (self.look)();
        let mut last = self.last();
        let since = match *last {
            Some((state, since)) if state == check.state => since,
            _ => SystemTime::now(),
        };
        *last = Some((check.state, since));
        (check, since)
    }

    fn tell(&self, audience: Audience) -> Value {
        let (Check { state, reason, more }, since) = self.look();
        let mut told = Map::new();
        told.insert("state".to_owned(), json!(state));
        told.insert("since".to_owned(), json!(humantime::format_rfc3339_seconds(since).to_string()));
        if audience == Audience::Operators {
            told.extend(reason.map(|reason| ("reason".to_owned(), json!(reason))));
            told.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        told.into()
    }

    fn last(&self) -> MutexGuard<'_, Option<(&'static str, SystemTime)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how the keys are by which tokens are checked: how many there are, and why they could not be renewed.
#[must_use]
pub fn keys(number: usize, failure: Option<String>) -> Check {
    let state = match (number, &failure) {
        (0, _) => "none",
        (_, Some(_)) => "outdated",
        (_, None) => Check::UP,
    };
    Check { reason: failure, ..Check::new(state) }.with("number", number)
}

/// Returns whether a query asks for everything one by one.
pub(crate) fn is_verbose(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|part| matches!(part, "verbose" | "verbose=" | "verbose=1" | "verbose=true")))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    };

    use super::*;

    #[test]
    fn since_when_it_is_so_changes_with_the_state_only_and_strangers_are_told_no_reasons() {
        let is_away = Arc::new(AtomicBool::new(true));
        let seen = Arc::clone(&is_away);
        let checks = Checks::default().with("redis", move || {
            if seen.load(SeqCst) {
                Check::because(Check::AWAY, "10.0.0.7 is silent").with("tries", 3)
            } else {
                Check::new(Check::UP)
            }
        });
        checks.look();
        *checks.0[0].last() = Some((Check::AWAY, SystemTime::UNIX_EPOCH));
        let expected = json!({"redis": {
            "state": "away", "since": "1970-01-01T00:00:00Z", "reason": "10.0.0.7 is silent", "tries": 3
        }});
        assert_eq!(checks.tell(Audience::Operators), expected);
        assert_eq!(checks.tell(Audience::Public), json!({"redis": {"state": "away", "since": "1970-01-01T00:00:00Z"}}));
        is_away.store(false, SeqCst);
        checks.look();
        let told = checks.tell(Audience::Operators);
        assert_eq!(told["redis"]["state"], "up");
        assert_ne!(told["redis"]["since"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn verbose_is_asked_for_by_its_name() {
        for query in ["verbose", "verbose=1", "a=b&verbose=true", "verbose="] {
            assert!(is_verbose(Some(query)), "{query}");
        }
        for query in [None, Some(""), Some("verbose=0"), Some("verbose=false"), Some("verbosely"), Some("x=verbose")] {
            assert!(!is_verbose(query), "{query:?}");
        }
    }
}
