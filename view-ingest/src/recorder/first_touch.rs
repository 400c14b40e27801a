//! First touch: what PostgreSQL knows of a post is put into Redis, many posts with one query, each post once however many ask.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use shared::{ids::PostId, ledger, postgres::Database, scripts};
use tokio::sync::mpsc;

use super::Stores;

/// Posts in one query. Each may bring up to [`FEW_VIEWERS`] viewers along.
const MAX_POSTS: usize = 64;
/// Queries under way at once, per recorder.
const MAX_QUERIES: usize = 4;
/// A post with at most this many viewers gets them back from the ledger, so that one who returns is a duplicate at once.
const FEW_VIEWERS: i64 = 1_000;
/// After PostgreSQL has failed, it is left alone for this long: nobody waits for a database that is known to be away.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Whether a post exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It does, and Redis has it now.
    Yes,
    /// It does not.
    No,
    /// Nobody knows: PostgreSQL did not answer. The view is accepted; the drain rejects it later if there is no such post.
    Unknown,
}

/// The result of one query.
pub(super) struct Touched {
    pub(super) posts: Vec<(PostId, Found)>,
    pub(super) answer: Answer,
}

/// How PostgreSQL took a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It answered.
    Given,
    /// It did not.
    Failed,
    /// It was not asked, so soon after a failure.
    NotAsked,
}

/// The posts that are to be looked up.
pub(super) struct FirstTouches {
    stores: Stores,
    wanted: VecDeque<PostId>,
    queries: usize,
    away_until: Option<Instant>,
    results: mpsc::UnboundedSender<Touched>,
}

impl FirstTouches {
    pub(super) fn new(stores: Stores) -> (Self, mpsc::UnboundedReceiver<Touched>) {
        // The channel holds no more than the queries under way.
        let (results, receiver) = mpsc::unbounded_channel();
        (Self { stores, wanted: VecDeque::new(), queries: 0, away_until: None, results }, receiver)
    }

    /// Notes that a post is to be looked up.
    pub(super) fn want(&mut self, post: PostId) {
        self.wanted.push_back(post);
    }

    /// Notes that a query has ended.
    pub(super) fn finished(&mut self, answer: Answer) {
        self.queries -= 1;
        match answer {
            Answer::Given => self.away_until = None,
            Answer::Failed => self.away_until = Some(Instant::now() + PAUSE_AFTER_FAILURE),
            Answer::NotAsked => {}
        }
    }

    /// Starts as many queries as may be under way.
    pub(super) fn start(&mut self) {
        let Some(database) = &self.stores.database else { return };
        let away = self.away_until.is_some_and(|until| Instant::now() < until);
        while !self.wanted.is_empty() && (away || self.queries < MAX_QUERIES) {
            let posts: Vec<PostId> = self.wanted.drain(..self.wanted.len().min(MAX_POSTS)).collect();
            self.queries += 1;
            if away {
                self.stores.metrics.touched_unavailable.inc_by(posts.len() as u64);
                let posts = posts.into_iter().map(|post| (post, Found::Unknown)).collect();
                // The receiver lives as long as this sender: both belong to the recorder.
                let _ = self.results.send(Touched { posts, answer: Answer::NotAsked });
                continue;
            }
            let (stores, database, results) = (self.stores.clone(), Arc::clone(database), self.results.clone());
            tokio::spawn(async move {
                let touched = touch(&stores, &database, posts).await;
                let _ = results.send(touched);
            });
        }
    }
}

async fn touch(stores: &Stores, database: &Database, posts: Vec<PostId>) -> Touched {
    let known = match ledger::look_up(database, &posts, FEW_VIEWERS).await {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%error, posts = posts.len(), "cannot look posts up: their views are accepted unseen");
            stores.metrics.touched_unavailable.inc_by(posts.len() as u64);
            return Touched { posts: posts.into_iter().map(|post| (post, Found::Unknown)).collect(), answer: Answer::Failed };
        }
    };
    let hydrations = known.iter().map(|(post, known)| scripts::hydrate(&stores.redis, post, known, stores.view_ttl));
    for error in join_all(hydrations).await.into_iter().filter_map(Result::err) {
        // The next batch with this post finds Redis away, or has the post looked up again.
        tracing::warn!(%error, "cannot put a post into Redis");
    }
    let found = |post: &PostId| if known.contains_key(post) { Found::Yes } else { Found::No };
    stores.metrics.touched_found.inc_by(known.len() as u64);
    stores.metrics.touched_missing.inc_by((posts.len() - known.len()) as u64);
    Touched { posts: posts.iter().map(|post| (*post, found(post))).collect(), answer: Answer::Given }
}
