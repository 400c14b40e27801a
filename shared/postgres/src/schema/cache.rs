//! The schema as it was last read, and when it is read anew. The application changes its tables while this program
//! runs: ids become longer, an index is dropped, a policy is switched on.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwapOption, Guard};
use deadpool_postgres::Object;
use tokio::sync::Mutex;

use super::{Purpose, Schema, SchemaError};
use crate::{COMMIT, Database, DatabaseError, READ_LOCK_TIMEOUT};

/// A schema that is older than this is read anew before it is used.
const LONGEST_AGE: Duration = Duration::from_secs(30);
/// One that is older than this is read anew before it refuses anything.
const LONGEST_AGE_TO_REFUSE: Duration = Duration::from_secs(1);

/// The schema as it was last read.
#[derive(Debug, Default)]
pub(crate) struct SchemaCache {
    current: ArcSwapOption<Schema>,
    /// Whether something has happened that may have changed the tables, or may have led to another server.
    invalidate: Arc<AtomicBool>,
    /// Held while it is read. When that last failed for want of an answer.
    reading: Mutex<Option<Instant>>,
}

impl Database {
    /// Returns what the application's tables look like, read anew where that is old, or where connections were lost or
    /// opened since.
    ///
    /// # Errors
    /// [`DatabaseError::Setup`] when the tables or the role's rights are not as they are needed, with what to do;
    /// `Unavailable` when nobody answers.
    pub async fn schema(&self) -> Result<Arc<Schema>, DatabaseError> {
        self.schema_no_older_than(LONGEST_AGE).await
    }

    /// Returns the same, read anew where it is older than `age`.
    ///
    /// # Errors
    /// As of [`schema`](Self::schema).
    pub async fn schema_no_older_than(&self, age: Duration) -> Result<Arc<Schema>, DatabaseError> {
        self.check_for_losses();
        self.schema.no_older_than(age, || self.load_schema(Purpose::Work)).await
    }

    /// Returns the same, to refuse an id by its type: read anew where it is older than a second, as the type may have
    /// become another one. Where PostgreSQL has not answered within that second, it is not asked again.
    ///
    /// # Errors
    /// As of [`schema`](Self::schema).
    pub async fn schema_for_refusal(&self) -> Result<Arc<Schema>, DatabaseError> {
        self.check_for_losses();
        self.schema.for_refusal(|| self.load_schema(Purpose::Work)).await
    }

    /// Returns the same, to give up for good what does not fit: read anew in any case, as the type may have become
    /// another one this very moment.
    ///
    /// # Errors
    /// As of [`schema`](Self::schema).
    pub async fn schema_to_give_up(&self) -> Result<Arc<Schema>, DatabaseError> {
        self.schema_no_older_than(Duration::ZERO).await
    }

    /// A connection that ended while nobody used it is no error of anybody's, but the next one may lead to another server.
    pub(crate) fn check_for_losses(&self) {
        if !self.pool.retain(|connection, _| !connection.is_closed()).removed.is_empty() {
            self.schema.invalidate();
            self.invalidate_owner();
        }
    }

    /// Returns the schema if it is known and `fits` says so, and otherwise the one by which [something may be
    /// refused](Self::schema_for_refusal).
    ///
    /// # Errors
    /// As of [`schema`](Self::schema).
    pub async fn schema_that(&self, fits: impl FnOnce(&Schema) -> bool) -> Result<Arc<Schema>, DatabaseError> {
        let schema = self.schema().await?;
        if fits(&schema) { Ok(schema) } else { self.schema_for_refusal().await }
    }

    /// Returns the schema as it was last read, however long ago; nothing where it never was, or has been found unfit
    /// since. Costs no more than a look at a pointer.
    #[must_use]
    pub fn last_known_schema(&self) -> Guard<Option<Arc<Schema>>> {
        self.schema.current.load()
    }

    /// Reads the catalogue.
    pub(crate) async fn load_schema(&self, purpose: Purpose) -> Result<Schema, DatabaseError> {
        let schema = self.read_catalogue(purpose).await??;
        self.demand_distinct_ids(&schema).await?;
        Ok(schema)
    }

    /// Reads the catalogue, and nothing else.
    pub(super) async fn read_catalogue(&self, purpose: Purpose) -> Result<Result<Schema, SchemaError>, DatabaseError> {
        let begin = self.begin(READ_LOCK_TIMEOUT, "");
        let load = async |connection: &Object| {
            connection.batch_execute(&begin).await?;
            let schema = Schema::load(connection, &self.posts, purpose).await;
            connection.batch_execute(COMMIT).await?;
            Ok(schema)
        };
        self.lease(load).await
    }
}

impl SchemaCache {
    /// Has the schema read anew before it is used next: a connection was lost, or opened.
    pub(crate) fn invalidate(&self) {
        self.invalidate.store(true, SeqCst);
    }

    /// Returns a way to call [`invalidate`](Self::invalidate) that may be given away.
    pub(crate) fn invalidator(&self) -> impl Fn() + Send + Sync + 'static {
        let invalidate = Arc::clone(&self.invalidate);
        move || invalidate.store(true, SeqCst)
    }

    /// Forgets the schema: PostgreSQL has refused what was made from it.
    pub(crate) fn forget(&self) {
        self.current.store(None);
    }

    async fn no_older_than<R>(&self, age: Duration, read: impl FnOnce() -> R) -> Result<Arc<Schema>, DatabaseError>
    where
        R: Future<Output = Result<Schema, DatabaseError>>,
    {
        if let Some(schema) = self.recent(age) {
            return Ok(schema);
        }
        let mut failed = self.reading.lock().await;
        // Somebody else may have read it meanwhile.
        if let Some(schema) = self.recent(age) {
            return Ok(schema);
        }
        let result = read().await;
        *failed = matches!(&result, Err(DatabaseError::Unavailable(_))).then(Instant::now);
        match result {
            Ok(schema) => {
                let schema = Arc::new(schema);
                self.current.store(Some(Arc::clone(&schema)));
                // Whatever was suspected before the catalogue answered, this is the answer. That the reading itself may
                // have opened a connection is no reason to read again.
                self.invalidate.store(false, SeqCst);
                Ok(schema)
            }
            Err(error) => {
                // Who does not answer has not changed anything.
                if !matches!(error, DatabaseError::Unavailable(_)) {
                    self.forget();
                }
                Err(error)
            }
        }
    }

    async fn for_refusal<R>(&self, read: impl FnOnce() -> R) -> Result<Arc<Schema>, DatabaseError>
    where
        R: Future<Output = Result<Schema, DatabaseError>>,
    {
        if let Some(schema) = self.recent(LONGEST_AGE_TO_REFUSE) {
            return Ok(schema);
        }
        let failed = *self.reading.lock().await;
        if failed.is_some_and(|failed| failed.elapsed() < LONGEST_AGE_TO_REFUSE) {
            return Err(DatabaseError::Unavailable("the types of ids cannot be read anew".to_owned()));
        }
        self.no_older_than(LONGEST_AGE_TO_REFUSE, read).await
    }

    fn recent(&self, age: Duration) -> Option<Arc<Schema>> {
        let schema = self.current.load();
        let schema = schema.as_ref().filter(|schema| !self.invalidate.load(SeqCst) && !schema.is_older_than(age))?;
        Some(Arc::clone(schema))
    }
}
