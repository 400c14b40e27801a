//! Why a step did not do its work, and what Redis's errors say about that.

use fred::error::{Error, ErrorKind};
use views_core::owner::Foreign;
use views_postgres::DatabaseError;
use views_redis::{RedisError, resp::Reply};

/// Why a step did not do its work. Everything is still where it was, and the step may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Redis is away, or refuses.
    #[error("Redis is not available: {0}")]
    Redis(#[from] RedisError),
    /// PostgreSQL is away, or its tables are not as they should be.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The keys in Redis are not this database's to take from.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// The process is about to stop.
    #[error("the process is about to stop")]
    Stopped,
}

impl Failure {
    /// Returns what is in the way, in words for an operator's `/readyz`.
    #[must_use]
    pub fn obstacle(&self) -> String {
        match self {
            Self::Redis(error) => match error {
                RedisError::Server { text, .. } => format!("Redis is away or refuses: {text}"),
                RedisError::Client(error) if error.kind() == &ErrorKind::Unknown => {
                    format!("Redis is away or refuses: {}", error.details())
                }
                _ => "Redis is away".to_owned(),
            },
            Self::Database(error @ DatabaseError::Setup(_)) => format!("PostgreSQL is not set up for views: {error}"),
            Self::Database(error @ (DatabaseError::Refused(_) | DatabaseError::Locked(_))) => {
                format!("PostgreSQL takes no views at all: {error}")
            }
            Self::Database(DatabaseError::Unavailable(text)) => format!("PostgreSQL is away: {text}"),
            Self::Database(error @ DatabaseError::Conflict(_)) => error.to_string(),
            Self::Foreign(_) => "the keys in Redis belong to another database".to_owned(),
            Self::Stopped => "shutting down".to_owned(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Redis(error.into())
    }
}

/// Returns the error of a reply that is not of the expected kind.
pub(crate) fn refusal(reply: Option<Reply<'_>>) -> RedisError {
    match reply {
        Some(Reply::Error(error)) => error.into(),
        Some(_) => RedisError::UnexpectedReply,
        None => RedisError::NoReply,
    }
}
