//! What Redis is told of adopted views.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::Instant;
use views_core::ids::PostId;
use views_postgres::adopt::{Adopted, Adoption, Changed};

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

/// How long it may take from a look-up's answer until Redis knows the post.
const LOOKUP: Duration = Duration::from_millis(250);

/// Tells Redis of adopted views.
pub(super) struct Told {
    reconciler: Reconciler,
    /// The last chunk with anything new, and the posts of it that Redis did not know. Somebody may have been looking them
    /// up, and have brought what PostgreSQL had before.
    unknown: Option<(Chunk, HashSet<PostId>)>,
}

impl Told {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self { reconciler: Reconciler::new(context, &Shared::new(context)), unknown: None }
    }

    /// Brings the posts of a chunk up to date that Redis knows. Also those of which nothing is new: a run that was killed
    /// may have left them as they were.
    pub(super) async fn tell(&mut self, adoption: &Adoption<'_>, chunk: &Chunk, adopted: &Adopted) -> Result<(), Failure> {
        self.tell_again(adoption).await?;
        let mut posts: HashSet<PostId> = chunk.posts().into_keys().collect();
        let known = self.patiently(adoption, chunk, &posts, &adopted.changed).await?;
        if adopted.tally.new > 0 {
            posts.retain(|post| !known.contains(post));
            self.unknown = Some((chunk.clone(), posts));
        }
        Ok(())
    }

    /// Looks for the last time.
    pub(super) async fn finish(&mut self, adoption: &Adoption<'_>) -> Result<(), Failure> {
        if self.unknown.is_some() {
            tokio::time::sleep(LOOKUP).await;
        }
        self.tell_again(adoption).await
    }

    async fn tell_again(&mut self, adoption: &Adoption<'_>) -> Result<(), Failure> {
        if let Some((chunk, posts)) = self.unknown.take() {
            self.patiently(adoption, &chunk, &posts, &[]).await?;
        }
        Ok(())
    }

    async fn patiently(
        &mut self,
        adoption: &Adoption<'_>,
        chunk: &Chunk,
        posts: &HashSet<PostId>,
        changed: &[Changed],
    ) -> Result<HashSet<PostId>, Failure> {
        let mut pauses = pauses();
        let until = Instant::now() + PATIENCE;
        loop {
            match self.try_tell(adoption, chunk, posts, changed).await {
                Err(Failure::Redis(error)) if Instant::now() < until => {
                    tracing::warn!("waiting: Redis is not available: {error}");
                    tokio::time::sleep(next_pause(&mut pauses)).await;
                }
                result => return result,
            }
        }
    }

    /// Brings those of the posts up to date that Redis knows, and returns them.
    async fn try_tell(
        &mut self,
        adoption: &Adoption<'_>,
        chunk: &Chunk,
        posts: &HashSet<PostId>,
        changed: &[Changed],
    ) -> Result<HashSet<PostId>, Failure> {
        let known = known(&mut self.reconciler, &posts.iter().copied().collect::<Vec<_>>()).await?;
        if known.is_empty() {
            return Ok(known);
        }
        let of_posts = chunk.posts();
        let keys: Vec<&str> = known.iter().filter_map(|post| of_posts.get(post)).flatten().copied().collect();
        let viewers = adoption.adopted(chunk.part_of(&keys)).await?;
        tell(&mut self.reconciler, &viewers).await?;
        for Changed { post, views } in changed.iter().filter(|changed| known.contains(&changed.post)) {
            self.reconciler.shared.publisher.changed(*post, *views);
        }
        let Reconciler { session, shared, .. } = &mut self.reconciler;
        shared.publisher.publish(session).await;
        Ok(known)
    }
}
