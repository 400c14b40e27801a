//! `view-syncd dead`: shows the pairs that could not be stored, offers them again, or removes them.

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use prometheus_client::registry::Registry;
use serde::Serialize;
use views_core::settings::EXIT_CONFIG;

use super::PATIENCE;
use crate::{
    cli::SyncSettings,
    dead_letters::{Selection, StoredDeadLetter},
    engine::Engine,
    metrics::Metrics,
    outbox::EntryId,
    stop::Stop,
    stores::Stores,
};

/// What is to be done with dead letters.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Show them: id, time of the view, post, viewer, reason. Exits 1 where there are any
    List(Filter),
    /// Offer them to PostgreSQL again, with the time of the view, and remove those that it takes. Exits 1 where any are left
    Retry(Filter),
    /// Remove them for good: these views count nowhere
    Drop(Filter),
}

/// Which of them.
#[derive(Debug, Clone, Default, Args)]
pub struct Filter {
    /// Their ids, as `list` shows them [default: all]
    #[arg(value_name = "ID")]
    ids: Vec<EntryId>,
    /// Only those of this post
    #[arg(long, value_name = "ID")]
    post: Option<String>,
    /// Only those whose reason has this text in it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Tell everything in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: String,
    at: String,
    post: String,
    viewer: String,
    reason: &'a str,
    retry: bool,
}

#[derive(Serialize)]
struct Result {
    stored: usize,
    removed: usize,
    left: usize,
}

impl Filter {
    fn selection(&self) -> Selection {
        Selection { ids: self.ids.iter().copied().collect(), post: self.post.clone(), reason: self.reason.clone() }
    }
}

/// Does it.
///
/// # Errors
/// When a store is away.
pub async fn run(settings: SyncSettings, action: Action) -> anyhow::Result<ExitCode> {
    let stores = Stores::open(&settings)?;
    let waited = tokio::time::timeout(PATIENCE, stores.wait(|_| ())).await;
    if let Err(text) = waited.context("a store is away")? {
        tracing::error!("{text}");
        return Ok(ExitCode::from(EXIT_CONFIG));
    }
    let mut engine = Engine::new(&stores, settings.work, Metrics::new(&mut Registry::default()), Stop::never());
    // The daemon may be draining.
    engine.set_drains(false);
    match action {
        Action::List(filter) => list(&mut engine, &filter).await,
        Action::Retry(filter) => {
            let retried = engine.retry_selected(&filter.selection()).await?;
            tell(&filter, &Result { stored: retried.stored, removed: retried.stored, left: retried.left })?;
            Ok(if retried.left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Action::Drop(filter) => {
            let removed = engine.drop_selected(&filter.selection()).await?;
            tell(&filter, &Result { stored: 0, removed, left: 0 })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn list(engine: &mut Engine, filter: &Filter) -> anyhow::Result<ExitCode> {
    let selection = filter.selection();
    let mut output = std::io::stdout().lock();
    let (mut after, mut found) = (None, 0);
    if filter.json {
        write!(output, "[")?;
    }
    loop {
        let page = engine.dead_letters(after, None).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for dead_letter in page.iter().filter(|dead_letter| selection.has(dead_letter)) {
            let shown = shown(dead_letter);
            if filter.json {
                write!(output, "{}\n  {}", if found == 0 { "" } else { "," }, serde_json::to_string(&shown)?)?;
            } else {
                let retry = if shown.retry { " (offered again with each cycle)" } else { "" };
                writeln!(output, "{}  {}  {}  {}  {}{retry}", shown.id, shown.at, shown.post, shown.viewer, shown.reason)?;
            }
            found += 1;
        }
    }
    if filter.json {
        writeln!(output, "\n]")?;
    }
    Ok(if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shown(dead_letter: &StoredDeadLetter) -> Shown<'_> {
    let at = std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(dead_letter.dead.at_ms).unwrap_or(0));
    // What is no id may be any bytes, also such as would play tricks on a terminal.
    let safe = |bytes: &[u8]| bytes.escape_ascii().to_string();
    Shown {
        id: dead_letter.id.to_string(),
        at: humantime::format_rfc3339_millis(at).to_string(),
        post: safe(&dead_letter.dead.post),
        viewer: safe(&dead_letter.dead.viewer),
        reason: &dead_letter.dead.reason,
        retry: dead_letter.dead.is_retryable,
    }
}

fn tell(filter: &Filter, result: &Result) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    if filter.json {
        writeln!(output, "{}", serde_json::to_string(result)?)?;
    } else {
        writeln!(output, "stored {} · removed {} · left {}", result.stored, result.removed, result.left)?;
    }
    if output.flush().is_err() {
        bail!("standard output is closed");
    }
    Ok(())
}
