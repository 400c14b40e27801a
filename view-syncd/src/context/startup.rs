//! The start: both stores are waited for, and looked at whether they will do.

use std::{sync::Arc, time::Duration};

use fred::error::Error;
use views_postgres::DatabaseError;
use views_redis::{Code, ownership};

use super::{
    Context,
    backoff::{next_pause, pauses},
    redis_watch::writable,
};
use crate::{error::Failure, owned_session::OwnedSession};

/// Why a store cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// It is away. Waiting helps.
    #[error(transparent)]
    Away(Failure),
    /// It is not set up for this program. The text says what to do.
    #[error("{0}")]
    Setup(String),
}

/// Asks both stores once, and whose the keys are. Where they are nobody's, they become this ledger's.
///
/// # Errors
/// [`NotReady`].
pub async fn check(context: &Arc<Context>) -> Result<(), NotReady> {
    check_all(context).await.inspect_err(|not_ready| {
        if let NotReady::Away(failure) = not_ready {
            context.store_failures.note(failure);
        }
    })
}

async fn check_all(context: &Arc<Context>) -> Result<(), NotReady> {
    check_unowned(context).await?;
    let owner = context.database.owner().await.map_err(not_ready)?;
    match ownership::take(&context.redis, &context.keys, &owner).await {
        Ok(taken) => taken.map_err(|foreign| NotReady::Setup(foreign.to_string())),
        Err(error) if ownership::is_forbidden(&error) => {
            let key = context.keys.owner();
            Err(NotReady::Setup(format!("Redis does not let this account use {key}: allow it GET and SET of that key ({error})")))
        }
        Err(error) if context.is_of_some_nodes(Code::of(error.details())) => check_partitions(context).await,
        Err(error) => Err(NotReady::Away(error.into())),
    }
}

/// Where only the node is away that has the name of all keys' owner: the partitions have theirs beside their outboxes.
async fn check_partitions(context: &Arc<Context>) -> Result<(), NotReady> {
    OwnedSession::new(context).check_owner().await.map_err(|failure| match failure {
        Failure::Foreign(foreign) => NotReady::Setup(foreign.to_string()),
        failure => NotReady::Away(failure),
    })
}

/// Waits for both stores, for ever, and then follows Redis's connections. `before_each_pause` is told how long the next
/// pause is.
///
/// # Errors
/// The text of [`NotReady::Setup`].
pub async fn wait(context: &Arc<Context>, before_each_pause: impl FnMut(Duration)) -> Result<(), String> {
    wait_for(async || check(context).await, before_each_pause).await?;
    context.redis_watch.follow(&context.redis);
    Ok(())
}

/// Waits for both stores, for ever, whosever the keys are.
///
/// # Errors
/// The text of [`NotReady::Setup`].
pub(crate) async fn wait_unowned(context: &Arc<Context>) -> Result<(), String> {
    wait_for(async || check_unowned(context).await, |_| ()).await
}

/// Asks both stores once, whosever the keys are.
async fn check_unowned(context: &Arc<Context>) -> Result<(), NotReady> {
    let redis = ask_redis(context).await;
    if let Err(NotReady::Setup(_)) = redis {
        return redis;
    }
    // Also where Redis is away: what is wrong with PostgreSQL is not cured by waiting for Redis.
    match ask_database(context).await.map_err(not_ready) {
        Ok(()) => redis,
        Err(setup @ NotReady::Setup(_)) => Err(setup),
        Err(away) => redis.and(Err(away)),
    }
}

async fn ask_redis(context: &Arc<Context>) -> Result<(), NotReady> {
    let away = |error: Error| NotReady::Away(error.into());
    let report = context.redis_watch.inspect(&context.redis).await.map_err(away)?;
    if let Some(text) = report.refusal {
        return Err(NotReady::Setup(text));
    }
    context.redis_watch.note(&report);
    writable(&report).map_err(away)
}

async fn ask_database(context: &Arc<Context>) -> Result<(), DatabaseError> {
    context.database.ping().await?;
    context.database.schema().await.map(drop)
}

fn not_ready(error: DatabaseError) -> NotReady {
    match error {
        DatabaseError::Setup(text) => NotReady::Setup(text),
        error => NotReady::Away(error.into()),
    }
}

async fn wait_for(
    check: impl AsyncFn() -> Result<(), NotReady>,
    mut before_each_pause: impl FnMut(Duration),
) -> Result<(), String> {
    let mut pauses = pauses();
    loop {
        match check().await {
            Ok(()) => return Ok(()),
            Err(NotReady::Setup(text)) => return Err(text),
            Err(NotReady::Away(failure)) => {
                let pause = next_pause(&mut pauses);
                tracing::warn!("waiting: {failure}");
                before_each_pause(pause);
                tokio::time::sleep(pause).await;
            }
        }
    }
}
