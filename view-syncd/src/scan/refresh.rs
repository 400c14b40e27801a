//! Bringing up to date what Redis knows of posts: counts that PostgreSQL has otherwise, times to live, and what only PostgreSQL knows.

use std::collections::{HashMap, HashSet};

use futures_util::future::join_all;
use shared::{
    ids::PostId,
    keys::field,
    ledger,
    redis::resp::{Commands, Replies, Reply},
    scripts,
};

use super::{
    Scanned,
    look::{EXCHANGE_COMMANDS, Look},
};
use crate::engine::{Engine, Failure, is_about_the_key};

/// Posts in one query that brings viewers along.
const LOOK_UP_POSTS: usize = 64;
/// A post with at most this many viewers gets them back from the ledger, as at its first touch by view-ingest.
const FEW_VIEWERS: i64 = 1_000;
/// Commands for one post, at most.
const REFRESH_COMMANDS: usize = 3;

impl Engine {
    /// Puts into Redis what PostgreSQL knows of posts that view-ingest has never seen or could not look up, and adds their counts.
    pub(super) async fn hydrate(&self, posts: &[PostId], counts: &mut HashMap<PostId, Option<i64>>) -> Result<(), Failure> {
        for chunk in posts.chunks(LOOK_UP_POSTS) {
            let known = ledger::look_up(&self.database, chunk, FEW_VIEWERS).await?;
            let hydrations =
                known.iter().map(|(post, known)| scripts::hydrate(&self.redis, &self.keys, post, known, self.settings.view_ttl));
            for (result, (post, known)) in join_all(hydrations).await.into_iter().zip(&known) {
                match result {
                    Ok(()) => {
                        counts.insert(*post, Some(known.views));
                    }
                    // The second look meets the same key and counts the error.
                    Err(error) if is_about_the_key(&error) => tracing::debug!(%post, %error, "cannot put a post into Redis"),
                    Err(error) => return Err(error.into()),
                }
            }
            self.go_on()?;
        }
        Ok(())
    }

    /// Writes the counts that PostgreSQL has otherwise, and a time to live where there is none. A post that is in order costs no command.
    pub(super) async fn refresh(
        &mut self,
        looks: &HashMap<PostId, Look>,
        counts: &HashMap<PostId, Option<i64>>,
        scanned: &mut Scanned,
    ) -> Result<(), Failure> {
        let stale = looks.iter().filter_map(|(post, look)| {
            let count = counts.get(post).copied().flatten().filter(|count| look.has_meta && look.persisted != Some(*count));
            (count.is_some() || look.immortal).then_some((*post, count))
        });
        let stale: Vec<(PostId, Option<i64>)> = stale.collect();
        let failed = self.write(&stale, scanned).await?;
        scanned.successful += (looks.len() - failed) as u64;
        Ok(())
    }

    /// Gives those of the sets their time to live that are there for ever. What is no set is left alone: it is the error of its own post.
    pub(super) async fn end_immortality(&mut self, posts: &[PostId], scanned: &mut Scanned) -> Result<(), Failure> {
        let looks = self.look_at(posts).await?;
        let sets: Vec<(PostId, Option<i64>)> = looks
            .into_iter()
            .filter(|(_, look)| look.as_ref().is_ok_and(|look| look.members > 0))
            .map(|(post, _)| (post, None))
            .collect();
        self.write(&sets, scanned).await.map(drop)
    }

    /// Writes counts, where they are given, and times to live where there are none. Tells how many posts have failed.
    async fn write(&mut self, posts: &[(PostId, Option<i64>)], scanned: &mut Scanned) -> Result<usize, Failure> {
        let ttl = i64::try_from(self.settings.view_ttl.as_secs()).unwrap_or(i64::MAX);
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        let mut asked: Vec<PostId> = Vec::new();
        let mut failed: HashSet<PostId> = HashSet::new();
        for chunk in posts.chunks(EXCHANGE_COMMANDS / REFRESH_COMMANDS) {
            commands.clear();
            asked.clear();
            for (post, count) in chunk {
                let (views, meta) = (self.keys.views_parts(post), self.keys.meta_parts(post));
                if let Some(count) = count {
                    commands.command("HSET", 3).parts(&meta).text(field::PERSISTED).number(*count);
                    asked.push(*post);
                }
                // Only where there is none: also for a hash that has expired since, and has just been brought back to life.
                for key in [&views, &meta] {
                    commands.command("EXPIRE", 3).parts(key).number(ttl).text("NX");
                    asked.push(*post);
                }
            }
            self.exchange(&commands, &mut replies).await?;
            for (post, reply) in asked.iter().zip(replies.iter()) {
                if let Reply::Error(error) = reply
                    && failed.insert(*post)
                {
                    scanned.fail(post, &error);
                }
            }
        }
        Ok(failed.len())
    }
}
