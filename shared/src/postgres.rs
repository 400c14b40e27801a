//! Connections to PostgreSQL: a small pool with deadlines everywhere, and errors sorted by what a caller does about them.

mod owner;
pub mod schema;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use deadpool_postgres::{ClientWrapper, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres::{Row, error::SqlState, types::ToSql};

use self::{
    owner::KnownOwner,
    schema::{Schema, SchemaError},
};
use crate::settings::{DatabaseSettings, PostsSettings};

/// Why PostgreSQL did not do what it was asked to, by what follows from it.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It is away, too slow, or read-only: the same statement may succeed later.
    #[error("PostgreSQL is not available: {0}")]
    Unavailable(String),
    /// Another transaction was in the way (deadlock, serialization, a post deleted this moment): try again at once.
    #[error("PostgreSQL gave way to another transaction: {0}")]
    Conflict(String),
    /// The values themselves cannot be stored.
    #[error("PostgreSQL refuses the values: {0}")]
    Rejected(String),
    /// The tables are not as this program needs them. The text says what to do.
    #[error("{0}")]
    Setup(String),
}

impl DatabaseError {
    /// Whether a row that the values refer to is missing: a post that was deleted this moment or, where the application has added a foreign
    /// key of its own to the ledger, a viewer. The first is gone with the next try, the second comes back with each.
    #[must_use]
    pub fn is_missing_reference(&self) -> bool {
        matches!(self, Self::Conflict(text) if text.ends_with(&format!("({})", SqlState::FOREIGN_KEY_VIOLATION.code())))
    }

    /// The session that was asked may not write: its server is a standby, or was made read-only.
    #[must_use]
    pub fn read_only() -> Self {
        Self::Unavailable(format!("the server is read-only ({})", SqlState::READ_ONLY_SQL_TRANSACTION.code()))
    }

    fn is_read_only(&self) -> bool {
        matches!(self, Self::Unavailable(text) if text.ends_with(&format!("({})", SqlState::READ_ONLY_SQL_TRANSACTION.code())))
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

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(state) = error.code() else {
            return Self::Unavailable(describe(&error));
        };
        let text = error.as_db_error().map_or_else(|| error.to_string(), |db| format!("{} ({})", db.message(), state.code()));
        let class = state.code().get(..2).unwrap_or_default();
        match state {
            // The foreign key fails when the application deletes a post between the look at it and the insert: the next try finds no post.
            &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED | &SqlState::FOREIGN_KEY_VIOLATION => {
                Self::Conflict(text)
            }
            &SqlState::FEATURE_NOT_SUPPORTED => Self::Unavailable(text),
            _ if matches!(class, "22" | "23" | "P0") => Self::Rejected(text),
            _ if matches!(class, "28" | "3D" | "3F" | "42") => Self::Setup(text),
            _ => Self::Unavailable(text),
        }
    }
}

/// The whole chain of an error without a SQLSTATE, such as a connection refused: the library's own text names only its outermost part.
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

/// PostgreSQL, as far as this project uses it: a pool, and what is known of the application's tables.
#[derive(Debug)]
pub struct Database {
    pool: Pool,
    posts: PostsSettings,
    schema: ArcSwapOption<Schema>,
    owner: KnownOwner,
    statement_timeout: Duration,
}

impl Database {
    /// Prepares a pool of at most `connections`; none is opened before it is needed.
    ///
    /// # Errors
    /// When TLS or the pool cannot be set up, which would be a fault of the build.
    pub fn new(
        settings: &DatabaseSettings,
        posts: PostsSettings,
        connections: usize,
        statement_timeout: Duration,
    ) -> anyhow::Result<Self> {
        let tls = crate::tls::postgres_connector(settings.verify)?;
        let manager =
            Manager::from_config(settings.config.clone(), tls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let owner = KnownOwner::default();
        let pool = Pool::builder(manager)
            .max_size(connections)
            .post_create(owner.follow())
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(statement_timeout),
                create: Some(statement_timeout),
                recycle: Some(statement_timeout),
            })
            .build()?;
        Ok(Self { pool, posts, schema: ArcSwapOption::empty(), owner, statement_timeout })
    }

    /// Takes a connection out of the pool, opening one where none is idle.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] when none can be had in time.
    pub async fn connection(&self) -> Result<Object, DatabaseError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Timeout(_) => DatabaseError::Unavailable("no connection could be had in time".to_owned()),
            other => DatabaseError::Unavailable(other.to_string()),
        })
    }

    /// Opens a connection that does not belong to the pool: whoever has it may keep it, with all that is tied to its session.
    ///
    /// # Errors
    /// As of [`connection`](Self::connection).
    pub async fn dedicated(&self) -> Result<ClientWrapper, DatabaseError> {
        self.connection().await.map(Object::take)
    }

    /// What the application's tables look like, looked up once.
    ///
    /// # Errors
    /// [`DatabaseError::Setup`] when a table or column is missing or of a type that cannot be used; `Unavailable` when nobody answers.
    pub async fn schema(&self) -> Result<Arc<Schema>, DatabaseError> {
        if let Some(schema) = self.schema.load_full() {
            return Ok(schema);
        }
        let connection = self.connection().await?;
        let schema = Arc::new(self.in_time(Schema::load(&connection, &self.posts)).await?);
        schema.require_ledger()?;
        self.schema.store(Some(Arc::clone(&schema)));
        Ok(schema)
    }

    /// Creates the ledger, unless it is there, and checks that it fits the posts table.
    ///
    /// # Errors
    /// [`DatabaseError`] when the tables cannot be used or the ledger cannot be created.
    pub async fn migrate(&self) -> Result<Arc<Schema>, DatabaseError> {
        let mut connection = self.connection().await?;
        let schema = self.in_time(Schema::load(&connection, &self.posts)).await?;
        let transaction = connection.transaction().await?;
        transaction.batch_execute(crate::sql::MIGRATION_LOCK).await?;
        transaction.batch_execute(&schema.statements.create_ledger).await?;
        transaction.commit().await?;
        drop(connection);
        self.schema().await
    }

    /// Runs a prepared statement within the deadline.
    ///
    /// # Errors
    /// [`DatabaseError`], sorted.
    pub async fn query(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, DatabaseError> {
        let connection = self.connection().await?;
        let rows = self
            .in_time(async {
                let prepared = connection.prepare_cached(statement).await?;
                connection.query(&prepared, params).await
            })
            .await;
        if let Err(error) = &rows {
            self.distrust(connection, error);
        }
        rows
    }

    /// Whether PostgreSQL answers and takes writes.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        let rows = self.query(crate::sql::PING, &[]).await?;
        if rows.first().is_some_and(|row| row.get::<_, bool>(0)) {
            return Ok(());
        }
        self.forget_idle();
        Err(DatabaseError::read_only())
    }

    /// Closes the connections that nobody uses. Those to a server that has become read-only would be given out again and again, long after
    /// another one takes the writes, or after the session's own setting is out of date.
    fn forget_idle(&self) {
        drop(self.pool.retain(|_, _| false));
    }

    async fn in_time<T, E: Into<DatabaseError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, DatabaseError> {
        // The server gives up a statement after the same time; a second more is for its answer to arrive.
        match tokio::time::timeout(self.statement_timeout + Duration::from_secs(1), work).await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(DatabaseError::Unavailable("no answer in time".to_owned())),
        }
    }

    /// After an error that is not about the values, the connection does not go back to the pool: it may hang, belong to a server that has
    /// become read-only, or hold statements whose plans no longer fit.
    fn distrust(&self, connection: Object, error: &DatabaseError) {
        match error {
            DatabaseError::Unavailable(_) => {
                drop(Object::take(connection));
                if error.is_read_only() {
                    self.forget_idle();
                }
            }
            DatabaseError::Setup(_) => {
                drop(Object::take(connection));
                self.schema.store(None);
            }
            DatabaseError::Conflict(_) | DatabaseError::Rejected(_) => {}
        }
    }
}
