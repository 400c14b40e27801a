//! Posts that do not exist in PostgreSQL: their keys in Redis are removed.

use views_core::ids::PostId;
use views_redis::resp::{Commands, Replies, Reply};

use crate::{
    error::{Failure, refusal},
    owned_session::OwnedSession,
};

/// Posts whose keys are removed in one pipeline.
const CHUNK: usize = 500;

/// Removes the keys of posts that do not exist, as far as that can be done now. Whoever has viewed them is counted nowhere.
pub(crate) async fn remove(session: &mut OwnedSession, posts: &[PostId]) -> Result<(), Failure> {
    session.check_owner().await?;
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let mut failure = None;
    for chunk in posts.chunks(CHUNK) {
        commands.clear();
        for post in chunk {
            let keys = &session.context.keys;
            // The set may be large: its memory is freed aside.
            commands.command("UNLINK", 2).parts(&keys.views_parts(post)).parts(&keys.meta_parts(post));
            tracing::debug!(%post, "removing the keys of a post that does not exist in PostgreSQL");
        }
        session.exchange_owned(&commands, &mut replies).await?;
        if let Some(reply) = replies.iter().find(|reply| !matches!(reply, Reply::Integer(_))) {
            failure.get_or_insert_with(|| refusal(Some(reply)));
        }
    }
    if let Some(error) = failure {
        return Err(error.into());
    }
    tracing::info!(posts = posts.len(), "removed the keys of posts that do not exist in PostgreSQL");
    Ok(())
}
