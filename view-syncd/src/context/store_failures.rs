//! Why a store did not do what it was asked to, until something shows that it does.

use std::sync::{Mutex, MutexGuard, PoisonError};

use views_postgres::DatabaseError;
use views_redis::RedisError;
use views_service::checks::Check;

use crate::error::Failure;

/// What both stores did when they were asked last.
#[derive(Debug, Default)]
pub(crate) struct StoreFailures(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    redis: Seen,
    postgresql: Seen,
}

#[derive(Debug, Default)]
enum Seen {
    #[default]
    Never,
    Well,
    Failed(&'static str, String),
}

impl StoreFailures {
    /// Notes that both stores did what they were asked to.
    pub(crate) fn note_well(&self) {
        *self.state() = State { redis: Seen::Well, postgresql: Seen::Well };
    }

    /// Notes why one did not.
    pub(crate) fn note(&self, failure: &Failure) {
        let mut state = self.state();
        match failure {
            Failure::Redis(error) => state.redis = Seen::Failed(redis_state(error), failure.obstacle()),
            Failure::Database(error) => {
                state.postgresql = Seen::Failed(database_state(error), failure.obstacle());
                // It is asked first.
                if matches!(state.redis, Seen::Failed(Check::AWAY, _)) {
                    state.redis = Seen::Well;
                }
            }
            Failure::Foreign(foreign) => state.redis = Seen::Failed(Check::MISCONFIGURED, foreign.to_string()),
            Failure::Stopped => {}
        }
    }

    /// Returns what Redis did.
    pub(crate) fn redis(&self) -> Check {
        self.state().redis.check()
    }

    /// Returns whether Redis did not do what it was asked to.
    pub(crate) fn has_redis_failed(&self) -> bool {
        matches!(self.state().redis, Seen::Failed(..))
    }

    /// Returns what PostgreSQL did.
    pub(crate) fn postgresql(&self) -> Check {
        self.state().postgresql.check()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn check(&self) -> Check {
        match self {
            Self::Never => Check::new(Check::UNKNOWN),
            Self::Well => Check::new(Check::UP),
            Self::Failed(state, reason) => Check::because(state, reason),
        }
    }
}

fn redis_state(error: &RedisError) -> &'static str {
    if error.code().is_some() { Check::REFUSES } else { Check::AWAY }
}

/// Returns the state of a PostgreSQL that has failed like this.
pub(crate) fn database_state(error: &DatabaseError) -> &'static str {
    match error {
        DatabaseError::Setup(_) => Check::MISCONFIGURED,
        error if error.is_away() => Check::AWAY,
        _ => Check::REFUSES,
    }
}
