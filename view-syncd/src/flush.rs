//! The last drain before the end.

use std::{
    process::ExitCode,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use views_core::keys::Keys;

use crate::{
    deferred::DeferReason,
    drain::{Drained, Urgency},
    engine::{Engine, Failure},
    line::Line,
    outbox::{self, Batch, EntryId},
    stores::{self, Stores},
};

/// How long the outbox may take to become empty once everything is stored that was in it at the stop: other processes may go on recording.
const GRACE: Duration = Duration::from_secs(2);
/// How long it is tried, once everything else is stored, to store the views of posts that others have locked in PostgreSQL.
const DEFERRED_GRACE: Duration = Duration::from_secs(3);
/// How long the count of what is left may take.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);
/// Pairs that are counted; of more it is only said that they are more.
const MOST_COUNTED: usize = 100_000;

/// Drains until the outbox is empty, for ever: the caller sets the deadline. What others have locked in PostgreSQL is left after a moment.
///
/// Where others go on recording, the outbox may never be empty. Then it is enough that all that was recorded before the stop is stored.
pub(crate) async fn run(engine: &mut Engine) -> ExitCode {
    let mut pauses = stores::pauses();
    let mut newest = None;
    let mut grace_until = None;
    let mut held_until = None;
    loop {
        match step(engine, &mut newest).await {
            Ok(Drained::Idle) => {
                tracing::info!("the outbox is empty");
                return ExitCode::SUCCESS;
            }
            Ok(Drained::Stored { last, .. }) if newest.is_some_and(|newest| last >= newest) => {
                let now = std::time::Instant::now();
                if now >= *grace_until.get_or_insert(now + GRACE) {
                    if !engine.deferred.is_empty() {
                        return leave_deferred(engine).await;
                    }
                    tracing::info!(
                        "all views from before the stop are stored; those that others go on recording wait for the next start"
                    );
                    return ExitCode::SUCCESS;
                }
            }
            Ok(Drained::Deferred(next)) => {
                let now = std::time::Instant::now();
                if now >= *held_until.get_or_insert(now + DEFERRED_GRACE) {
                    return leave_deferred(engine).await;
                }
                tokio::time::sleep_until(next.into()).await;
            }
            Ok(_) => (pauses, held_until) = (stores::pauses(), None),
            Err(failure @ Failure::Foreign(_)) => {
                tracing::error!("nothing is drained, and everything stays in Redis: {failure}");
                return ExitCode::FAILURE;
            }
            Err(failure) => {
                tracing::warn!("the outbox cannot be drained: {failure}");
                tokio::time::sleep(stores::pause_after(&failure, &mut pauses)).await;
            }
        }
    }
}

async fn leave_deferred(engine: &mut Engine) -> ExitCode {
    let posts = engine.deferred.len();
    // Their entries may have pairs of other posts, and earlier ones of these, which are stored.
    let rest = Batch::of(engine.deferred.unsettled().collect(), EntryId::LAST, engine.line.number());
    let views = left(rest, &mut engine.line, &engine.keys).await.unwrap_or_else(|| "views".to_owned());
    let why = match engine.deferred.oldest() {
        Some((_, DeferReason::Full)) => "whose counts have no room in their column",
        _ => "that others have locked in PostgreSQL",
    };
    tracing::error!(posts, "{views} of posts {why} are left in the outbox: they stay safe in Redis until the next start");
    ExitCode::FAILURE
}

async fn step(engine: &mut Engine, newest: &mut Option<outbox::EntryId>) -> Result<Drained, Failure> {
    if newest.is_none() {
        *newest = outbox::newest(&engine.redis, &engine.keys).await?;
    }
    engine.drain(Urgency::AtOnce).await
}

/// Says what could not be stored in time.
pub(crate) async fn report_rest(stores: &Stores) {
    let mut line = Line::new(stores.redis.clone(), Arc::<AtomicU64>::default());
    match left(Batch::default(), &mut line, &stores.keys).await {
        Some(views) => tracing::error!("{views} are left in the outbox: they stay safe in Redis until the next start"),
        None => {
            tracing::error!("the outbox could not be drained, nor read: what is left stays safe in Redis until the next start");
        }
    }
}

/// Reads what is in the outbox, and says how much that is; nothing where it cannot be read.
async fn left(mut rest: Batch, line: &mut Line, keys: &Keys) -> Option<String> {
    match tokio::time::timeout(REPORT_PATIENCE, rest.read_on(line, keys, MOST_COUNTED)).await {
        Ok(Ok(())) => {
            let at_least = if rest.size < MOST_COUNTED { "" } else { "at least " };
            Some(format!("{at_least}{} views in {} entries", rest.size, rest.entries.len()))
        }
        _ => None,
    }
}
