//! What Redis is told of adopted views.

use std::{collections::HashMap, sync::Arc, time::Duration};

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
        adopted::{Seen, see, tell},
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

    /// Returns which posts of a chunk Redis knows, and their counts.
    pub(super) async fn see(&mut self, chunk: &Chunk) -> Result<Seen, Failure> {
        let posts: Vec<PostId> = chunk.posts().into_keys().collect();
        let mut pauses = pauses();
        let until = Instant::now() + PATIENCE;
        loop {
            match see(&mut self.reconciler, &posts).await {
                Err(Failure::Redis(error)) if Instant::now() < until => {
                    tracing::warn!("waiting: Redis is not available: {error}");
                    tokio::time::sleep(next_pause(&mut pauses)).await;
                }
                result => return result,
            }
        }
    }

    /// Brings the posts of a chunk up to date that Redis knows by now. Also those of which nothing is new: a run that
    /// was killed may have left them as they were.
    pub(super) async fn tell(
        &mut self,
        adoption: &Adoption<'_>,
        chunk: &Chunk,
        changed: &[Changed],
        before: &Seen,
    ) -> Result<(), Failure> {
        // Somebody may have looked a post up meanwhile, before its viewers were there.
        let known = self.see(chunk).await?;
        let posts = chunk.posts();
        let keys: Vec<String> = known.keys().filter_map(|post| posts.get(post)).flatten().map(|key| (*key).to_owned()).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let viewers = adoption.adopted(&keys, chunk.parts, chunk.part).await?;
        let changes: HashMap<PostId, i64> = changed.iter().map(|changed| (changed.post, changed.change)).collect();
        let mut pauses = pauses();
        let until = Instant::now() + PATIENCE;
        loop {
            match tell(&mut self.reconciler, &viewers, &changes, before).await {
                Err(Failure::Redis(error)) if Instant::now() < until => {
                    tracing::warn!("waiting: Redis is not available: {error}");
                    tokio::time::sleep(next_pause(&mut pauses)).await;
                }
                Err(failure) => return Err(failure),
                Ok(()) => break,
            }
        }
        for Changed { post, views, .. } in changed.iter().filter(|changed| known.contains_key(&changed.post)) {
            self.reconciler.shared.publisher.changed(*post, *views);
        }
        let Reconciler { session, shared, .. } = &mut self.reconciler;
        shared.publisher.publish(session).await;
        Ok(())
    }
}
