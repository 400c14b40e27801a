//! Posts that do not exist in PostgreSQL: their keys in Redis are removed.

use fred::{interfaces::KeysInterface, types::Value};
use views_core::ids::PostId;

use crate::{error::Failure, owned_session::OwnedSession};

/// Posts whose keys are removed in one pipeline.
const CHUNK: usize = 500;

/// Removes the keys of posts that do not exist. Whoever has viewed them is counted nowhere.
pub(crate) async fn remove(session: &mut OwnedSession, posts: &[PostId]) -> Result<(), Failure> {
    session.check_owner().await?;
    let context = &session.context;
    for chunk in posts.chunks(CHUNK) {
        let pipeline = context.redis.pipeline();
        for post in chunk {
            // The set may be large: its memory is freed aside.
            let () = pipeline.unlink(vec![context.keys.views(post), context.keys.meta(post)]).await?;
            tracing::debug!(%post, "removing the keys of a post that does not exist in PostgreSQL");
        }
        views_redis::send::<Value>(&context.redis, &pipeline).await.into_iter().try_for_each(|reply| reply.map(drop))?;
    }
    tracing::info!(posts = posts.len(), "removed the keys of posts that do not exist in PostgreSQL");
    Ok(())
}
