//! Erasing a viewer from the ledger, a chunk of posts in a transaction. What his rows counted moves into the posts'
//! bases in the same one, so that no count changes.
//!
//! A post is locked first, as by whoever stores views of it; one that somebody else has locked is left.

use std::{borrow::Cow, sync::Arc, time::Duration};

use deadpool_postgres::Object;
use uuid::Uuid;
use views_core::ids::{PostId, ViewerId};

use crate::{
    COMMIT, Database, DatabaseError, ROLLBACK,
    schema::{Purpose, Schema},
    spelling::Spelling,
    sql::forget::ForgetStatements,
};

/// How long a lock is waited for that cannot be passed over, with posts locked.
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);
/// Posts that are found at once by an index on viewers.
const FOUND: i64 = 200;
/// Posts of the ledger that are looked at in one statement without such an index.
const WALKED: i64 = 2_000;
/// As many posts are left at most before no more are looked for.
const MOST_LEFT: usize = 10_000;

/// A viewer who is being erased from the ledger.
#[derive(Debug)]
pub struct Forgetting<'a> {
    database: &'a Database,
    schema: Arc<Schema>,
    statements: ForgetStatements,
    /// The spellings of the viewer's id; none where the column cannot hold it.
    viewer: Vec<String>,
    /// The last post that was looked at.
    after: Option<String>,
    is_done: bool,
}

/// Posts that a viewer has viewed.
#[derive(Debug, Clone, Default)]
pub struct Viewed {
    /// How many posts were looked at.
    pub posts: u64,
    /// Those that he has viewed, as the database spells them.
    pub ids: Vec<String>,
}

/// What became of a viewer's rows.
#[derive(Debug, Clone, Default)]
pub struct Erased {
    /// The ids of posts whose rows are gone, and how many.
    pub rows: Vec<(String, i64)>,
    /// The ids of posts that others have locked.
    pub locked: Vec<String>,
    /// The ids of posts whose rows or bases PostgreSQL does not let be changed, and why.
    pub refused: Vec<(String, String)>,
}

impl<'a> Forgetting<'a> {
    /// Begins with the first post.
    ///
    /// # Errors
    /// [`DatabaseError::Setup`] where the role lacks a right, or bases were never remembered, into which the views are to
    /// move.
    pub async fn begin(database: &'a Database, viewer: &ViewerId) -> Result<Self, DatabaseError> {
        let schema = Arc::new(database.load_schema(Purpose::Forget).await?);
        let statements = ForgetStatements::new(&schema.target);
        let spelled = spellings(viewer).into_iter().filter(|id| schema.viewer_type.accepts(id)).collect();
        Ok(Self { database, schema, statements, viewer: spelled, after: None, is_done: false })
    }

    /// Returns whether an index leads from a viewer to his rows. Without one, all posts of the ledger are looked at.
    #[must_use]
    pub fn has_index(&self) -> bool {
        self.schema.has_viewer_index
    }

    /// Returns about how many posts there are; zero where nobody knows.
    #[must_use]
    pub fn estimated_posts(&self) -> u64 {
        self.schema.estimated_posts
    }

    /// Begins with the first post again.
    pub fn restart(&mut self) {
        (self.after, self.is_done) = (None, false);
    }

    /// Returns the next posts that the viewer has viewed, but for those that are `left`. Returns nothing at the end. The
    /// posts have to be erased, or left, before the next ones are asked for.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn next(&mut self, left: &[String]) -> Result<Option<Viewed>, DatabaseError> {
        if self.is_done || self.viewer.is_empty() || left.len() >= MOST_LEFT {
            return Ok(None);
        }
        if self.has_index() {
            let rows = self.database.query(&self.statements.viewed, &[&self.viewer, &FOUND, &left]).await?;
            let ids: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            self.is_done = ids.is_empty();
            return Ok((!ids.is_empty()).then_some(Viewed { posts: ids.len() as u64, ids }));
        }
        let rows = self.database.query(&self.statements.walk, &[&self.viewer, &WALKED, &self.after]).await?;
        let Some(row) = rows.first().filter(|row| row.get::<_, i64>(1) > 0) else { return Ok(None) };
        self.after = row.get(0);
        let posts: i64 = row.get(1);
        self.is_done = posts < WALKED;
        Ok(Some(Viewed { posts: posts.unsigned_abs(), ids: row.get(2) }))
    }

    /// Returns those of some posts that the viewer has viewed, as the database spells them.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn among(&self, posts: &[PostId]) -> Result<Vec<String>, DatabaseError> {
        let posts: Vec<PostId> = posts.iter().filter(|post| self.schema.accepts_post(post)).copied().collect();
        if self.viewer.is_empty() || posts.is_empty() {
            return Ok(Vec::new());
        }
        let ids = Spelling::all(&self.schema, &posts);
        let rows = self.database.query(&self.statements.among, &[&self.viewer, &ids]).await?;
        let mut viewed: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        viewed.dedup();
        Ok(viewed)
    }

    /// Erases the viewer's rows of posts. Where one of them cannot be, it is found out which.
    ///
    /// # Errors
    /// [`DatabaseError`] when the server is away.
    pub async fn erase(&self, ids: &[String]) -> Result<Erased, DatabaseError> {
        self.remove(ids, None).await
    }

    /// Removes rows that have come back: of views up to a time, in milliseconds since 1970, which are in the bases already.
    /// Somebody had read them before they were erased, and has stored and counted them once more since.
    ///
    /// # Errors
    /// [`DatabaseError`] when the server is away.
    pub async fn take_back(&self, ids: &[String], until_ms: i64) -> Result<Erased, DatabaseError> {
        self.remove(ids, Some(until_ms)).await
    }

    async fn remove(&self, ids: &[String], until_ms: Option<i64>) -> Result<Erased, DatabaseError> {
        let mut erased = Erased::default();
        let mut work = if ids.is_empty() { Vec::new() } else { vec![ids] };
        while let Some(ids) = work.pop() {
            match self.try_remove(ids, until_ms).await {
                Ok((rows, locked)) => {
                    erased.rows.extend(rows);
                    erased.locked.extend(locked);
                }
                Err(DatabaseError::Locked(_) | DatabaseError::Conflict(_)) if ids.len() == 1 => {
                    erased.locked.extend_from_slice(ids);
                }
                Err(DatabaseError::Refused(refusal)) if ids.len() == 1 => {
                    erased.refused.extend(ids.iter().map(|id| (id.clone(), refusal.to_string())));
                }
                // Also what takes too long: a post without a base has its rows counted.
                Err(
                    DatabaseError::Locked(_)
                    | DatabaseError::Conflict(_)
                    | DatabaseError::Refused(_)
                    | DatabaseError::Unavailable(_),
                ) if ids.len() > 1 => {
                    let (first, second) = ids.split_at(ids.len() / 2);
                    work.extend([second, first]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(erased)
    }

    /// Returns how many rows each post had, and the posts that were left.
    async fn try_remove(
        &self,
        ids: &[String],
        until_ms: Option<i64>,
    ) -> Result<(Vec<(String, i64)>, Vec<String>), DatabaseError> {
        let begin = self.database.begin(LOCK_TIMEOUT, "");
        let erase = async |connection: &Object| {
            connection.batch_execute(&begin).await?;
            let result = self.lock_and_remove(connection, ids, until_ms).await;
            connection.batch_execute(if result.is_ok() { COMMIT } else { ROLLBACK }).await?;
            Ok(result?)
        };
        self.database.lease(erase).await
    }

    async fn lock_and_remove(
        &self,
        connection: &Object,
        ids: &[String],
        until_ms: Option<i64>,
    ) -> Result<(Vec<(String, i64)>, Vec<String>), tokio_postgres::Error> {
        let lock = connection.prepare_cached(&self.schema.statements.walks.lock).await?;
        let locked: Vec<String> = connection.query(&lock, &[&ids]).await?.iter().map(|row| row.get(0)).collect();
        let rows = match until_ms {
            None => {
                let erase = connection.prepare_cached(&self.statements.erase).await?;
                connection.query(&erase, &[&self.viewer, &ids, &locked]).await?
            }
            Some(until_ms) => {
                let take_back = connection.prepare_cached(&self.statements.take_back).await?;
                connection.query(&take_back, &[&self.viewer, &until_ms, &locked]).await?
            }
        };
        let rows: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let is_left = |id: &&String| !locked.contains(id) && !rows.iter().any(|(erased, _)| erased == *id);
        let left = ids.iter().filter(is_left).cloned().collect();
        Ok((rows, left))
    }
}

/// Returns the spellings that a viewer's id may have where others have written it.
#[must_use]
pub fn spellings(viewer: &ViewerId) -> Vec<String> {
    let id = viewer.as_str();
    if id.len() != 36 || Uuid::try_parse(id).is_err() {
        return vec![id.to_owned()];
    }
    let all = std::iter::successors(Some(Spelling::Canonical), |spelling| spelling.next());
    all.map(|spelling| spelling.of(id)).map(Cow::into_owned).collect()
}
