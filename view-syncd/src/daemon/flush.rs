//! The last drain before the end.

use std::{process::ExitCode, sync::Arc, time::Duration};

use super::synchronizer::Synchronizer;
use crate::{
    context::{
        Context,
        backoff::{pause_after, pauses},
    },
    drain::{Drained, Urgency, batch::Batch},
    entry_id::EntryId,
    error::Failure,
    owned_session::OwnedSession,
};

/// How long the outbox may take to become empty once everything is stored that was in it at the stop: other processes
/// may go on recording.
const GRACE: Duration = Duration::from_secs(2);
/// How long it is tried, once everything else is stored, to store the views of posts that others have locked in PostgreSQL.
const DEFERRED_GRACE: Duration = Duration::from_secs(3);
/// How long the count of what is left may take.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);
/// Pairs that are counted; of more it is only said that they are more.
const MOST_COUNTED: usize = 100_000;

/// Drains until the outbox is empty, for ever: the caller sets the deadline. What others have locked in PostgreSQL is
/// left after a moment.
///
/// Where others go on recording, the outbox may never be empty. Then it is enough that all that was recorded before the
/// stop is stored.
pub(crate) async fn run(synchronizer: &mut Synchronizer) -> ExitCode {
    let mut failure_pauses = pauses();
    let mut newest = None;
    let mut grace_until = None;
    let mut deferred_until = None;
    loop {
        match step(synchronizer, &mut newest).await {
            Ok(Drained::Idle) => {
                tracing::info!("the outbox is empty");
                return ExitCode::SUCCESS;
            }
            Ok(Drained::Stored { last, .. }) if newest.is_some_and(|newest| last >= newest) => {
                let now = std::time::Instant::now();
                if now >= *grace_until.get_or_insert(now + GRACE) {
                    if !synchronizer.drain.deferred().is_empty() {
                        return leave_deferred(synchronizer).await;
                    }
                    tracing::info!(
                        "all views from before the stop are stored; those that others go on recording wait for the next start"
                    );
                    return ExitCode::SUCCESS;
                }
            }
            Ok(Drained::Deferred(next)) => {
                let now = std::time::Instant::now();
                if now >= *deferred_until.get_or_insert(now + DEFERRED_GRACE) {
                    return leave_deferred(synchronizer).await;
                }
                tokio::time::sleep_until(next.into()).await;
            }
            Ok(_) => (failure_pauses, deferred_until) = (pauses(), None),
            Err(failure @ Failure::Foreign(_)) => {
                tracing::error!("nothing is drained, and everything stays in Redis: {failure}");
                return ExitCode::FAILURE;
            }
            Err(failure) => {
                tracing::warn!("the outbox cannot be drained: {failure}");
                tokio::time::sleep(pause_after(&failure, &mut failure_pauses)).await;
            }
        }
    }
}

/// Says what is left because of others' locks.
async fn leave_deferred(synchronizer: &mut Synchronizer) -> ExitCode {
    let (posts, why) = {
        let deferred = synchronizer.drain.deferred();
        let why = if deferred.first_is_full() {
            "whose counts have no room in their column"
        } else {
            "that others have locked in PostgreSQL"
        };
        (deferred.len(), why)
    };
    // Their entries may have pairs of other posts, and earlier ones of these, which are stored.
    let outbox = &mut synchronizer.drain.outbox;
    let rest = Batch::of(outbox.deferred.unacknowledged().collect(), EntryId::LAST, outbox.session.redis.number());
    let views = left(rest, &mut outbox.session).await.unwrap_or_else(|| "views".to_owned());
    tracing::error!(posts, "{views} of posts {why} are left in the outbox: they stay safe in Redis until the next start");
    ExitCode::FAILURE
}

async fn step(synchronizer: &mut Synchronizer, newest: &mut Option<EntryId>) -> Result<Drained, Failure> {
    if newest.is_none() {
        *newest = synchronizer.drain.newest().await?;
    }
    synchronizer.drain(Urgency::AtOnce).await
}

/// Says what could not be stored in time.
pub(crate) async fn report_rest(context: &Arc<Context>) {
    match left(Batch::default(), &mut OwnedSession::new(context)).await {
        Some(views) => tracing::error!("{views} are left in the outbox: they stay safe in Redis until the next start"),
        None => {
            tracing::error!("the outbox could not be drained, nor read: what is left stays safe in Redis until the next start");
        }
    }
}

/// Reads what is in the outbox, and returns how much that is in words; nothing where it cannot be read.
async fn left(mut rest: Batch, session: &mut OwnedSession) -> Option<String> {
    match tokio::time::timeout(REPORT_PATIENCE, rest.read_on(session, MOST_COUNTED)).await {
        Ok(Ok(())) => {
            let at_least = if rest.size < MOST_COUNTED { "" } else { "at least " };
            Some(format!("{at_least}{} views in {} entries", rest.size, rest.entries.len()))
        }
        _ => None,
    }
}
