//! First touch: what PostgreSQL knows of a post is put into Redis, many posts with one query, each post once however many ask.
//! A post that was viewed past Redis is brought up to date the same way.
//!
//! Reads, which need no token, have a queue and a small share of the queries of their own: however many posts strangers make up, a view is
//! looked up at once.

use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use fred::error::{Error, ErrorKind};
use futures_util::future::join_all;
use tokio::sync::{Semaphore, mpsc};
use views_core::{
    failpoints,
    ids::{PostId, ViewerId},
    post::KnownPost,
};
use views_postgres::{
    Database,
    ledger::{self, NO_VIEWERS},
};
use views_redis::scripts::{self, Depth};

use super::{Stores, fallback::Missed};

/// Posts in one query. Each may bring up to [`FEW_VIEWERS`] viewers along.
const MAX_POSTS: usize = 64;
/// Queries for views under way at once, per recorder.
const MAX_QUERIES: usize = 4;
/// Queries for reads under way or waiting for [their share](Stores::read_queries), per recorder.
pub(super) const MAX_READ_QUERIES: usize = 2;
/// A post with at most this many viewers gets them back from the ledger, so that one who returns is a duplicate at once.
const FEW_VIEWERS: i64 = 1_000;
/// How often a post is brought up to date that others change at the same time.
const REFRESH_TRIES: u32 = 5;
/// After PostgreSQL has failed, it is left alone for this long: nobody waits for a database that is known to be away.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Whether a post exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It does, and Redis has it now.
    Yes,
    /// It does, and what a reader has looked up of it is not enough: Redis has viewers of whom the count may know.
    NeedsViewers,
    /// It does not.
    No,
    /// Nobody knows: PostgreSQL did not answer. The view is accepted; the drain rejects it later if there is no such post.
    Unknown,
    /// It does, and Redis did not take what PostgreSQL knows of it.
    Refused,
}

/// The result of one query.
pub(super) struct Touched {
    pub(super) posts: Vec<(Wanted, Found)>,
    pub(super) depth: Depth,
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

/// A post that is to be looked up.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) post: PostId,
    /// What Redis has missed of it, if PostgreSQL has taken views past Redis.
    pub(super) missed: Option<Missed>,
}

/// The posts that are to be looked up.
pub(super) struct FirstTouches {
    stores: Stores,
    views: Queue,
    reads: Queue,
    away_until: Option<Instant>,
    results: mpsc::UnboundedSender<Touched>,
}

/// The posts that are to be looked up for one kind of asker, and the queries for it that are under way.
#[derive(Default)]
struct Queue {
    wanted: VecDeque<Wanted>,
    queries: usize,
}

impl FirstTouches {
    pub(super) fn new(stores: Stores) -> (Self, mpsc::UnboundedReceiver<Touched>) {
        // The channel holds no more than the queries under way.
        let (results, receiver) = mpsc::unbounded_channel();
        (Self { stores, views: Queue::default(), reads: Queue::default(), away_until: None, results }, receiver)
    }

    fn queue(&mut self, depth: Depth) -> &mut Queue {
        match depth {
            Depth::View => &mut self.views,
            Depth::Read => &mut self.reads,
        }
    }

    /// Notes that a post is to be looked up.
    pub(super) fn want(&mut self, depth: Depth, wanted: Wanted) {
        self.queue(depth).wanted.push_back(wanted);
    }

    /// Notes that a query has ended.
    pub(super) fn finished(&mut self, depth: Depth, answer: Answer) {
        self.queue(depth).queries -= 1;
        match answer {
            Answer::Given => {
                self.away_until = None;
                self.stores.unseen.forget();
            }
            Answer::Failed => self.away_until = Some(Instant::now() + PAUSE_AFTER_FAILURE),
            Answer::NotAsked => {}
        }
    }

    /// Starts as many queries as may be under way.
    pub(super) fn start(&mut self) {
        self.start_queue(Depth::View, MAX_QUERIES);
        self.start_queue(Depth::Read, MAX_READ_QUERIES);
    }

    fn start_queue(&mut self, depth: Depth, limit: usize) {
        let Some(database) = self.stores.database.clone() else { return };
        let away = self.away_until.is_some_and(|until| Instant::now() < until);
        let queue = self.queue(depth);
        let mut batches = Vec::new();
        while !queue.wanted.is_empty() && (away || queue.queries < limit) {
            let posts: Vec<Wanted> = queue.wanted.drain(..queue.wanted.len().min(MAX_POSTS)).collect();
            queue.queries += 1;
            batches.push(posts);
        }
        for posts in batches {
            if away {
                self.stores.metrics.touched_unavailable.inc_by(posts.len() as u64);
                let posts = posts.into_iter().map(|wanted| (wanted, Found::Unknown)).collect();
                // The receiver lives as long as this sender: both belong to the recorder.
                let _ = self.results.send(Touched { posts, depth, answer: Answer::NotAsked });
                continue;
            }
            let (stores, database, results) = (self.stores.clone(), Arc::clone(&database), self.results.clone());
            tokio::spawn(async move {
                let turn = match depth {
                    Depth::View => None,
                    Depth::Read => Some(stores.read_queries.acquire().await),
                };
                let touched = touch(&stores, &database, depth, posts).await;
                drop(turn);
                let _ = results.send(touched);
            });
        }
    }
}

/// How many queries for reads a process may have under way: a small part of its connections to PostgreSQL.
pub(crate) fn read_queries() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_READ_QUERIES))
}

async fn touch(stores: &Stores, database: &Database, depth: Depth, wanted: Vec<Wanted>) -> Touched {
    let ids: Vec<PostId> = wanted.iter().map(|wanted| wanted.post).collect();
    // Before PostgreSQL is asked: what changes in Redis from here on is younger than its answer.
    let wanted: Vec<Looked> = join_all(wanted.into_iter().map(|wanted| look(stores, wanted))).await;
    let few = match depth {
        Depth::View => FEW_VIEWERS,
        Depth::Read => NO_VIEWERS,
    };
    let known = match ledger::look_up(database, &ids, few).await {
        Ok(known) => known,
        Err(error) => {
            stores.health.complain("cannot look posts up: their views are accepted unseen", &error);
            stores.metrics.touched_unavailable.inc_by(ids.len() as u64);
            let posts = wanted.into_iter().map(|looked| (looked.wanted, Found::Unknown)).collect();
            return Touched { posts, depth, answer: Answer::Failed };
        }
    };
    stores.metrics.touched_found.inc_by(known.len() as u64);
    stores.metrics.touched_missing.inc_by((ids.len() - known.len()) as u64);
    let put = wanted.into_iter().map(|Looked { wanted, seen }| async {
        let found = match known.get(&wanted.post) {
            Some(post) => put(stores, database, depth, &wanted, seen, post).await,
            None => Found::No,
        };
        (wanted, found)
    });
    Touched { posts: join_all(put).await, depth, answer: Answer::Given }
}

/// A post that is to be looked up, and the count that Redis has of it, where that matters.
struct Looked {
    wanted: Wanted,
    seen: Result<Option<String>, Error>,
}

async fn look(stores: &Stores, wanted: Wanted) -> Looked {
    let seen = match wanted.missed {
        Some(_) => scripts::persisted(&stores.redis, &stores.keys, &wanted.post).await,
        None => Ok(None),
    };
    Looked { wanted, seen }
}

async fn put(
    stores: &Stores,
    database: &Database,
    depth: Depth,
    wanted: &Wanted,
    seen: Result<Option<String>, Error>,
    known: &KnownPost,
) -> Found {
    let (redis, keys, post, ttl) = (&stores.redis, &stores.keys, &wanted.post, stores.view_ttl);
    failpoints::at(if wanted.missed.is_none() { "hydrate::before" } else { "refresh::before" });
    let result = match &wanted.missed {
        None => scripts::hydrate(redis, keys, post, known, depth, ttl).await,
        Some(missed) => refresh(stores, database, post, &missed.viewers, seen, known).await.map(|()| true),
    };
    failpoints::at(if wanted.missed.is_none() { "hydrate::after" } else { "refresh::after" });
    match result {
        Ok(true) => Found::Yes,
        Ok(false) => Found::NeedsViewers,
        Err(error) => {
            stores.health.complain("cannot put a post into Redis", &format_args!("{error}, post {post}"));
            Found::Refused
        }
    }
}

/// Brings a post up to date of which views went past Redis, by an answer of PostgreSQL's that is younger than what Redis has.
async fn refresh(
    stores: &Stores,
    database: &Database,
    post: &PostId,
    viewers: &[ViewerId],
    seen: Result<Option<String>, Error>,
    known: &KnownPost,
) -> Result<(), Error> {
    let (redis, keys, ttl) = (&stores.redis, &stores.keys, stores.view_ttl);
    let (mut seen, mut known) = (seen?, Cow::Borrowed(known));
    for _ in 0..REFRESH_TRIES {
        if scripts::refresh(redis, keys, post, &known, seen.as_deref(), viewers, ttl).await? {
            return Ok(());
        }
        seen = scripts::persisted(redis, keys, post).await?;
        match ledger::look_up(database, &[*post], FEW_VIEWERS).await {
            Ok(mut found) => known = found.remove(post).map_or(known, Cow::Owned),
            Err(error) => return Err(Error::new(ErrorKind::Unknown, error.to_string())),
        }
    }
    Err(Error::new(ErrorKind::Unknown, "it changes all the time"))
}
