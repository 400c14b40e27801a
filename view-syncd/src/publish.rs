//! Tells subscribers the counts that a sync has changed.

use fred::error::Error;
use serde::Serialize;
use views_core::ids::PostId;
use views_redis::resp::{Commands, Replies, Reply};

use crate::engine::{Engine, refusal};

/// Messages in one pipeline.
const CHUNK: usize = 500;
/// Counts that wait for Redis to come back. Subscribers miss messages anyway while they are away, so there is no harm in an end to it.
const MAX_WAITING: usize = 100_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Update<'a> {
    post_id: &'a str,
    views_count: i64,
}

impl Engine {
    /// Notes that a count has changed, and must be published once it is settled in Redis.
    pub(crate) fn changed(&mut self, post: PostId, views: i64) {
        if self.unpublished.len() < MAX_WAITING {
            self.unpublished.insert(post, views);
        }
    }

    /// Publishes what has changed. Where that fails, it is tried again after the next batch; the counts themselves are safe.
    pub(crate) async fn publish(&mut self) {
        let posts: Vec<PostId> = self.unpublished.keys().copied().collect();
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        for chunk in posts.chunks(CHUNK) {
            commands.clear();
            for post in chunk {
                let views_count = self.unpublished.get(post).copied().unwrap_or_default();
                let update = Update { post_id: post.as_str(), views_count };
                // A struct of a string and a number always has a JSON form.
                commands
                    .command("PUBLISH", 2)
                    .text(self.keys.updates())
                    .text(&serde_json::to_string(&update).unwrap_or_default());
            }
            if let Err(error) = self.publish_chunk(&commands, &mut replies).await {
                tracing::warn!(%error, posts = self.unpublished.len(), "changed counts could not be published");
                return;
            }
            for post in chunk {
                self.unpublished.remove(post);
            }
        }
    }

    async fn publish_chunk(&mut self, commands: &Commands, replies: &mut Replies) -> Result<(), Error> {
        self.line.exchange(commands, replies).await?;
        let refused = replies.iter().find(|reply| !matches!(reply, Reply::Integer(_)));
        refused.map_or(Ok(()), |reply| Err(refusal(Some(reply))))
    }
}
