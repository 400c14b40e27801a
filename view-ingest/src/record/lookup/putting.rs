//! What a look-up has found is put into Redis, all of its posts with one pipeline. A node of a cluster that is known to be
//! away delays none of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use views_core::{failpoints, ids::PostId, post::KnownPost};
use views_postgres::{Database, ledger};
use views_redis::{
    Pipeline, RedisError, Session,
    post_meta::{self, Field},
    resp::Reply,
    scripts::{self, Depth},
};

use super::{FEW_VIEWERS, Found, Wanted};
use crate::record::{breaker::REDIS_TIMEOUT, context::Context, missed::Missed};

/// How often a post is brought up to date that others change at the same time.
const REFRESH_TRIES: u32 = 5;

/// The sessions of a recorder's look-ups, of which as many are open as there have been look-ups at once.
pub(super) struct Sessions {
    context: Context,
    idle: Mutex<Vec<Session>>,
}

impl Sessions {
    pub(super) fn new(context: &Context) -> Self {
        Self { context: context.clone(), idle: Mutex::default() }
    }

    /// Lends a session for a look-up.
    fn lend(&self) -> Session {
        self.idle().pop().unwrap_or_else(|| {
            let breaker = Arc::clone(&self.context.breaker);
            Session::new(&self.context.redis, REDIS_TIMEOUT, breaker.epoch()).with_breaker(breaker)
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counts that Redis has of posts, in its own words.
pub(super) type Counts = HashMap<PostId, Result<Option<String>, RedisError>>;

/// One look-up's exchanges with Redis.
pub(super) struct Putting<'a> {
    context: &'a Context,
    sessions: &'a Sessions,
    pipeline: Pipeline,
}

impl<'a> Putting<'a> {
    pub(super) fn new(context: &'a Context, sessions: &'a Sessions) -> Self {
        Self { context, sessions, pipeline: Pipeline::new(sessions.lend()) }
    }

    /// Gives the session back.
    pub(super) fn end(self) {
        self.sessions.idle().push(self.pipeline.session);
    }

    /// Returns the counts that Redis has of posts.
    pub(super) async fn counts(&mut self, posts: impl Iterator<Item = PostId>) -> Counts {
        let posts: Vec<PostId> = posts.collect();
        self.pipeline.commands.clear();
        for post in &posts {
            post_meta::ask(&mut self.pipeline.commands, &self.context.keys, post, &[Field::Persisted]);
        }
        let read = |reply: Reply<'_>| match reply {
            Reply::List(fields) => Ok(fields.iter().next().and_then(Reply::text).map(str::to_owned)),
            Reply::Error(error) => Err(error.into()),
            _ => Err(RedisError::UnexpectedReply),
        };
        self.exchange(posts, read).await
    }

    /// Puts what is known of posts into Redis: what it has missed of some of them, and all that is known of the others.
    /// Returns what has come of it; nothing of a post that is not known.
    pub(super) async fn put(
        &mut self,
        database: &Database,
        depth: Depth,
        wanted: &[Wanted],
        counts: Counts,
        known: HashMap<PostId, KnownPost>,
    ) -> HashMap<PostId, Found> {
        let (missed, new): (Vec<&Wanted>, Vec<&Wanted>) =
            wanted.iter().filter(|wanted| known.contains_key(&wanted.post)).partition(|wanted| wanted.missed.is_some());
        let mut found = HashMap::with_capacity(known.len());
        if !new.is_empty() {
            failpoints::at("hydrate::before");
            let hydrated = self.hydrate(new.into_iter().map(|wanted| wanted.post), depth, &known).await;
            failpoints::at("hydrate::after");
            found.extend(hydrated.into_iter().map(|(post, is_there)| {
                let found = is_there.map(|is_there| if is_there { Found::Yes } else { Found::NeedsViewers });
                (post, found.unwrap_or_else(|error| refused(&post, &error)))
            }));
        }
        let missed = missed.into_iter().filter_map(|wanted| Some((wanted.post, wanted.missed.as_ref()?))).collect();
        found.extend(self.refresh(database, missed, counts, known).await);
        found
    }

    async fn hydrate(
        &mut self,
        posts: impl Iterator<Item = PostId>,
        depth: Depth,
        known: &HashMap<PostId, KnownPost>,
    ) -> HashMap<PostId, Result<bool, RedisError>> {
        self.pipeline.commands.clear();
        let mut asked = Vec::new();
        for (post, known) in posts.filter_map(|post| Some((post, known.get(&post)?))) {
            scripts::queue_hydrate(&mut self.pipeline.commands, &self.context.keys, &post, known, depth);
            asked.push(post);
        }
        self.exchange(asked, scripts::hydrated).await
    }

    /// Brings posts up to date of which views went past Redis, by an answer of PostgreSQL's that is younger than what
    /// Redis has.
    async fn refresh(
        &mut self,
        database: &Database,
        mut missed: HashMap<PostId, &Missed>,
        mut counts: Counts,
        mut known: HashMap<PostId, KnownPost>,
    ) -> HashMap<PostId, Found> {
        let mut found = HashMap::with_capacity(missed.len());
        if missed.is_empty() {
            return found;
        }
        for tries in 1.. {
            failpoints::at("refresh::before");
            let (mut asked, mut changed) = (Vec::new(), Vec::new());
            self.pipeline.commands.clear();
            for (post, missed) in &missed {
                match (counts.get(post), known.get(post)) {
                    (Some(Ok(count)), Some(known)) => {
                        let (commands, keys) = (&mut self.pipeline.commands, &self.context.keys);
                        scripts::queue_refresh(commands, keys, post, known, count.as_deref(), &missed.viewers);
                        asked.push(*post);
                    }
                    (Some(Err(error)), _) => drop(found.insert(*post, refused(post, error))),
                    _ => {}
                }
            }
            for (post, is_done) in self.exchange(asked, scripts::refreshed).await {
                match is_done {
                    Ok(true) => drop(found.insert(post, Found::Yes)),
                    Ok(false) => changed.push(post),
                    Err(error) => drop(found.insert(post, refused(&post, &error))),
                }
            }
            failpoints::at("refresh::after");
            if changed.is_empty() {
                break;
            }
            if tries == REFRESH_TRIES {
                for post in changed {
                    tracing::warn!(%post, "cannot bring a post in Redis up to date: it changes all the time");
                    found.insert(post, Found::Refused);
                }
                break;
            }
            missed.retain(|post, _| changed.contains(post));
            counts = self.counts(changed.iter().copied()).await;
            match ledger::look_up(database, &changed, FEW_VIEWERS).await {
                Ok(newer) => known.extend(newer),
                Err(error) => {
                    tracing::warn!(%error, "cannot look posts up again that change in Redis");
                    found.extend(changed.into_iter().map(|post| (post, Found::Refused)));
                    break;
                }
            }
        }
        found
    }

    /// Sends the commands, one for each post, and reads the replies.
    async fn exchange<T>(
        &mut self,
        posts: Vec<PostId>,
        read: impl Fn(Reply<'_>) -> Result<T, RedisError>,
    ) -> HashMap<PostId, Result<T, RedisError>> {
        if posts.is_empty() {
            return HashMap::new();
        }
        match self.pipeline.exchange().await {
            Ok(()) => posts.into_iter().zip(self.pipeline.replies.iter().map(read)).collect(),
            Err(error) => {
                tracing::warn!(%error, posts = posts.len(), "Redis does not answer a look-up");
                posts.into_iter().map(|post| (post, Err(RedisError::BreakerOpen))).collect()
            }
        }
    }
}

/// Returns what has come of a post that Redis did not take. Of a node that is away, and of a Redis that does not answer, it
/// has been told.
fn refused(post: &PostId, error: &RedisError) -> Found {
    if !error.is_away() && !matches!(error, RedisError::BreakerOpen) {
        tracing::warn!(%error, %post, "cannot put a post into Redis");
    }
    Found::Refused
}
