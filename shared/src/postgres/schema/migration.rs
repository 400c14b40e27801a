//! Creating the ledger.

use super::{Purpose, Schema};
use crate::{
    postgres::{Database, DatabaseError},
    sql::identifier::TableName,
};

/// What a migration has found or done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The ledger.
    pub ledger: TableName,
    /// Whether it was created now, and not there already.
    pub created: bool,
}

impl Database {
    /// Creates the ledger, unless it is there, and demands that the tables are what they have to be. The role needs no right but to create a
    /// table that refers to the posts.
    ///
    /// # Errors
    /// [`DatabaseError::Setup`] when the tables cannot be used or the ledger may not be created; `Unavailable` when nobody answers.
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

    async fn create_ledger(&self, schema: &Schema) -> Result<(), DatabaseError> {
        let mut connection = self.connection().await?;
        let transaction = connection.transaction().await?;
        transaction.batch_execute(crate::sql::MIGRATION_LOCK).await?;
        transaction.batch_execute(&schema.statements.create_ledger).await?;
        Ok(transaction.commit().await?)
    }
}
