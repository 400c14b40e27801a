//! Going through a table in the order of its ids, a chunk in a transaction.

use std::time::Duration;

use tokio_postgres::{Row, types::ToSql};

use crate::{COMMIT, Database, DatabaseError, sql::bases::Walk};

/// Posts in one transaction.
const CHUNK: i64 = 1_000;
/// How long a statement waits for a lock: that of the foreign key, on a post that somebody is about to delete.
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);
/// The pause before such a chunk is tried again.
const LOCK_PAUSE: Duration = Duration::from_millis(250);
/// How often it is tried.
const LOCK_TRIES: u32 = 60;

/// A plan that is made without the size of the chunk is one for a tenth of all posts, and reads whole tables for each chunk.
const BEGIN: &str = " SET LOCAL plan_cache_mode = force_custom_plan";

/// A walk through a table in the order of its ids.
#[derive(Debug)]
pub(crate) struct Chunks<'a> {
    database: &'a Database,
    walk: Walk,
    size: i64,
    /// The last id of the chunk before.
    after: Option<String>,
    is_done: bool,
}

impl<'a> Chunks<'a> {
    pub(crate) fn new(database: &'a Database, walk: Walk, is_sorted: bool) -> Self {
        // Where nothing sorts them, each chunk would read them all.
        let size = if is_sorted { CHUNK } else { i64::MAX };
        Self { database, walk, size, after: None, is_done: false }
    }

    /// Works on the next chunk. Returns the number of its posts and the statement's row; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<(u64, Row)>, DatabaseError> {
        let mut tries = 1;
        while !self.is_done {
            let begin = self.database.begin(LOCK_TIMEOUT, BEGIN);
            let (statement, params) = match &self.after {
                None => (&self.walk.first, vec![&self.size as &(dyn ToSql + Sync)]),
                Some(after) => (&self.walk.next, vec![&self.size as _, after as _]),
            };
            let row = match self.database.transact(&begin, statement, &params, COMMIT).await {
                Ok(rows) => rows.into_iter().next(),
                Err(DatabaseError::Locked(_) | DatabaseError::Conflict(_)) if tries < LOCK_TRIES => {
                    tries += 1;
                    tokio::time::sleep(LOCK_PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let end = row.as_ref().and_then(|row| row.get::<_, Option<String>>(0));
            let Some((row, end)) = row.zip(end) else {
                self.is_done = true;
                break;
            };
            let posts: i64 = row.get(1);
            self.is_done = posts < self.size;
            self.after = Some(end);
            return Ok(Some((posts.unsigned_abs(), row)));
        }
        Ok(None)
    }
}
