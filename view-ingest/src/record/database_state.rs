//! How PostgreSQL is, as far as is known: it is asked once a second, and told by whoever stores views in it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use views_core::{log_names, ticks};
use views_postgres::{Database, DatabaseError};
use views_service::checks::Check;

/// How often it is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// How PostgreSQL is.
#[derive(Debug, Clone, Default)]
pub(crate) struct DatabaseState(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What came of asking; nothing before the first time.
    answer: Option<Result<(), DatabaseError>>,
    /// What is wrong with its tables, or the rights on them.
    trouble: Option<String>,
    /// Why it did not store views when it was to, which it is while Redis does not.
    refusal: Option<String>,
}

impl DatabaseState {
    /// Notes what is wrong with the tables.
    pub(super) fn note_trouble(&self, trouble: Option<String>) {
        self.state().trouble = trouble;
    }

    /// Notes why it does not store views.
    pub(super) fn note_refusal(&self, refusal: Option<String>) {
        self.state().refusal = refusal;
    }

    /// Returns whether it answered when it was last asked.
    pub(crate) fn answers(&self) -> bool {
        matches!(self.state().answer, Some(Ok(())))
    }

    /// Returns how it is.
    pub(super) fn check(&self) -> Check {
        let state = self.state();
        match &state.answer {
            None => Check::new(Check::UNKNOWN),
            Some(Err(DatabaseError::Setup(text))) => Check::because(Check::MISCONFIGURED, text),
            Some(Err(error)) if error.is_away() => Check::because(Check::AWAY, error.to_string()),
            Some(Err(error)) => Check::because(Check::REFUSES, error.to_string()),
            Some(Ok(())) => match (&state.trouble, &state.refusal) {
                (Some(trouble), _) => Check::because(Check::MISCONFIGURED, trouble),
                (None, Some(refusal)) => Check::because(Check::REFUSES, refusal),
                (None, None) => Check::new(Check::UP),
            },
        }
    }

    /// Asks once a second, for ever, and says in the log when it goes away and when it is back.
    pub(crate) async fn watch(self, database: Arc<Database>) {
        let mut interval = ticks::every(INTERVAL);
        loop {
            interval.tick().await;
            let answer = database.ping().await;
            let before = self.state().answer.replace(answer.clone());
            match (before, answer) {
                (None | Some(Err(_)), Ok(())) => {
                    tracing::info!(name: log_names::STATE, store = "postgresql", "PostgreSQL connected");
                }
                (None | Some(Ok(())), Err(error)) => {
                    tracing::warn!(name: log_names::STATE, store = "postgresql", %error, "PostgreSQL is away");
                }
                _ => {}
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
