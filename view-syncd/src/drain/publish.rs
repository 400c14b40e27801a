//! Tells subscribers the counts that have changed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use views_core::ids::PostId;
use views_redis::{
    RedisError,
    resp::{Commands, Replies, Reply},
};

use crate::{error::refusal, owned_session::OwnedSession};

/// Messages in one pipeline.
const CHUNK: usize = 500;
/// Counts that wait for Redis to come back. Subscribers miss messages anyway while they are away, so there is no harm
/// in an end to it.
const MAX_WAITING: usize = 100_000;

/// Counts that have changed in PostgreSQL and have not been published yet. All parts of the process that change counts
/// share them, so that an older count of a post is never published behind a younger one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Publisher(Arc<Mutex<HashMap<PostId, i64>>>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Update<'a> {
    post_id: &'a str,
    views_count: i64,
}

impl Publisher {
    /// Notes that a count has changed, and must be published once it is acknowledged in Redis.
    pub(crate) fn changed(&self, post: PostId, views: i64) {
        let mut unpublished = self.unpublished();
        if unpublished.len() < MAX_WAITING {
            unpublished.insert(post, views);
        }
    }

    /// Publishes what has changed, and a drain what has of its own partition: another drain beside it might come late with
    /// an older count. Where that fails, it is tried again after the next batch; the counts themselves are safe.
    pub(crate) async fn publish(&self, session: &mut OwnedSession) {
        let counts: Vec<(PostId, i64)> = {
            let unpublished = self.unpublished();
            unpublished.iter().filter(|(post, _)| session.is_for(post)).map(|(post, views)| (*post, *views)).collect()
        };
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        for chunk in counts.chunks(CHUNK) {
            commands.clear();
            for (post, views_count) in chunk {
                let update = Update { post_id: post.as_str(), views_count: *views_count };
                // A struct of a string and a number always has a JSON form.
                let update = serde_json::to_string(&update).unwrap_or_default();
                commands.command("PUBLISH", 2).text(session.context.keys.updates()).text(&update);
            }
            if let Err(error) = publish_chunk(session, &commands, &mut replies).await {
                tracing::warn!(%error, posts = self.unpublished().len(), "changed counts could not be published");
                return;
            }
            let mut unpublished = self.unpublished();
            for (post, views) in chunk {
                // One that has changed again meanwhile is published again.
                if unpublished.get(post) == Some(views) {
                    unpublished.remove(post);
                }
            }
        }
    }

    fn unpublished(&self) -> MutexGuard<'_, HashMap<PostId, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn publish_chunk(session: &mut OwnedSession, commands: &Commands, replies: &mut Replies) -> Result<(), RedisError> {
    session.redis.exchange(commands, replies).await?;
    let refused = replies.iter().find(|reply| !matches!(reply, Reply::Integer(_)));
    refused.map_or(Ok(()), |reply| Err(refusal(Some(reply))))
}
