//! Setting counts to what they are to be: the base, and the views that the ledger has.
//!
//! Posts are gone through a chunk at a time, and of those whose count is right, nothing is locked. The others are locked
//! in one statement and counted in the next, which sees all that was committed before the lock was had; nobody stores
//! views of a locked post meanwhile. A post that somebody else has locked is left out.

use std::{borrow::Cow, sync::Arc, time::Duration};

use deadpool_postgres::Object;
use tokio_postgres::Row;
use views_core::ids::PostId;

use crate::{
    COMMIT, Database, DatabaseError, ROLLBACK, chunks::Chunks, insert::count_rows, schema::Purpose, schema::Schema,
    spelling::Spelling,
};

/// How long a lock is waited for that cannot be passed over, with posts locked.
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);

/// A recount on its way through the posts.
#[derive(Debug)]
pub struct Recount<'a> {
    pub(crate) database: &'a Database,
    pub(crate) schema: Arc<Schema>,
    chunks: Chunks<'a>,
}

/// What was found in a chunk.
#[derive(Debug, Clone, Default)]
pub struct Miscounted {
    /// How many posts were looked at.
    pub posts: u64,
    /// The ids of those whose count is not what it is to be, as the database spells them.
    pub ids: Vec<String>,
}

/// What became of counts that were not what they are to be.
#[derive(Debug, Clone, Default)]
pub struct Recounted {
    /// The ids of posts whose count was set, and the count.
    pub counts: Vec<(String, i64)>,
    /// The ids of posts that others have locked, or that are gone.
    pub locked: Vec<String>,
    /// The ids of posts whose count PostgreSQL does not let be set, and why.
    pub refused: Vec<(String, String)>,
}

impl<'a> Recount<'a> {
    /// Begins with the first post.
    ///
    /// # Errors
    /// [`DatabaseError::Setup`] where bases were never remembered, without which what no view explains would be lost,
    /// or may not be read.
    pub async fn begin(database: &'a Database) -> Result<Self, DatabaseError> {
        let schema = Arc::new(database.load_schema(Purpose::Recount).await?);
        let chunks = Chunks::new(database, schema.statements.walks.miscounted.clone(), schema.is_sorted);
        Ok(Self { database, schema, chunks })
    }

    /// Returns about how many posts there are; zero where nobody knows.
    #[must_use]
    pub fn estimated_posts(&self) -> u64 {
        self.schema.estimated_posts
    }

    /// Looks at the next posts. Returns nothing at the end.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn next(&mut self) -> Result<Option<Miscounted>, DatabaseError> {
        Ok(self.chunks.next().await?.map(|(_, row)| miscounted(&row)))
    }

    /// Looks at one post.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn one(&self, post: &PostId) -> Result<Miscounted, DatabaseError> {
        if !self.schema.accepts_post(post) {
            return Ok(Miscounted::default());
        }
        let ids = Spelling::all(&self.schema, &[*post]);
        let rows = self.database.query(&self.schema.statements.walks.miscounted_among, &[&ids]).await?;
        Ok(rows.first().map(miscounted).unwrap_or_default())
    }

    /// Sets the counts of posts. Where one of them cannot be set, it is found out which.
    ///
    /// # Errors
    /// [`DatabaseError`] when the server is away.
    pub async fn set(&self, ids: &[String]) -> Result<Recounted, DatabaseError> {
        self.set_by(&self.schema.statements.walks.recount, ids).await
    }

    /// Sets numbers of posts by a statement that takes the ids of locked posts, and gives those that it has set.
    pub(crate) async fn set_by(&self, statement: &str, ids: &[String]) -> Result<Recounted, DatabaseError> {
        let mut recounted = Recounted::default();
        let mut work = vec![ids];
        while let Some(ids) = work.pop() {
            match self.try_set(statement, ids).await {
                Ok((counts, locked)) => {
                    recounted.counts.extend(counts);
                    recounted.locked.extend(locked);
                }
                Err(DatabaseError::Locked(_) | DatabaseError::Conflict(_)) if ids.len() == 1 => {
                    recounted.locked.extend_from_slice(ids);
                }
                Err(DatabaseError::Refused(refusal)) if ids.len() == 1 => {
                    recounted.refused.extend(ids.iter().map(|id| (id.clone(), refusal.to_string())));
                }
                Err(DatabaseError::Locked(_) | DatabaseError::Conflict(_) | DatabaseError::Refused(_)) => {
                    let (first, second) = ids.split_at(ids.len() / 2);
                    work.extend([second, first]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(recounted)
    }

    /// Returns the new counts, and the posts that were left out.
    async fn try_set(&self, statement: &str, ids: &[String]) -> Result<(Vec<(String, i64)>, Vec<String>), DatabaseError> {
        let spelled: Vec<Cow<'_, str>> = ids.iter().map(|id| Cow::Borrowed(id.as_str())).collect();
        count_rows::make(self.database, &self.schema, &spelled).await?;
        let begin = self.database.begin(LOCK_TIMEOUT, "");
        let set = async |connection: &Object| {
            connection.batch_execute(&begin).await?;
            let result = lock_and_set(connection, &self.schema, statement, ids).await;
            connection.batch_execute(if result.is_ok() { COMMIT } else { ROLLBACK }).await?;
            Ok(result?)
        };
        let (locked, counted) = self.database.lease(set).await?;
        let left = ids.iter().filter(|id| !locked.contains(id)).cloned().collect();
        Ok((counted, left))
    }
}

/// Returns the ids of the posts that could be locked, and the numbers that were set.
async fn lock_and_set(
    connection: &Object,
    schema: &Schema,
    statement: &str,
    ids: &[String],
) -> Result<(Vec<String>, Vec<(String, i64)>), tokio_postgres::Error> {
    let lock = &schema.statements.walks.lock;
    let locked = connection.query(&connection.prepare_cached(lock).await?, &[&ids]).await?;
    let locked: Vec<String> = locked.iter().map(|row| row.get(0)).collect();
    let counted = connection.query(&connection.prepare_cached(statement).await?, &[&locked]).await?;
    Ok((locked, counted.iter().map(|row| (row.get(0), row.get(1))).collect()))
}

/// Reads a row of the statements that find such posts.
fn miscounted(row: &Row) -> Miscounted {
    Miscounted { posts: row.get::<_, i64>(1).unsigned_abs(), ids: row.get(2) }
}
