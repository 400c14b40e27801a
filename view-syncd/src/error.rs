//! Why a step did not do its work, and what Redis's errors say about that.

use fred::error::{Error, ErrorKind};
use views_core::owner::Foreign;
use views_postgres::DatabaseError;
use views_redis::resp::Reply;

/// Why a step did not do its work. Everything is still where it was, and the step may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Redis is away, or refuses.
    #[error("Redis is not available: {0}")]
    Redis(#[from] Error),
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
            Self::Redis(error) => match error.kind() {
                ErrorKind::Unknown | ErrorKind::InvalidCommand | ErrorKind::InvalidArgument => {
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

/// Returns whether Redis is well and refuses this one command for what the key holds (a key of another type, a field that is no number).
pub(crate) fn is_about_the_key(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::InvalidArgument => error.details().starts_with("WRONGTYPE"),
        ErrorKind::Unknown => error.details().starts_with("ERR "),
        _ => false,
    }
}

/// Returns the error of a reply that is not of the expected kind.
pub(crate) fn refusal(reply: Option<Reply<'_>>) -> Error {
    match reply {
        Some(Reply::Error(text)) if text.starts_with("WRONGTYPE") => Error::new(ErrorKind::InvalidArgument, text.to_owned()),
        Some(Reply::Error(text)) => Error::new(ErrorKind::Unknown, text.to_owned()),
        Some(_) => Error::new(ErrorKind::Protocol, "a reply of an unexpected kind"),
        None => Error::new(ErrorKind::Protocol, "a reply is missing"),
    }
}
