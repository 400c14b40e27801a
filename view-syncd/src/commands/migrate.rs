//! `view-syncd migrate`: creates the ledger, or says that it is there.

use std::process::ExitCode;

use shared::{
    postgres::{Database, DatabaseError},
    settings::EXIT_CONFIG,
};

use crate::cli::{STATEMENT_TIMEOUT, SyncSettings};

/// Creates the ledger.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn run(settings: SyncSettings) -> anyhow::Result<ExitCode> {
    let database = Database::new(&settings.database, settings.posts, 1, STATEMENT_TIMEOUT)?;
    if let Ok(schema) = database.schema().await {
        tracing::info!(table = %schema.ledger, "the ledger is there already: nothing to do");
        return Ok(ExitCode::SUCCESS);
    }
    // Whatever else is wrong, the migration meets it too.
    match database.migrate().await {
        Ok(schema) => {
            tracing::info!(table = %schema.ledger, "created the ledger");
            Ok(ExitCode::SUCCESS)
        }
        Err(DatabaseError::Setup(text)) => {
            tracing::error!("{text}");
            Ok(ExitCode::from(EXIT_CONFIG))
        }
        Err(error) => Err(error.into()),
    }
}
