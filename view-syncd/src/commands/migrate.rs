//! `view-syncd migrate`: creates the ledger, or says that it is there. Either way the tables are what they have to be
//! afterwards.

use std::process::ExitCode;

use views_core::settings::EXIT_CONFIG;
use views_postgres::{Database, DatabaseError, schema::Migrated};

use crate::cli::{STATEMENT_TIMEOUT, SyncSettings};

/// Creates the ledger.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn run(settings: SyncSettings) -> anyhow::Result<ExitCode> {
    let database = Database::new(&settings.database, settings.posts, 1, STATEMENT_TIMEOUT)?;
    match database.migrate().await {
        Ok(Migrated { ledger, created }) => {
            let what = if created { "created the ledger" } else { "the ledger is there already, as it has to be: nothing to do" };
            tracing::info!(table = %ledger, "{what}");
            Ok(ExitCode::SUCCESS)
        }
        Err(DatabaseError::Setup(text)) => {
            tracing::error!("{text}");
            Ok(ExitCode::from(EXIT_CONFIG))
        }
        Err(error) => Err(error.into()),
    }
}
