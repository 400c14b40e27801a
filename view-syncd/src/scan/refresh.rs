//! Bringing up to date what Redis knows of posts: counts and authors that PostgreSQL has otherwise, times to live, and what only PostgreSQL
//! knows.

use std::collections::{HashMap, HashSet};

use fred::error::Error;
use futures_util::future::join_all;
use views_core::{failpoints, ids::PostId};
use views_postgres::ledger::{self, Belief, Truth};
use views_redis::{
    resp::{Commands, Replies, Reply},
    scripts::{self, Adjustment, Depth},
};

use super::{ScanReport, post_state::PostState};
use crate::engine::{Engine, Failure, is_about_the_key, refusal};

/// Posts in one query that brings viewers along.
const LOOK_UP_POSTS: usize = 64;
/// A post with at most this many viewers gets them back from the ledger, as at its first touch by view-ingest.
const FEW_VIEWERS: i64 = 1_000;
/// Posts in one script, which takes Redis a fraction of a millisecond.
const SCRIPT_POSTS: usize = 10;

impl Engine {
    /// Puts into Redis what PostgreSQL knows of posts that view-ingest has never seen or could not look up.
    pub(super) async fn hydrate(&self, posts: &[PostId]) -> Result<(), Failure> {
        for chunk in posts.chunks(LOOK_UP_POSTS) {
            let known = ledger::look_up(&self.database, chunk, FEW_VIEWERS).await?;
            let hydrate =
                |(post, known)| scripts::hydrate(&self.redis, &self.keys, post, known, Depth::View, self.settings.view_ttl);
            let hydrations = known.iter().map(hydrate);
            for (result, post) in join_all(hydrations).await.into_iter().zip(known.keys()) {
                match result {
                    Ok(_) => {}
                    // The second look meets the same key and counts the error.
                    Err(error) if is_about_the_key(&error) => tracing::debug!(%post, %error, "cannot put a post into Redis"),
                    Err(error) => return Err(error.into()),
                }
            }
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Writes what PostgreSQL has otherwise, and a time to live where there is none. A post that is in order costs no command. `beliefs`
    /// are what Redis had before PostgreSQL was asked.
    pub(super) async fn refresh(
        &mut self,
        states: &HashMap<PostId, PostState>,
        truths: &HashMap<PostId, Truth>,
        beliefs: &HashMap<PostId, Belief>,
        scanned: &mut ScanReport,
    ) -> Result<(), Failure> {
        let mut adjustments = Vec::new();
        for (post, state) in states {
            let mut adjustment = Adjustment::of(*post);
            if let Some(belief) = beliefs.get(post)
                && let Some(Truth::Exists { views, author }) = truths.get(post).filter(|_| state.has_meta)
            {
                // Some pairs of a post that is held may be stored, and are not settled.
                adjustment.views = (state.persisted != Some(*views) && !self.deferred.holds(post)).then_some(*views);
                adjustment.known = belief.views;
                adjustment.author = (belief.author != *author).then(|| [belief.author.clone(), author.clone()]);
            }
            if adjustment.views.is_some() || adjustment.author.is_some() || state.without_ttl {
                adjustments.push(adjustment);
            }
        }
        // Where another process drains, too, PostgreSQL may have what that one has not settled yet.
        let is_quiet = adjustments.iter().any(|adjustment| adjustment.views.is_some()) && !self.drains_alone().await?;
        for adjustment in &mut adjustments {
            adjustment.is_quiet = is_quiet;
        }
        let failed = self.adjust(&adjustments, scanned).await?;
        let in_order = states.iter().filter(|(post, state)| !state.has_foreign_members() && !failed.contains(*post)).count();
        scanned.successful += in_order as u64;
        Ok(())
    }

    /// Gives those of the sets their time to live that are there for ever. What is no set is left alone: it is the error of its own post.
    pub(super) async fn set_missing_ttl(&mut self, posts: &[PostId], scanned: &mut ScanReport) -> Result<(), Failure> {
        let states = self.try_read_states(posts).await?;
        let sets = states.into_iter().filter(|(_, state)| state.as_ref().is_ok_and(|state| state.members > 0));
        let adjustments: Vec<Adjustment> = sets.map(|(post, _)| Adjustment::of(post)).collect();
        self.adjust(&adjustments, scanned).await.map(drop)
    }

    /// Brings posts into order. Returns those that could not be, for what their keys hold.
    pub(crate) async fn adjust(
        &mut self,
        adjustments: &[Adjustment],
        scanned: &mut ScanReport,
    ) -> Result<HashSet<PostId>, Failure> {
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        let mut failed = HashSet::new();
        for chunk in adjustments.chunks(SCRIPT_POSTS) {
            commands.clear();
            scripts::adjust(&mut commands, &self.keys, chunk, self.settings.view_ttl);
            self.exchange(&commands, &mut replies).await?;
            failpoints::at("adjust::after");
            let reply = replies.iter().next();
            let Some(Reply::List(all)) = reply else { return Err(Failure::Redis(refusal(reply))) };
            for (adjustment, reply) in chunk.iter().zip(all.iter()) {
                if let Reply::Error(error) = reply {
                    let error: &Error = &refusal(Some(Reply::Error(error)));
                    scanned.fail(&adjustment.post, &error.details());
                    failed.insert(adjustment.post);
                }
            }
        }
        Ok(failed)
    }
}
