//! What Redis is told of adopted views.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::Instant;
use views_core::ids::PostId;
use views_postgres::adopt::{Adoption, Changed};

use super::chunk::Chunk;
use crate::{
    context::{
        Context,
        backoff::{next_pause, pauses},
    },
    drain::shared::Shared,
    error::Failure,
    reconcile::{
        adopted::{known, tell},
        reconciler::Reconciler,
    },
};

/// How long Redis is waited for where it goes away meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells Redis of adopted views.
pub(super) struct Told {
    reconciler: Reconciler,
}

impl Told {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self { reconciler: Reconciler::new(context, &Shared::new(context)) }
    }

    /// Brings the posts of a chunk up to date that Redis knows. Also those of which nothing is new: a run that was killed
    /// may have left them as they were.
    pub(super) async fn tell(&mut self, adoption: &Adoption<'_>, chunk: &Chunk, changed: &[Changed]) -> Result<(), Failure> {
        let mut pauses = pauses();
        let until = Instant::now() + PATIENCE;
        loop {
            match self.try_tell(adoption, chunk, changed).await {
                Err(Failure::Redis(error)) if Instant::now() < until => {
                    tracing::warn!("waiting: Redis is not available: {error}");
                    tokio::time::sleep(next_pause(&mut pauses)).await;
                }
                result => return result,
            }
        }
    }

    async fn try_tell(&mut self, adoption: &Adoption<'_>, chunk: &Chunk, changed: &[Changed]) -> Result<(), Failure> {
        let posts = chunk.posts();
        let known = known(&mut self.reconciler, &posts.keys().copied().collect::<Vec<_>>()).await?;
        if known.is_empty() {
            return Ok(());
        }
        let keys: Vec<String> = known.iter().filter_map(|post| posts.get(post)).flatten().map(|key| (*key).to_owned()).collect();
        let viewers = adoption.adopted(&keys, chunk.parts, chunk.part).await?;
        tell(&mut self.reconciler, &viewers).await?;
        let known: HashSet<PostId> = known.into_iter().collect();
        for Changed { post, views } in changed.iter().filter(|changed| known.contains(&changed.post)) {
            self.reconciler.shared.publisher.changed(*post, *views);
        }
        let Reconciler { session, shared, .. } = &mut self.reconciler;
        shared.publisher.publish(session).await;
        Ok(())
    }
}
