//! `view-syncd warm`: loads the posts that are asked for most into Redis.

use std::{io::Write, process::ExitCode};

use anyhow::bail;
use serde::Serialize;
use views_core::settings::EXIT_CONFIG;
use views_postgres::DatabaseError;

use super::{connect, progress_bar::ProgressBar};
use crate::{
    cli::{
        SyncSettings,
        warm::{WarmCommand, WarmSettings},
    },
    error::Failure,
    owned_session::OwnedSession,
    reconcile::warm::{Warmed, warm},
};

#[derive(Serialize)]
struct Result {
    posts: usize,
    loaded: usize,
    known: usize,
    failed: usize,
    left_out: usize,
}

/// Loads posts. The exit status is 1 where some of them could not be.
///
/// # Errors
/// When a store is away.
pub async fn run(settings: SyncSettings, command: WarmCommand) -> anyhow::Result<ExitCode> {
    let Some(context) = connect(&settings, "Warm failed: a store is away").await? else { return Ok(ExitCode::from(EXIT_CONFIG)) };
    let WarmSettings { top, orders } = &command.settings;
    let bar = ProgressBar::new("posts", (top * orders.len()) as u64);
    let result = warm(&mut OwnedSession::new(&context), &command.settings, |posts| bar.add(posts as u64)).await;
    drop(bar);
    match result {
        Ok(Warmed { posts, loaded, known, failed, left_out }) => {
            print(&Result { posts, loaded, known, failed, left_out }, command.json)?;
            Ok(if failed + left_out == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(failure @ (Failure::Foreign(_) | Failure::Database(DatabaseError::Setup(_)))) => {
            tracing::error!("{failure}");
            Ok(ExitCode::from(EXIT_CONFIG))
        }
        Err(failure) => Err(failure.into()),
    }
}

fn print(result: &Result, json: bool) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    if json {
        writeln!(output, "{}", serde_json::to_string(result)?)?;
    } else {
        let Result { posts, loaded, known, failed, left_out } = result;
        writeln!(output, "posts {posts} · loaded {loaded} · there already {known} · failed {failed} · left out {left_out}")?;
    }
    if output.flush().is_err() {
        bail!("standard output is closed");
    }
    Ok(())
}
