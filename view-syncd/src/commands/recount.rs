//! `view-syncd recount`: sets each post's count to its base and the views that the ledger has, and brings Redis up to
//! date.

use std::{
    collections::{HashMap, HashSet},
    io::Write,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Serialize;
use views_core::{ids::PostId, log_names, settings::EXIT_CONFIG};
use views_postgres::{DatabaseError, recount::Recount};
use views_redis::scripts::Adjustment;

use super::{connect, progress_bar::ProgressBar};
use crate::{
    cli::{SyncSettings, recount::Options},
    context::Context,
    drain::shared::Shared,
    error::Failure,
    reconcile::{
        adjust::adjust, live_count::write_live_counts, post_state::read_states, reconciler::Reconciler, report::ScanReport,
    },
};

/// How long posts are tried again that somebody has locked: most are free in a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// The pause in between.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// How many posts were looked at.
    posts: u64,
    /// How many counts were set.
    changed: usize,
    /// How many posts others had locked to the end.
    locked: usize,
    /// How many counts PostgreSQL did not let be set.
    refused: usize,
}

/// Counts anew.
///
/// # Errors
/// When a store is away.
pub async fn run(settings: SyncSettings, options: Options) -> anyhow::Result<ExitCode> {
    let Some(context) = connect(&settings, "a store is away").await? else { return Ok(ExitCode::from(EXIT_CONFIG)) };
    let mut recount = match Recount::begin(&context.database).await {
        Ok(recount) => recount,
        Err(DatabaseError::Setup(text)) => {
            tracing::error!("{text}");
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
        Err(error) => return Err(error.into()),
    };
    let mut reconciler = Reconciler::new(&context, &Shared::new(&context));
    let mut summary = Summary::default();
    let mut locked = HashSet::new();
    if let Some(post) = &options.post {
        let found = recount.one(post).await?;
        if found.posts == 0 {
            tracing::error!(%post, "there is no such post");
            return Ok(ExitCode::FAILURE);
        }
        summary.posts = found.posts;
        set(&mut reconciler, &recount, &found.ids, &mut summary, &mut locked).await?;
    } else {
        walk(&mut reconciler, &mut recount, &mut summary, &mut locked).await?;
    }
    retry(&mut reconciler, &recount, &mut summary, &mut locked).await?;
    print(&summary, options.json)?;
    Ok(if summary.locked + summary.refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Counts all posts anew. Returns how many are left as they were.
pub(super) async fn all(context: &Arc<Context>) -> Result<usize, Failure> {
    let mut recount = Recount::begin(&context.database).await?;
    let mut reconciler = Reconciler::new(context, &Shared::new(context));
    let (mut summary, mut locked) = (Summary::default(), HashSet::new());
    walk(&mut reconciler, &mut recount, &mut summary, &mut locked).await?;
    retry(&mut reconciler, &recount, &mut summary, &mut locked).await?;
    Ok(summary.locked + summary.refused)
}

/// Sets the counts of some posts. Returns those that others have locked.
pub(super) async fn set_counts(
    reconciler: &mut Reconciler,
    recount: &Recount<'_>,
    ids: &[String],
) -> Result<Vec<String>, Failure> {
    let (mut summary, mut locked) = (Summary::default(), HashSet::new());
    set(reconciler, recount, ids, &mut summary, &mut locked).await?;
    Ok(locked.into_iter().collect())
}

/// Goes through all posts.
async fn walk(
    reconciler: &mut Reconciler,
    recount: &mut Recount<'_>,
    summary: &mut Summary,
    locked: &mut HashSet<String>,
) -> Result<(), Failure> {
    let bar = ProgressBar::new("posts", recount.estimated_posts());
    while let Some(found) = recount.next().await? {
        summary.posts += found.posts;
        set(reconciler, recount, &found.ids, summary, locked).await?;
        bar.add(found.posts);
    }
    Ok(())
}

/// Tries posts again for a while that others have locked, and tells which are left.
async fn retry(
    reconciler: &mut Reconciler,
    recount: &Recount<'_>,
    summary: &mut Summary,
    locked: &mut HashSet<String>,
) -> Result<(), Failure> {
    let started = Instant::now();
    while !locked.is_empty() && started.elapsed() < LOCK_PATIENCE {
        tokio::time::sleep(LOCK_PAUSE).await;
        let again: Vec<String> = locked.drain().collect();
        set(reconciler, recount, &again, summary, locked).await?;
    }
    summary.locked = locked.len();
    for post in &*locked {
        tracing::warn!(name: log_names::EXAMPLE, post, "somebody has locked a post: its count is as it was");
    }
    Ok(())
}

/// Sets the counts of posts in PostgreSQL, and then in Redis where that knows them.
async fn set(
    reconciler: &mut Reconciler,
    recount: &Recount<'_>,
    ids: &[String],
    summary: &mut Summary,
    locked: &mut HashSet<String>,
) -> Result<(), Failure> {
    if ids.is_empty() {
        return Ok(());
    }
    let posts: HashMap<&str, PostId> = ids.iter().filter_map(|id| Some((id.as_str(), PostId::parse(id).ok()?))).collect();
    let known: Vec<PostId> = posts.values().copied().collect();
    // What Redis has before PostgreSQL is asked: nothing that is younger is written over.
    let states = read_states(&mut reconciler.session, &known, &mut ScanReport::default()).await?;
    let recounted = recount.set(ids).await?;
    let mut adjustments = Vec::new();
    for (id, views) in &recounted.counts {
        let Some(post) = posts.get(id.as_str()) else { continue };
        reconciler.shared.publisher.changed(*post, *views);
        if let Some(state) = states.get(post).filter(|state| state.has_meta) {
            let count = Adjustment { known: state.persisted, views: Some(*views), is_quiet: true, ..Adjustment::of(*post) };
            adjustments.push(Adjustment { is_meant: true, ..count });
        }
    }
    let known: Vec<PostId> = adjustments.iter().map(|adjustment| adjustment.post).collect();
    adjust(&mut reconciler.session, &adjustments, &mut ScanReport::default()).await?;
    // Of a post that is being viewed, something is mostly on its way, and its count was left: it is written as of one moment.
    write_live_counts(reconciler, known).await?;
    reconciler.shared.publisher.publish(&mut reconciler.session).await;
    for (post, error) in &recounted.refused {
        tracing::warn!(name: log_names::EXAMPLE, post, error, "PostgreSQL does not let a count be set");
    }
    summary.changed += recounted.counts.len();
    summary.refused += recounted.refused.len();
    locked.extend(recounted.locked);
    Ok(())
}

fn print(summary: &Summary, as_json: bool) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    if as_json {
        writeln!(output, "{}", serde_json::to_string(summary)?)?;
    } else {
        writeln!(output, "posts {} · changed {} · locked {}", summary.posts, summary.changed, summary.locked)?;
    }
    output.flush().context("standard output is closed")
}
