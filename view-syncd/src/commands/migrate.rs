//! `view-syncd migrate`: creates what is missing beside the posts, or says that it is there, and remembers how much of
//! each count no view explains. Either way the tables are what they have to be afterwards.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use views_core::{log_names, settings::EXIT_CONFIG};
use views_postgres::{
    Database, DatabaseError,
    schema::{Migrated, Schema},
    viewer_index::{IndexProgress, MadeIndex},
};

use super::progress_bar::ProgressBar;
use crate::cli::{STATEMENT_TIMEOUT, SyncSettings, migrate::Options};

/// Creates what is missing. Exits 1 where locks are in the way of some bases.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn run(settings: SyncSettings, options: Options) -> anyhow::Result<ExitCode> {
    let database = Database::new(&settings.database, settings.posts, 1, STATEMENT_TIMEOUT)?;
    let Migrated { ledger, created, done, warnings, schema } = match database.migrate(options.add_count_column).await {
        Ok(migrated) => migrated,
        Err(DatabaseError::Setup(text)) => {
            tracing::error!("{text}");
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
        Err(error) => return Err(error.into()),
    };
    let what = if created { "created the ledger" } else { "the ledger is there already, as it has to be: nothing to do" };
    tracing::info!(table = %ledger, "{what}");
    for text in done {
        tracing::info!("{text}");
    }
    for text in warnings {
        tracing::warn!(name: log_names::STATE, "{text}");
    }
    let has_all = take_bases(&database, &schema).await?;
    if options.viewer_index {
        let made = make_viewer_index(&database, &schema).await?;
        if made != ExitCode::SUCCESS {
            return Ok(made);
        }
    }
    Ok(if has_all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes the index by which a viewer's views are found.
async fn make_viewer_index(database: &Database, schema: &Schema) -> anyhow::Result<ExitCode> {
    let bar = ProgressBar::new("making the index", 1);
    let started = Instant::now();
    let made = database.make_viewer_index(schema, |IndexProgress { phase, done, total }| bar.set(&phase, done, total)).await;
    drop(bar);
    let MadeIndex { name, made, dropped } = match made {
        Ok(made) => made,
        Err(DatabaseError::Setup(text)) => {
            tracing::error!("cannot make the index by which a viewer's views are found: {text}");
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
        Err(error) => return Err(error.into()),
    };
    if dropped > 0 {
        tracing::info!(indexes = dropped, "dropped what an earlier attempt had left unfinished");
    }
    if made > 0 {
        let took = humantime::format_duration(Duration::from_millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(0)));
        tracing::info!(index = name, %took, "made the index by which a viewer's views are found");
    } else {
        tracing::info!(index = name, "the index by which a viewer's views are found is there already");
    }
    Ok(ExitCode::SUCCESS)
}

/// Remembers the bases of posts that have none. Returns whether running it again later has nothing more to do.
async fn take_bases(database: &Database, schema: &Schema) -> Result<bool, DatabaseError> {
    if !schema.has_base() {
        return Ok(true);
    }
    let tables = &schema.tables;
    let bar = ProgressBar::new("posts", schema.estimated_posts);
    let bases = database.take_bases(schema, |posts| bar.add(posts)).await;
    drop(bar);
    match bases {
        Ok(bases) if bases.taken > 0 => {
            tracing::info!(posts = bases.taken, sum = %bases.sum, "remembered how much of each post's count no view explains");
        }
        Ok(_) => {}
        // The programs do without them.
        Err(DatabaseError::Setup(text)) => {
            tracing::warn!(
                "how much of each post's count no view explains is not remembered, without which counts cannot be made anew: {text}; the role \
                 needs SELECT on the ids and counts of {} and on {}: grant them, and run this again",
                tables.posts,
                tables.ledger
            );
        }
        // All of them in one statement, or each chunk by going through all of them.
        Err(DatabaseError::Unavailable(text)) if !schema.has_index() => {
            tracing::warn!(
                "how much of each post's count no view explains is not remembered, without which counts cannot be made anew: {text}; no index \
                 is known by which {} can be gone through in the order of {}: create one, and run this again",
                tables.posts,
                tables.id
            );
        }
        // Only a role that may not lock posts waits for who has.
        Err(error @ DatabaseError::Locked(_)) => {
            tracing::warn!(
                "how much of each post's count no view explains is not remembered of all of them: {error}; run this again"
            );
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    Ok(true)
}
