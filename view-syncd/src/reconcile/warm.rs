//! Loads the posts that are asked for most into Redis before anybody asks, as first views would.
//!
//! What Redis has of a post stays as it is. It rests as long as it works, as the scan does, and stops before Redis is
//! full: the room that is left is for views.

use std::sync::Arc;

use fred::types::Value;
use views_core::ids::PostId;
use views_postgres::top_posts::top_posts;
use views_redis::{
    post_meta::{self, Field, PostMeta},
    resp::{Commands, Replies},
};

use super::{
    hydrate::{Hydrated, hydrate},
    throttle::Throttle,
};
use crate::{cli::warm::WarmSettings, context::Context, error::Failure, owned_session::OwnedSession};

/// Posts that are loaded between two rests.
const STEP: usize = 64;
/// What is asked of a hash.
const FIELDS: [Field; 1] = [Field::Loaded];
/// With so much of its memory in use, in percent, Redis is given no more posts.
const MOST_MEMORY: u64 = 75;

/// What was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Warmed {
    /// Posts that were to be loaded, those for whose sake there was no room too.
    pub(crate) posts: usize,
    /// Those that Redis has now.
    pub(crate) loaded: usize,
    /// Those that it had already.
    pub(crate) known: usize,
    /// Those of which it has keys of another type.
    pub(crate) failed: usize,
    /// Those that were left out because Redis is nearly full.
    pub(crate) left_out: usize,
}

/// Loads posts, and tells `progress` of how many more it has seen to. When it fails, those that are loaded by then stay
/// so.
pub(crate) async fn warm(
    session: &mut OwnedSession,
    settings: &WarmSettings,
    progress: impl Fn(usize),
) -> Result<Warmed, Failure> {
    let context = Arc::clone(&session.context);
    let mut warmed = Warmed::default();
    for order in &settings.orders {
        for posts in top_posts(&context.database, order, settings.top).await? {
            warmed.posts += posts.len();
            if warmed.left_out > 0 || is_nearly_full(&context).await {
                warmed.left_out += posts.len();
                continue;
            }
            load(session, &posts, &mut warmed, &progress).await?;
        }
    }
    if warmed.left_out > 0 {
        tracing::warn!(posts = warmed.left_out, "more than {MOST_MEMORY} % of Redis's memory is in use: the rest is not loaded");
    }
    Ok(warmed)
}

/// Loads those posts that Redis does not have, step by step.
async fn load(
    session: &mut OwnedSession,
    posts: &[PostId],
    warmed: &mut Warmed,
    progress: &impl Fn(usize),
) -> Result<(), Failure> {
    session.check_owner().await?;
    let mut throttle = Throttle::new();
    for posts in posts.chunks(STEP) {
        let unknown = unknown(session, posts).await?;
        let Hydrated { put, failed } = hydrate(&session.context, &unknown).await?;
        warmed.known += posts.len() - unknown.len();
        warmed.loaded += put;
        warmed.failed += failed;
        progress(posts.len());
        session.context.checkpoint()?;
        throttle.rest().await;
    }
    Ok(())
}

/// Returns those of the posts that nobody has loaded for a view.
async fn unknown(session: &mut OwnedSession, posts: &[PostId]) -> Result<Vec<PostId>, Failure> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for post in posts {
        post_meta::ask(&mut commands, &session.context.keys, post, &FIELDS);
    }
    session.exchange_owned(&commands, &mut replies).await?;
    // A key of another type is an error of the next step.
    let is_loaded = |reply| PostMeta::read(reply, &FIELDS).is_ok_and(|meta| meta.is_loaded);
    Ok(posts.iter().zip(replies.iter()).filter(|(_, reply)| !is_loaded(*reply)).map(|(post, _)| *post).collect())
}

/// Returns whether little of the memory is left that Redis may use, where it says.
async fn is_nearly_full(context: &Context) -> bool {
    for node in context.redis.nodes() {
        let info = context.redis.send_at(node, &["INFO", "memory"]).await.ok().and_then(Value::into_string);
        if info.and_then(|info| memory_in_use(&info)).is_some_and(|percent| percent > MOST_MEMORY) {
            return true;
        }
    }
    false
}

/// Returns how much of its memory Redis uses, in percent; nothing where it has no limit.
fn memory_in_use(info: &str) -> Option<u64> {
    let number = |name| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let (used, most) = (number("used_memory:")?, number("maxmemory:")?);
    used.saturating_mul(100).checked_div(most)
}

#[cfg(test)]
mod tests {
    use super::memory_in_use;

    #[test]
    fn memory_is_measured_against_its_limit() {
        let info = |most| format!("# Memory\r\nused_memory:76\r\nused_memory_human:76B\r\nmaxmemory:{most}\r\n");
        assert_eq!(memory_in_use(&info(100)), Some(76));
        assert_eq!(memory_in_use(&info(0)), None, "there is no limit");
        assert_eq!(memory_in_use(""), None);
    }
}
