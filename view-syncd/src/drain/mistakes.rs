//! The mistakes that `deploy/prove` must be able to find (see [`views_core::failpoints`]). Only a build for the proof has
//! this file: the drain calls it in one line each, which no release compiles.

use std::time::Duration;

use views_core::{failpoints, keys::field};
use views_redis::{
    RedisError,
    resp::{Commands, Replies},
};

use super::{
    committed::{AckedPost, Committed},
    dead_letter::DeadLetter,
    outbox::Outbox,
};
use crate::owned_session::OwnedSession;

/// How long a count is ahead of its acknowledgement.
const AHEAD: Duration = Duration::from_millis(20);

/// Deletes the entries of a batch that is not committed.
pub(super) async fn before_commit(outbox: &mut Outbox, batch: &Committed) -> Result<(), RedisError> {
    if failpoints::is_broken(failpoints::ACK_BEFORE_COMMIT) {
        outbox.delete(&batch.entries.ids(), batch.connection).await?;
        failpoints::at("drain::too_early");
    }
    Ok(())
}

/// Writes counts that are not acknowledged.
pub(super) async fn before_acknowledging(
    session: &mut OwnedSession,
    posts: &[AckedPost],
    connection: u64,
) -> Result<(), RedisError> {
    if !failpoints::is_broken(failpoints::COUNT_BEFORE_ACK) || posts.is_empty() {
        return Ok(());
    }
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for acked in posts {
        let meta = session.context.keys.meta_parts(&acked.post);
        commands.command("HSET", 3).parts(&meta).text(field::PERSISTED).number(acked.views);
    }
    session.redis.exchange_over(connection, &commands, &mut replies).await?;
    tokio::time::sleep(AHEAD).await;
    Ok(())
}

/// Forgets dead letters.
pub(super) fn before_adding(dead_letters: &mut Vec<DeadLetter>) {
    if failpoints::is_broken(failpoints::FORGET_THE_DEAD) {
        dead_letters.clear();
    }
}
