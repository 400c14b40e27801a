//! What tells this ledger apart from every other one.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use arc_swap::ArcSwapOption;
use deadpool_postgres::Object;
use tokio_postgres::{Client, error::SqlState};
use views_core::owner::Owner;

use super::{Database, DatabaseError};
use crate::sql::{self, identifier::TableName};

/// The ledger's name, as last asked for.
#[derive(Debug, Default)]
pub(super) struct KnownOwner {
    last: ArcSwapOption<Owner>,
    /// Whether a connection has been lost or opened since, and the next one may lead to another server.
    is_stale: Arc<AtomicBool>,
}

impl KnownOwner {
    /// A way to have the name asked for again that may be given away.
    pub(super) fn invalidator(&self) -> impl Fn() + Send + Sync + 'static {
        let is_stale = Arc::clone(&self.is_stale);
        move || is_stale.store(true, SeqCst)
    }
}

impl Database {
    /// Returns the ledger's name: asked for once, and again where connections were lost or opened since, or somebody
    /// has doubted it.
    ///
    /// # Errors
    /// As of [`schema`](Self::schema).
    pub async fn owner(&self) -> Result<Owner, DatabaseError> {
        self.check_for_losses();
        if let Some(owner) = self.known_owner()
            && !self.owner.is_stale.load(SeqCst)
        {
            return Ok(owner);
        }
        let schema = self.schema().await?;
        let posts = schema.tables.posts.clone();
        let ask = async |connection: &Object| {
            // First: a connection that is opened meanwhile has the name asked for again.
            self.owner.is_stale.store(false, SeqCst);
            Ok(server(connection, &posts).await?)
        };
        match self.lease(ask).await {
            Ok(server) => {
                let owner = Owner::new(&server, &posts.spelled(), &schema.tables.ledger.spelled());
                self.owner.last.store(Some(Arc::new(owner.clone())));
                Ok(owner)
            }
            Err(error) => {
                self.owner.is_stale.store(true, SeqCst);
                Err(error)
            }
        }
    }

    /// Has the name asked for again: it is not what stands in Redis, and perhaps not what PostgreSQL would say now.
    pub fn invalidate_owner(&self) {
        self.owner.is_stale.store(true, SeqCst);
    }

    /// Returns the ledger's name as it was when it was last asked for, if ever.
    #[must_use]
    pub fn known_owner(&self) -> Option<Owner> {
        self.owner.last.load().as_deref().cloned()
    }
}

/// What tells the server and the database apart from all others.
///
/// The system identifier is made by `initdb`, and the same on all streaming replicas, so that a failover changes
/// nothing. (A copy of the server's files has it, too, and cannot be told apart from the original.) Databases of one
/// server differ by their object ids, also where one was made from the other as its template.
///
/// Some providers do not let their customers call `pg_control_system()`. There the name of the database and the object
/// id of the posts table stand in for the system identifier: a failover does not change them either, and a copy that
/// was restored on another server has other ones, unless both databases were made by the very same steps.
async fn server(client: &Client, posts: &TableName) -> Result<String, tokio_postgres::Error> {
    match client.query_one(sql::SERVER, &[]).await {
        Ok(row) => row.try_get(0),
        Err(error) if is_not_to_be_had(&error) => {
            client.query_one(sql::SERVER_WITHOUT_IDENTIFIER, &[&posts.to_string()]).await?.try_get(0)
        }
        Err(error) => Err(error),
    }
}

fn is_not_to_be_had(error: &tokio_postgres::Error) -> bool {
    let states = [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::UNDEFINED_FUNCTION, SqlState::FEATURE_NOT_SUPPORTED];
    error.code().is_some_and(|state| states.contains(state))
}
