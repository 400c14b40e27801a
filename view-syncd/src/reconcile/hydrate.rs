//! Puts into Redis what PostgreSQL knows of posts that view-ingest has never seen or could not look up.

use futures_util::future::join_all;
use views_core::ids::PostId;
use views_postgres::ledger;
use views_redis::{
    RedisError,
    scripts::{self, Depth},
};

use crate::{context::Context, error::Failure};

/// Posts in one query that brings viewers along.
const LOOK_UP_POSTS: usize = 64;
/// A post with at most this many viewers gets them back from the ledger, as at its first touch by view-ingest.
const FEW_VIEWERS: i64 = 1_000;

/// What became of posts that were to be put into Redis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Hydrated {
    /// How many are there now.
    pub(crate) put: usize,
    /// Of how many Redis has keys of another type.
    pub(crate) failed: usize,
}

/// Puts into Redis what PostgreSQL knows of posts. Those that do not exist are passed over.
pub(crate) async fn hydrate(context: &Context, posts: &[PostId]) -> Result<Hydrated, Failure> {
    let mut hydrated = Hydrated::default();
    for chunk in posts.chunks(LOOK_UP_POSTS) {
        let known = ledger::look_up(&context.database, chunk, FEW_VIEWERS).await?;
        let hydrate = |(post, known)| scripts::hydrate(&context.redis, &context.keys, post, known, Depth::View);
        let hydrations = known.iter().map(hydrate);
        for (result, post) in join_all(hydrations).await.into_iter().zip(known.keys()) {
            match result.map_err(RedisError::from) {
                Ok(_) => hydrated.put += 1,
                // Whoever reads the key counts the error.
                Err(error) if context.is_of_one_post(&error) => {
                    hydrated.failed += 1;
                    tracing::debug!(%post, %error, "cannot put a post into Redis");
                }
                Err(error) => return Err(error.into()),
            }
        }
        context.checkpoint()?;
    }
    Ok(hydrated)
}
