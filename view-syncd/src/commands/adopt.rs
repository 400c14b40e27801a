//! `view-syncd adopt`: brings the views of an older system into the ledger.

mod chunk;
mod redis;
mod walk;

use std::{io::Write, process::ExitCode};

use anyhow::{Context as _, bail};
use serde::Serialize;
use views_core::settings::EXIT_CONFIG;
use views_postgres::{
    Database, DatabaseError,
    adopt::{Counting, Tally},
};

use self::{redis::Told, walk::Walk};
use super::{PATIENCE, open, recount};
use crate::{
    cli::{STATEMENT_TIMEOUT, SyncSettings, adopt::AdoptSettings},
    context::startup,
    error::Failure,
};

/// What became of a source.
#[derive(Debug, Default, Serialize)]
struct Summary {
    posts: i64,
    pairs: i64,
    new: i64,
    own: i64,
    no_viewer: i64,
    unknown_post: i64,
    do_not_fit: i64,
    /// Pairs that the ledger had before, or that the source has more than once.
    repeated: i64,
    /// Pairs that are left because of locks.
    left: i64,
    /// Posts of which some pairs are left, because others have locked them, or their counts are full.
    posts_left: usize,
    dry_run: bool,
}

/// Adopts views, and tells what became of them.
///
/// # Errors
/// When a store is away.
pub async fn run(settings: SyncSettings, adopt: AdoptSettings) -> anyhow::Result<ExitCode> {
    match try_run(settings, &adopt).await {
        Ok(summary) => {
            print(&summary, adopt.json)?;
            Ok(if summary.posts_left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => match error.downcast_ref::<Failure>() {
            Some(Failure::Database(DatabaseError::Setup(text))) => {
                tracing::error!("{text}");
                Ok(ExitCode::from(EXIT_CONFIG))
            }
            Some(Failure::Foreign(foreign)) => {
                tracing::error!("{foreign}");
                Ok(ExitCode::from(EXIT_CONFIG))
            }
            _ => Err(error.context("the views are not all adopted: what is done stays done, and running it again does the rest")),
        },
    }
}

async fn try_run(settings: SyncSettings, adopt: &AdoptSettings) -> anyhow::Result<Summary> {
    if adopt.is_dry {
        // Nothing is asked of Redis: the first look at it would make these keys this database's.
        let database = Database::new(&settings.database, settings.posts, 1, STATEMENT_TIMEOUT)?;
        let adoption = database.adopt(&adopt.source, adopt.counting, true).await.map_err(Failure::from)?;
        return Ok(Walk::new(&adoption, None).run().await?);
    }
    let context = open(&settings)?;
    let waited = tokio::time::timeout(PATIENCE, startup::wait(&context, |_| ())).await;
    if let Err(text) = waited.context("a store is away")? {
        return Err(Failure::Database(DatabaseError::Setup(text)).into());
    }
    let adoption = context.database.adopt(&adopt.source, adopt.counting, false).await.map_err(Failure::from)?;
    let mut summary = Walk::new(&adoption, Some(Told::new(&context))).run().await?;
    if adopt.counting == Counting::Ledger {
        // Also the counts of posts that the source does not name.
        drop(adoption);
        context.database.clear_bases().await.map_err(Failure::from)?;
        summary.posts_left += recount::all(&context).await?;
    }
    Ok(summary)
}

impl Summary {
    /// Adds what became of some pairs.
    fn add(&mut self, tally: &Tally) {
        let Tally { pairs, no_viewer, unknown_post, unfit, own, posts, new, left } = *tally;
        self.posts += posts;
        self.pairs += pairs;
        self.new += new;
        self.own += own;
        self.no_viewer += no_viewer;
        self.unknown_post += unknown_post;
        self.do_not_fit += unfit;
        self.left += left;
        self.repeated += pairs - no_viewer - unknown_post - unfit - own - new - left;
    }
}

fn print(summary: &Summary, json: bool) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    if json {
        writeln!(output, "{}", serde_json::to_string(summary)?)?;
    } else {
        let Summary { posts, pairs, new, own, no_viewer, unknown_post, do_not_fit, .. } = summary;
        writeln!(
            output,
            "posts {posts} · pairs {pairs} · new {new} · author's own {own} · no viewer {no_viewer} · unknown post {unknown_post} · do \
             not fit {do_not_fit}"
        )?;
    }
    if output.flush().is_err() {
        bail!("standard output is closed");
    }
    Ok(())
}
