//! Posts whose ids nothing keeps unique: of two with one id (those of two tenants, perhaps), each would be counted.

use std::sync::atomic::Ordering::Relaxed;

use deadpool_postgres::Object;
use tokio_postgres::error::SqlState;

use super::{Repeatable, Schema};
use crate::{COMMIT, Database, DatabaseError, READ_LOCK_TIMEOUT, ROLLBACK};

/// Bounds how long each of the statements looks. A table may have millions of rows, and no index that would help.
const AT_MOST: &str = " SET LOCAL statement_timeout = 500";

impl Database {
    /// Demands that no id stands twice, as far as that can be found out in a moment. Looks once in the life of a
    /// process, or until there is none.
    ///
    /// # Errors
    /// [`DatabaseError::Setup`] where one does.
    pub(super) async fn demand_distinct_ids(&self, schema: &Schema) -> Result<(), DatabaseError> {
        let Some(Repeatable { warning, .. }) = &schema.repeatable else { return Ok(()) };
        if self.ids_are_distinct.load(Relaxed) {
            return Ok(());
        }
        if let Some(problem) = self.find_repetition(schema).await? {
            return Err(DatabaseError::Setup(problem));
        }
        tracing::warn!("{warning}");
        self.ids_are_distinct.store(true, Relaxed);
        Ok(())
    }

    /// Returns what is wrong where an id stands twice, as far as that can be found out in a moment.
    pub(super) async fn find_repetition(&self, schema: &Schema) -> Result<Option<String>, DatabaseError> {
        for statement in schema.repeatable.iter().flat_map(|repeatable| &repeatable.statements) {
            if let Some(id) = self.find_repeated(statement).await? {
                let (posts, column) = (&schema.tables.posts, &schema.tables.id);
                return Ok(Some(format!(
                    "{posts} has more than one row with the {column} {id:?}, so that a view would count for several posts: name a column whose \
                     values are unique with --post-id-column (POST_ID_COLUMN), such as one of UUIDs, or one table or view for each tenant with \
                     --posts-table (POSTS_TABLE)"
                )));
            }
        }
        Ok(None)
    }

    /// Returns an id that stands twice, if one is found in time.
    async fn find_repeated(&self, statement: &str) -> Result<Option<String>, DatabaseError> {
        let begin = self.begin(READ_LOCK_TIMEOUT, AT_MOST);
        let look = async |connection: &Object| {
            connection.batch_execute(&begin).await?;
            let result = connection.query(statement, &[]).await;
            connection.batch_execute(if result.is_ok() { COMMIT } else { ROLLBACK }).await?;
            match result {
                Ok(rows) => Ok(rows.first().map(|row| row.get(0))),
                // Where a row stands may be asked by those only who may read all of it.
                Err(error)
                    if error
                        .code()
                        .is_some_and(|code| [SqlState::QUERY_CANCELED, SqlState::INSUFFICIENT_PRIVILEGE].contains(code)) =>
                {
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            }
        };
        self.lease(look).await
    }
}
