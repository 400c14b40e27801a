//! Look-ups: what PostgreSQL knows of a post is put into Redis, many posts with one query, each post once however many
//! ask. A post that was viewed past Redis is brought up to date the same way.
//!
//! Reads, which need no token, have a queue and a small share of the queries of their own: however many posts strangers
//! make up, a view is looked up at once.

mod putting;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use views_core::ids::PostId;
use views_postgres::{
    Database,
    ledger::{self, NO_VIEWERS},
};
use views_redis::scripts::Depth;

use self::putting::{Putting, Sessions};
use crate::record::{context::Context, missed::Missed, read_limit::READ_QUERIES};

/// Posts in one query. Each may bring up to [`FEW_VIEWERS`] viewers along.
const MAX_POSTS: usize = 64;
/// Queries for views under way at once, per recorder.
const VIEW_QUERIES: usize = 4;
/// A post with at most this many viewers gets them back from the ledger, so that one who returns is a duplicate at once.
const FEW_VIEWERS: i64 = 1_000;
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

/// A look-up that has ended.
pub(super) struct FinishedLookup {
    pub(super) posts: Vec<(Wanted, Found)>,
    pub(super) depth: Depth,
    pub(super) query: QueryResult,
    /// When it began.
    started: Instant,
}

/// How PostgreSQL took a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryResult {
    /// It answered.
    Answered,
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
pub(super) struct Lookups {
    context: Context,
    sessions: Arc<Sessions>,
    views: Queue,
    reads: Queue,
    /// When PostgreSQL last did not answer, unless it has answered since.
    failed: Option<Instant>,
    results: mpsc::UnboundedSender<FinishedLookup>,
}

/// The posts that are to be looked up for one kind of request, and the queries for it that are under way.
#[derive(Default)]
struct Queue {
    wanted: VecDeque<Wanted>,
    queries: usize,
}

impl Lookups {
    /// Returns an empty queue of look-ups, and where their results come out.
    pub(super) fn new(context: Context) -> (Self, mpsc::UnboundedReceiver<FinishedLookup>) {
        // The channel holds no more than the queries under way.
        let (results, receiver) = mpsc::unbounded_channel();
        let sessions = Arc::new(Sessions::new(&context));
        (Self { context, sessions, views: Queue::default(), reads: Queue::default(), failed: None, results }, receiver)
    }

    fn queue(&mut self, depth: Depth) -> &mut Queue {
        match depth {
            Depth::View => &mut self.views,
            Depth::Read => &mut self.reads,
        }
    }

    /// Notes that a post is to be looked up.
    pub(super) fn add(&mut self, depth: Depth, wanted: Wanted) {
        self.queue(depth).wanted.push_back(wanted);
    }

    /// Notes that a query has ended.
    pub(super) fn finished(&mut self, finished: &FinishedLookup) {
        self.queue(finished.depth).queries -= 1;
        match finished.query {
            QueryResult::Answered => {
                // An answer to what was asked before the failure does not tell that PostgreSQL is back.
                if self.failed.is_some_and(|failed| failed <= finished.started) {
                    self.failed = None;
                }
                self.context.unverified.answered();
            }
            QueryResult::Failed => {
                self.failed = Some(Instant::now());
                self.context.unverified.failed();
            }
            QueryResult::NotAsked => {}
        }
    }

    /// Starts as many queries as may be under way.
    pub(super) fn start(&mut self) {
        self.start_queue(Depth::View, VIEW_QUERIES);
        self.start_queue(Depth::Read, READ_QUERIES);
    }

    fn start_queue(&mut self, depth: Depth, limit: usize) {
        let Some(database) = self.context.database.clone() else { return };
        let is_away = self.failed.is_some_and(|failed| failed.elapsed() < PAUSE_AFTER_FAILURE);
        let queue = self.queue(depth);
        let mut batches = Vec::new();
        while !queue.wanted.is_empty() && (is_away || queue.queries < limit) {
            let posts: Vec<Wanted> = queue.wanted.drain(..queue.wanted.len().min(MAX_POSTS)).collect();
            queue.queries += 1;
            batches.push(posts);
        }
        for posts in batches {
            if is_away {
                self.context.metrics.lookups_unavailable.inc_by(posts.len() as u64);
                let posts = posts.into_iter().map(|wanted| (wanted, Found::Unknown)).collect();
                // The receiver lives as long as this sender: both belong to the recorder.
                let _ = self.results.send(FinishedLookup { posts, depth, query: QueryResult::NotAsked, started: Instant::now() });
                continue;
            }
            let (context, database, results) = (self.context.clone(), Arc::clone(&database), self.results.clone());
            let sessions = Arc::clone(&self.sessions);
            tokio::spawn(async move {
                let permit = match depth {
                    Depth::View => None,
                    Depth::Read => Some(context.read_queries.acquire().await),
                };
                let finished = run(&context, &sessions, &database, depth, posts).await;
                drop(permit);
                let _ = results.send(finished);
            });
        }
    }
}

/// Looks posts up with one query, and puts what is found into Redis.
async fn run(context: &Context, sessions: &Sessions, database: &Database, depth: Depth, wanted: Vec<Wanted>) -> FinishedLookup {
    let started = Instant::now();
    let ids: Vec<PostId> = wanted.iter().map(|wanted| wanted.post).collect();
    let mut putting = Putting::new(context, sessions);
    // Before PostgreSQL is asked: what changes in Redis from here on is younger than its answer.
    let counts = putting.counts(wanted.iter().filter(|wanted| wanted.missed.is_some()).map(|wanted| wanted.post)).await;
    let few = match depth {
        Depth::View => FEW_VIEWERS,
        Depth::Read => NO_VIEWERS,
    };
    let known = match ledger::look_up(database, &ids, few).await {
        Ok(known) => known,
        Err(error) => {
            putting.end();
            tracing::warn!(%error, "cannot look posts up: their views are accepted unseen");
            context.metrics.lookups_unavailable.inc_by(ids.len() as u64);
            let posts = wanted.into_iter().map(|wanted| (wanted, Found::Unknown)).collect();
            return FinishedLookup { posts, depth, query: QueryResult::Failed, started };
        }
    };
    context.metrics.lookups_found.inc_by(known.len() as u64);
    context.metrics.lookups_missing.inc_by((ids.len() - known.len()) as u64);
    let found = putting.put(database, depth, &wanted, counts, known).await;
    putting.end();
    let posts = wanted.into_iter().map(|wanted| (found.get(&wanted.post).copied().unwrap_or(Found::No), wanted));
    let posts = posts.map(|(found, wanted)| (wanted, found)).collect();
    context.metrics.lookup_seconds.observe(started.elapsed().as_secs_f64());
    FinishedLookup { posts, depth, query: QueryResult::Answered, started }
}
