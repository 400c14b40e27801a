//! Errors of PostgreSQL, sorted by what a caller does about them.

use std::{borrow::Cow, fmt};

use tokio_postgres::error::{DbError, SqlState};
use views_core::masked::mask;

use super::schema::SchemaError;

/// Why PostgreSQL did not do what it was asked to, by what follows from it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatabaseError {
    /// It is away, too slow, or read-only: the same statement may succeed later.
    #[error("PostgreSQL is not available: {0}")]
    Unavailable(String),
    /// Another transaction was in the way (deadlock, serialization): the same statement may succeed at once.
    #[error("PostgreSQL gave way to another transaction: {0}")]
    Conflict(String),
    /// Somebody holds a lock on what the statement needs, and the statement does not wait for it.
    #[error("PostgreSQL's rows or tables are locked by others: {0}")]
    Locked(Refusal),
    /// The server refuses a row or a table for a reason of its own. Which of the two, only another row can tell.
    #[error("PostgreSQL refuses: {0}")]
    Refused(Refusal),
    /// The tables, or the rights on them, are not as this program needs them. The text says what to do.
    #[error("{0}")]
    Setup(String),
}

/// What the server says when it refuses something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The SQLSTATE.
    pub state: SqlState,
    /// The server's message, which names tables and constraints and no values; that of a trigger may name a viewer.
    pub message: String,
    /// The constraint that failed, if the server names one.
    pub constraint: Option<String>,
    /// The table of the row, if the server names one.
    pub table: Option<String>,
}

impl Refusal {
    /// Returns whether somebody holds a lock that was not waited for.
    #[must_use]
    pub fn is_lock(&self) -> bool {
        self.state == SqlState::LOCK_NOT_AVAILABLE
    }

    /// Returns whether the server cannot do what it is asked, whatever the row: its disk is full, its memory is used
    /// up, its files cannot be read.
    #[must_use]
    pub fn is_of_server(&self) -> bool {
        matches!(self.class(), "53" | "58")
    }

    /// Returns whether the row itself breaks a rule of its table, which is looked at before anything else is done with it.
    pub(super) fn is_of_row(&self) -> bool {
        self.state == SqlState::CHECK_VIOLATION || self.state == SqlState::NOT_NULL_VIOLATION
    }

    /// Returns whether what the row refers to is missing.
    pub(super) fn is_of_reference(&self) -> bool {
        self.state == SqlState::FOREIGN_KEY_VIOLATION
    }

    fn class(&self) -> &str {
        self.state.code().get(..2).unwrap_or_default()
    }

    /// Returns whether the same row may be taken later although nobody touches it: a partition, a user or a place on
    /// the disk may be there by then, a trigger may have been dropped. A value that is none for the column, or that a
    /// CHECK refuses by name, stays what it is.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        let is_check = self.state == SqlState::CHECK_VIOLATION && self.constraint.is_some();
        !(self.class() == "22" || self.state == SqlState::NOT_NULL_VIOLATION || is_check)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.state.code())
    }
}

impl DatabaseError {
    /// The session that was asked may not write: its server is a standby, or was made read-only.
    #[must_use]
    pub fn read_only() -> Self {
        Self::Unavailable(format!("the server is read-only ({})", SqlState::READ_ONLY_SQL_TRANSACTION.code()))
    }

    /// Nothing came back in time.
    #[must_use]
    pub fn no_answer() -> Self {
        Self::Unavailable("no answer in time".to_owned())
    }

    /// Returns whether there is no use in asking the server for what is only read.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable(_)) && !self.is_read_only()
    }

    /// Returns the same without the ids of viewers, which a trigger of the application's may have put into its message.
    #[must_use]
    pub fn without_viewers<'v>(mut self, viewers: impl Iterator<Item = &'v str>) -> Self {
        if let Self::Locked(refusal) | Self::Refused(refusal) = &mut self {
            for viewer in viewers {
                if let Cow::Owned(message) = mask(&refusal.message, viewer) {
                    refusal.message = message;
                }
            }
        }
        self
    }

    pub(super) fn is_read_only(&self) -> bool {
        matches!(self, Self::Unavailable(text) if text.ends_with(&format!("({})", SqlState::READ_ONLY_SQL_TRANSACTION.code())))
    }

    /// Returns what the server said, where it refused a row or a table.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Locked(refusal) | Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl From<SchemaError> for DatabaseError {
    fn from(error: SchemaError) -> Self {
        match error {
            SchemaError::Catalogue(error) => error.into(),
            other => Self::Setup(other.to_string()),
        }
    }
}

/// What is to be done where a session has the prepared statements of another one.
const SHARED_SESSION: &str = "a pooler in transaction mode stands before PostgreSQL and does not keep prepared statements apart: \
    set its max_prepared_statements, or connect directly";

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(state) = error.code().cloned() else {
            return Self::Unavailable(describe(&error));
        };
        let db = error.as_db_error();
        let message = db.map_or_else(|| error.to_string(), |db| db.message().to_owned());
        let constraint = db.and_then(|db| db.constraint().map(str::to_owned));
        let table = db.and_then(|db| db.table().map(str::to_owned));
        let refusal = Refusal { state, message, constraint, table };
        let text = refusal.to_string();
        match refusal.state {
            SqlState::LOCK_NOT_AVAILABLE => Self::Locked(refusal),
            _ if db.is_some_and(|db| is_of_application(db, refusal.class())) => Self::Refused(refusal),
            // No connection is to be had; a prepared statement no longer fits the table, and another connection
            // prepares it anew; a standby.
            SqlState::TOO_MANY_CONNECTIONS | SqlState::FEATURE_NOT_SUPPORTED | SqlState::READ_ONLY_SQL_TRANSACTION => {
                Self::Unavailable(text)
            }
            SqlState::DUPLICATE_PSTATEMENT | SqlState::INVALID_SQL_STATEMENT_NAME => {
                Self::Setup(format!("{text}: {SHARED_SESSION}"))
            }
            _ => match refusal.class() {
                "08" | "57" => Self::Unavailable(text),
                "40" => Self::Conflict(text),
                "28" | "3D" | "3F" | "42" => Self::Setup(text),
                _ => Self::Refused(refusal),
            },
        }
    }
}

/// Returns whether it was code of the application's that failed, such as a trigger: it may raise an exception for one
/// row, with any SQLSTATE. None of the statements of this project calls a function that has a context of its own.
fn is_of_application(error: &DbError, class: &str) -> bool {
    let is_raised = error.routine() == Some("exec_stmt_raise");
    // An object or a right that such code lacks is none that this program lacks.
    is_raised || (error.where_().is_some() && matches!(class, "0A" | "28" | "3D" | "3F" | "42"))
}

/// Returns the whole chain of an error without a SQLSTATE, such as a connection refused: the library's own text names
/// only its outermost part.
fn describe(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(state: SqlState, constraint: Option<&str>) -> Refusal {
        Refusal { state, message: "no".to_owned(), constraint: constraint.map(str::to_owned), table: None }
    }

    #[test]
    fn what_may_be_taken_later_is_told_from_what_stays_wrong() {
        assert!(!refusal(SqlState::CHECK_VIOLATION, Some("no_robots")).may_pass());
        assert!(!refusal(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, None).may_pass());
        assert!(!refusal(SqlState::NOT_NULL_VIOLATION, None).may_pass());
        // A row for which there is no partition fails with the same state as a CHECK.
        assert!(refusal(SqlState::CHECK_VIOLATION, None).may_pass());
        assert!(refusal(SqlState::FOREIGN_KEY_VIOLATION, Some("post_views_user_id_fkey")).may_pass());
        assert!(refusal(SqlState::RAISE_EXCEPTION, None).may_pass());
        assert!(refusal(SqlState::DISK_FULL, None).may_pass());
    }
}
