//! Settling in Redis what PostgreSQL has committed: entries are deleted and counts set, in scripts of a bounded size.

use std::collections::HashMap;

use fred::{error::Error, interfaces::KeysInterface, types::Value};
use shared::{
    failpoints,
    ids::PostId,
    keys, redis,
    scripts::{self, AckedEntry},
};

use crate::{
    engine::Engine,
    outbox::{Entry, Gathered},
};

/// Pairs that one script acknowledges, but for the rest of its last entry: it takes Redis about a millisecond.
const SCRIPT_PAIRS: usize = 1_000;
/// Posts whose keys are removed in one pipeline.
const CHUNK: usize = 500;

impl Engine {
    /// Acknowledges entries. `views` holds the counts of all posts that exist; pairs of other posts end here.
    pub(crate) async fn acknowledge(&self, gathered: &Gathered, views: &HashMap<PostId, i64>) -> Result<(), Error> {
        let mut rest = gathered.entries.as_slice();
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(script_size(rest));
            rest = behind;
            let (entries, posts) = script_of(chunk, views);
            failpoints::at("ack::before");
            self.still_connected(gathered.connection)?;
            let deleted = scripts::acknowledge(&self.redis, &entries, &posts).await?;
            failpoints::at("ack::after");
            self.progress.made();
            if deleted < entries.len() {
                tracing::debug!(deleted, entries = entries.len(), "some entries had been acknowledged before");
            }
        }
        Ok(())
    }

    /// Removes the keys of posts that do not exist. Whoever has viewed them is counted nowhere.
    pub(crate) async fn remove_posts(&self, posts: &[PostId]) -> Result<(), Error> {
        for chunk in posts.chunks(CHUNK) {
            let pipeline = self.redis.pipeline();
            for post in chunk {
                // The set may be large: its memory is freed aside.
                let () = pipeline.unlink(vec![keys::views(post), keys::meta(post)]).await?;
            }
            redis::send::<Value>(&self.redis, &pipeline).await.into_iter().try_for_each(|reply| reply.map(drop))?;
            for post in chunk {
                tracing::info!(%post, "removed the views of a post that does not exist in PostgreSQL");
            }
        }
        Ok(())
    }
}

/// How many of the entries go into the next script: at least one.
fn script_size(entries: &[Entry]) -> usize {
    let mut pairs = 0;
    let fitting = entries.iter().take_while(|entry| {
        pairs += (entry.pairs.len() + entry.dead.len()).max(1);
        pairs <= SCRIPT_PAIRS
    });
    fitting.count().max(1)
}

/// The script's view of the entries: posts by their place in a list.
fn script_of(entries: &[Entry], views: &HashMap<PostId, i64>) -> (Vec<AckedEntry>, Vec<(PostId, i64)>) {
    let mut posts = Vec::new();
    let mut places: HashMap<PostId, usize> = HashMap::new();
    let acked = entries.iter().map(|entry| {
        let known = entry.posts.iter().filter_map(|(post, pairs)| {
            let count = *views.get(post)?;
            let place = *places.entry(*post).or_insert_with(|| {
                posts.push((*post, count));
                posts.len() - 1
            });
            Some((place, *pairs))
        });
        AckedEntry { id: entry.id.to_string(), posts: known.collect() }
    });
    (acked.collect(), posts)
}
