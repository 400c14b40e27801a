//! Connections to PostgreSQL: a small pool with deadlines everywhere.
//!
//! Every statement runs in a transaction of its own that begins with its deadlines: a pooler between us and the server
//! may drop what a session was given at its start. Begin, statement and commit travel together, so that no transaction
//! waits for its client.

pub mod adopt;
mod bases;
mod chunks;
pub mod compare;
pub mod config;
mod error;
pub mod explain;
pub mod forget;
pub mod insert;
mod lease;
pub mod leases;
pub mod ledger;
pub mod observe;
mod options;
mod owner;
pub mod pair;
pub mod recount;
mod rows;
pub mod schema;
mod spelling;
pub mod sql;
pub mod top_posts;
mod unprotected;
pub mod viewer_index;
mod words;

use std::{sync::atomic::AtomicBool, time::Duration};

use deadpool_postgres::{
    ClientWrapper, Hook, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use futures_util::future::{join, join_all};
use tokio_postgres::{Row, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use self::{
    bases::TakenBases,
    error::{DatabaseError, Refusal},
};
use self::{lease::Lease, owner::KnownOwner, schema::cache::SchemaCache};
use crate::config::{DatabaseSettings, PostsSettings};

/// How long a statement that only reads waits for a lock, which only a change of the table itself holds against it.
const READ_LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// The end of a transaction.
pub(crate) const COMMIT: &str = "COMMIT";
/// The end of one that is given up, or is only to show whether it could be done.
pub(crate) const ROLLBACK: &str = "ROLLBACK";

/// PostgreSQL, as far as this project uses it: a pool, and what is known of the application's tables.
pub struct Database {
    pool: Pool,
    tls: MakeRustlsConnect,
    posts: PostsSettings,
    schema: SchemaCache,
    /// Whether it is known that no post is there twice, where nothing keeps ids unique.
    ids_are_distinct: AtomicBool,
    owner: KnownOwner,
    /// That the table of counts refuses rows.
    statement_timeout: Duration,
}

/// How the connections of the pool are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    /// Connections that are open and that nobody uses.
    pub idle: usize,
    /// Connections that are used.
    pub in_use: usize,
    /// How many wait for a connection.
    pub waiting: usize,
    /// How many connections there may be.
    pub limit: usize,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("pool", &self.pool).field("posts", &self.posts).finish_non_exhaustive()
    }
}

impl Database {
    /// Prepares a pool of at most `connections`; none is opened before it is needed.
    ///
    /// # Errors
    /// When the file with the roots cannot be read any more, or TLS or the pool cannot be set up, which would be a fault of
    /// the build.
    pub fn new(
        settings: &DatabaseSettings,
        posts: PostsSettings,
        connections: usize,
        statement_timeout: Duration,
    ) -> anyhow::Result<Self> {
        let tls = MakeRustlsConnect::new(views_core::tls::client_config(&settings.trust)?);
        let manager =
            Manager::from_config(settings.config.clone(), tls.clone(), ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let (schema, owner) = (SchemaCache::default(), KnownOwner::default());
        // Where a connection leads is known when it has been asked.
        let (invalidate, invalidate_owner) = (schema.invalidator(), owner.invalidator());
        let pool = Pool::builder(manager)
            .max_size(connections)
            .post_create(Hook::sync_fn(move |_, _| {
                invalidate();
                invalidate_owner();
                Ok(())
            }))
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(statement_timeout),
                create: Some(statement_timeout),
                recycle: Some(statement_timeout),
            })
            .build()?;
        Ok(Self { pool, tls, posts, schema, ids_are_distinct: AtomicBool::new(false), owner, statement_timeout })
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

    /// Returns how the connections of the pool are used.
    #[must_use]
    pub fn pool_status(&self) -> PoolStatus {
        let status = self.pool.status();
        let in_use = status.size.saturating_sub(status.available);
        PoolStatus { idle: status.available, in_use, waiting: status.waiting, limit: status.max_size }
    }

    /// Sees to it that so many connections are open, so that whoever comes does not wait for one to be opened. Where
    /// PostgreSQL is away, nothing is done: whoever asks for a connection is told.
    pub async fn keep_open(&self, connections: usize) {
        if self.pool.status().size < connections {
            // They are held until all are there; one alone would be given out again and again.
            drop(join_all((0..connections).map(|_| self.connection())).await);
        }
    }

    /// Opens a connection that does not belong to the pool: whoever has it may keep it, with all that is tied to its
    /// session.
    ///
    /// # Errors
    /// As of [`connection`](Self::connection).
    pub async fn dedicated(&self) -> Result<ClientWrapper, DatabaseError> {
        self.connection().await.map(Object::take)
    }

    /// Runs a prepared statement that only reads, within the deadlines.
    ///
    /// # Errors
    /// [`DatabaseError`], sorted.
    pub async fn query(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, DatabaseError> {
        self.transact(&self.begin(READ_LOCK_TIMEOUT, ""), statement, params, COMMIT).await
    }

    /// Returns the beginning of a transaction in which no wait for a lock is longer than `lock_timeout`.
    pub(crate) fn begin(&self, lock_timeout: Duration, more: &str) -> String {
        sql::begin(lock_timeout, self.statement_timeout, more)
    }

    /// Runs a prepared statement in a transaction of its own, in one flight, and ends it with `end`.
    ///
    /// # Errors
    /// [`DatabaseError`], sorted. Nothing has been done then, or (when the connection broke) all of it.
    pub(crate) async fn transact(
        &self,
        begin: &str,
        statement: &str,
        params: &[&(dyn ToSql + Sync)],
        end: &str,
    ) -> Result<Vec<Row>, DatabaseError> {
        let work = async |connection: &Object| {
            // Sent in this order, and answered in this order. After an error the server ignores the rest, and COMMIT
            // rolls back. What is not prepared yet on this connection takes a flight more, within the same deadlines.
            let rest = async {
                let prepared = connection.prepare_cached(statement).await;
                let query = async { connection.query(&prepared?, params).await };
                join(query, connection.batch_execute(end)).await
            };
            let (begun, (rows, ended)) = join(connection.batch_execute(begin), rest).await;
            begun?;
            let rows = rows?;
            ended?;
            Ok::<_, DatabaseError>(rows)
        };
        self.lease(work).await
    }

    /// Has work done over a connection within the deadlines. What is given up is cancelled on the server.
    async fn lease<T>(&self, work: impl AsyncFnOnce(&Object) -> Result<T, DatabaseError>) -> Result<T, DatabaseError> {
        let lease = Lease::new(self.connection().await?, self.tls.clone());
        // The server gives up a statement after the same time; a second more is for its answer to arrive.
        let result = tokio::time::timeout(self.statement_timeout + Duration::from_secs(1), lease.to(work)).await;
        let Ok(result) = result else {
            drop(lease);
            self.schema.invalidate();
            return Err(DatabaseError::no_answer());
        };
        if let (Err(error), Some(connection)) = (&result, lease.release()) {
            self.discard_failed(connection, error);
        }
        result
    }

    /// Returns whether PostgreSQL answers and takes writes.
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

    /// Closes the connections that nobody uses. Those to a server that has become read-only would be given out again
    /// and again, long after another one takes the writes, or after the session's own setting is out of date.
    fn forget_idle(&self) {
        drop(self.pool.retain(|_, _| false));
    }

    /// After an error that is not about the values, the connection does not go back to the pool: it may hang, belong to
    /// a server that has become read-only, or hold statements whose plans no longer fit.
    fn discard_failed(&self, connection: Object, error: &DatabaseError) {
        match error {
            DatabaseError::Unavailable(_) => {
                drop(Object::take(connection));
                self.schema.invalidate();
                if error.is_read_only() {
                    self.forget_idle();
                }
            }
            DatabaseError::Setup(_) => {
                drop(Object::take(connection));
                self.schema.forget();
            }
            DatabaseError::Conflict(_) | DatabaseError::Locked(_) | DatabaseError::Refused(_) => {}
        }
    }
}
