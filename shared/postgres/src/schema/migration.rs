//! Creating the ledger.

use std::time::Duration;

use super::{Purpose, Schema};
use crate::{
    Database, DatabaseError,
    sql::{self, identifier::TableName},
};

/// How long a lock is waited for at a time.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long others are let pass between two tries.
const LOCK_PAUSE: Duration = Duration::from_secs(1);
/// How often it is tried.
const LOCK_TRIES: u32 = 300;

/// What a migration has found or done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The ledger.
    pub ledger: TableName,
    /// Whether it was created now, and not there already.
    pub created: bool,
}

impl Database {
    /// Creates the ledger, unless it is there, and demands that the tables are what they have to be. The role needs no
    /// right but to create a table that refers to the posts.
    ///
    /// # Errors
    /// [`DatabaseError::Setup`] when the tables cannot be used or the ledger may not be created; `Unavailable` when
    /// nobody answers.
    pub async fn migrate(&self) -> Result<Migrated, DatabaseError> {
        let schema = self.load_schema(Purpose::Migrate).await?;
        if schema.has_ledger() {
            return Ok(Migrated { ledger: schema.ledger, created: false });
        }
        self.create_ledger(&schema).await?;
        // Another migration may have been first, with a table of another kind.
        let schema = self.load_schema(Purpose::Migrate).await?;
        Ok(Migrated { ledger: schema.ledger, created: true })
    }

    /// Creates the ledger. Its foreign key takes a lock on the posts that waits for everybody who writes there, and
    /// while it waits, everybody else waits behind it. So it waits for no more than a second at a time, and lets others
    /// pass in between.
    async fn create_ledger(&self, schema: &Schema) -> Result<(), DatabaseError> {
        let mut tries = 1;
        loop {
            match self.try_create_ledger(schema).await {
                Err(DatabaseError::Locked(_)) if tries < LOCK_TRIES => {
                    tracing::info!(tries, "the posts are locked by others: trying again");
                    tries += 1;
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    async fn try_create_ledger(&self, schema: &Schema) -> Result<(), DatabaseError> {
        let mut connection = self.connection().await?;
        let transaction = connection.transaction().await?;
        transaction.batch_execute(&sql::limit_locks(LOCK_TIMEOUT)).await?;
        transaction.batch_execute(sql::MIGRATION_LOCK).await?;
        transaction.batch_execute(&schema.statements.create_ledger).await?;
        Ok(transaction.commit().await?)
    }
}
