//! Looks whether both stores take what they would be given, before a step and where there is nothing to be stored that
//! would show it.

use views_core::partition::Partition;
use views_redis::{
    resp::{Commands, Replies, Reply},
    scripts,
};

use super::outbox;
use crate::{
    context::Context,
    error::{Failure, refusal},
    owned_session::OwnedSession,
};

/// Looks whether a step may be taken, and notes how much there is to be drained.
pub(crate) async fn before_step(session: &mut OwnedSession, partition: Partition) -> Result<(), Failure> {
    // A node of a cluster that can only be read says so to whoever looks at the outbox, and others are not to blame for it.
    if !is_healthy(&session.context, partition) && !session.context.redis.is_clustered() {
        // What can only be read would be stored, never acknowledged, and stored again.
        session.context.redis_watch.writable(&session.context.redis).await?;
    }
    // First: how long views have waited is told also where nothing else can be done.
    if !session.is_of_hidden() {
        measure(session, partition).await?;
    }
    session.check_owner().await
}

/// Looks whether a step could be taken.
pub(crate) async fn stand_by(session: &mut OwnedSession, partition: Partition) -> Result<(), Failure> {
    measure(session, partition).await?;
    session.check_owner().await?;
    if is_healthy(&session.context, partition) { Ok(session.context.database.ping().await?) } else { prove_stores(session).await }
}

/// Demands that both stores take what they would be given.
pub(crate) async fn prove_stores(session: &mut OwnedSession) -> Result<(), Failure> {
    if !session.context.redis.is_clustered() {
        session.context.redis_watch.writable(&session.context.redis).await?;
    }
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    scripts::prove_writable_at(&mut commands, session.owner_key());
    session.redis.exchange(&commands, &mut replies).await?;
    if let Some(reply) = replies.iter().find(|reply| matches!(reply, Reply::Error(_))) {
        return Err(refusal(Some(reply)).into());
    }
    session.context.database.ping().await?;
    session.context.database.refuses_all().await?.map_or(Ok(()), |error| Err(error.into()))
}

/// Notes how long the outbox is, how old its oldest entry, and how many dead letters there are.
async fn measure(session: &mut OwnedSession, partition: Partition) -> Result<(), Failure> {
    let measured = outbox::measure(session, partition).await?;
    session.context.health.note_outbox(partition, measured.entries, measured.oldest);
    if let Some(dead_letters) = measured.dead_letters {
        session.context.metrics.dead_letters.set(dead_letters);
    }
    Ok(())
}

/// Returns whether nothing was in the way when it was last seen.
fn is_healthy(context: &Context, partition: Partition) -> bool {
    context.health.is_healthy(partition) && !context.redis_watch.is_clustered()
}
