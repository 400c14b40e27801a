//! `view-syncd dead`: shows the pairs that could not be stored, offers them again, or removes them.

use std::{
    io::Write,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::bail;
use serde::Serialize;
use views_core::settings::EXIT_CONFIG;

use super::{connect, progress_bar::ProgressBar};
use crate::{
    cli::{
        SyncSettings,
        dead::{Action, Filter},
    },
    drain::{
        dead_letters::{self, StoredDeadLetter},
        shared::Shared,
    },
    owned_session::OwnedSession,
    reconcile::{
        reconciler::Reconciler,
        retry_dead_letters::{Retried, Selection, drop_selected, retry_selected},
    },
};

/// How long dead letters are retried again that locks were in the way of.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// The pause in between.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

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

fn selection(filter: &Filter) -> Selection {
    Selection { ids: filter.ids.iter().copied().collect(), post: filter.post.clone(), reason: filter.reason.clone() }
}

/// Lists, retries or drops dead letters.
///
/// # Errors
/// When a store is away.
pub async fn run(settings: SyncSettings, action: Action) -> anyhow::Result<ExitCode> {
    let Some(context) = connect(&settings, "a store is away").await? else { return Ok(ExitCode::from(EXIT_CONFIG)) };
    let mut reconciler = Reconciler::new(&context, &Shared::new(&context));
    match action {
        Action::List(filter) => list(&mut reconciler.session, &filter).await,
        Action::Retry(filter) => {
            let retried = retry_until_unlocked(&mut reconciler, &selection(&filter)).await?;
            print(&filter, &Result { stored: retried.stored, removed: retried.stored, left: retried.left })?;
            Ok(if retried.left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Action::Drop(filter) => {
            let bar = bar(&mut reconciler).await?;
            let removed = drop_selected(&mut reconciler, &selection(&filter), |letters| bar.add(letters as u64)).await?;
            drop(bar);
            print(&filter, &Result { stored: 0, removed, left: 0 })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Retries dead letters, and for a while those again that locks were in the way of: most are gone in a moment.
async fn retry_until_unlocked(reconciler: &mut Reconciler, selection: &Selection) -> anyhow::Result<Retried> {
    let started = Instant::now();
    let mut stored = 0;
    loop {
        let bar = bar(reconciler).await?;
        let retried = retry_selected(reconciler, selection, |letters| bar.add(letters as u64)).await?;
        drop(bar);
        stored += retried.stored;
        if retried.locked == 0 || started.elapsed() >= LOCK_PATIENCE {
            return Ok(Retried { stored, ..retried });
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// Returns a bar for all dead letters.
async fn bar(reconciler: &mut Reconciler) -> anyhow::Result<ProgressBar> {
    let number = dead_letters::length(&mut reconciler.session).await?;
    Ok(ProgressBar::new("dead letters", u64::try_from(number).unwrap_or(0)))
}

async fn list(session: &mut OwnedSession, filter: &Filter) -> anyhow::Result<ExitCode> {
    let selection = selection(filter);
    let mut output = std::io::stdout().lock();
    let (mut after, mut found) = (None, 0);
    if filter.json {
        write!(output, "[")?;
    }
    loop {
        let page = dead_letters::page(session, after).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for dead_letter in page.iter().filter(|dead_letter| selection.has(dead_letter)) {
            let shown = shown(dead_letter);
            if filter.json {
                write!(output, "{}{}", if found == 0 { "" } else { "," }, serde_json::to_string(&shown)?)?;
            } else {
                let retry = if shown.retry { " (offered again with each cycle)" } else { "" };
                writeln!(output, "{}  {}  {}  {}  {}{retry}", shown.id, shown.at, shown.post, shown.viewer, shown.reason)?;
            }
            found += 1;
        }
    }
    if filter.json {
        writeln!(output, "]")?;
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

fn print(filter: &Filter, result: &Result) -> anyhow::Result<()> {
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
