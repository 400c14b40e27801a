//! Which posts a viewer has seen, for whoever only wants to know: nothing is recorded.
//!
//! Each worker answers such questions beside its recorder, so that no view waits for one. All that has come meanwhile
//! is asked together: Redis with one exchange and, for viewers that are not in its sets, PostgreSQL with one statement,
//! as a set may have expired or never have held all viewers of the post. Where a store is away, the other one's word
//! has to do, and nobody waits for it: PostgreSQL is asked beside until it answers again.

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use views_core::ids::{PostId, ViewerId};
use views_postgres::{
    Database, DatabaseError,
    ledger::{self, PostSnapshot},
};
use views_redis::{Pipeline, RedisError, Session, resp::Reply, scripts::Depth};

use crate::record::{
    breaker::REDIS_TIMEOUT,
    context::Context,
    request::{Seen, Unavailable, ViewedRequest},
};

/// How many pairs are asked for together at most, about.
const MAX_PAIRS: usize = 256;
/// How long PostgreSQL is waited for: less than reads wait for their permits, which those behind this one hold.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often PostgreSQL is asked while it does not answer.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Answers the questions of one worker's requests.
struct ViewedPosts {
    context: Context,
    pipeline: Pipeline,
    /// Ends when PostgreSQL answers again; there since it did not.
    probe: Option<JoinHandle<()>>,
}

/// Runs until nobody can ask any more.
pub(crate) async fn run(context: Context, mut requests: mpsc::Receiver<ViewedRequest>) {
    let breaker = Arc::clone(&context.breaker);
    let session = Session::new(&context.redis, REDIS_TIMEOUT, breaker.epoch()).with_breaker(breaker);
    let mut viewed = ViewedPosts { context, pipeline: Pipeline::new(session), probe: None };
    while let Some(request) = requests.recv().await {
        let mut batch = vec![request];
        let mut pairs = batch[0].posts.len();
        while pairs < MAX_PAIRS
            && let Ok(request) = requests.try_recv()
        {
            pairs += request.posts.len();
            batch.push(request);
        }
        viewed.answer(batch).await;
    }
}

impl ViewedPosts {
    async fn answer(&mut self, mut batch: Vec<ViewedRequest>) {
        // A client that has gone away needs no answer.
        batch.retain(|request| !request.reply.is_closed());
        let members = self.members(&batch).await;
        // What is left to do is PostgreSQL's, which has a limit of its own for reads.
        batch.iter_mut().for_each(|request| drop(request.permit.take()));
        let wanted = self.not_members(&batch, members.as_deref());
        let rows = self.look(wanted).await;
        let mut members = members.map(IntoIterator::into_iter);
        for ViewedRequest { viewer, posts, reply, .. } in batch {
            let seen = posts.iter().map(|post| {
                let is_member = members.as_mut().and_then(|members| members.next().flatten());
                self.verdict(post, &viewer, is_member, rows.as_ref())
            });
            // All are looked at, for the members of the next request stand behind them.
            let seen: Vec<Result<Seen, Unavailable>> = seen.collect();
            let _ = reply.send(seen.into_iter().collect());
        }
    }

    /// Returns whether the set of each pair's post has its viewer: nothing for a pair of which Redis does not tell, and
    /// nothing at all where it is away.
    async fn members(&mut self, batch: &[ViewedRequest]) -> Option<Vec<Option<bool>>> {
        let commands = &mut self.pipeline.commands;
        commands.clear();
        for ViewedRequest { viewer, posts, .. } in batch {
            for post in posts {
                commands.command("SMISMEMBER", 2).parts(&self.context.keys.views_parts(post)).text(viewer.as_str());
            }
        }
        self.pipeline.exchange().await.ok()?;
        let members = self.pipeline.replies.iter().map(|reply| {
            let told = is_member(reply).inspect_err(|error| {
                // Of a node that is away, the circuit breaker tells.
                if !error.is_away() {
                    tracing::warn!(%error, "Redis did not tell whether a post was viewed");
                }
            });
            told.ok()
        });
        Some(members.collect())
    }

    /// Returns the pairs that PostgreSQL is to be asked for: those that are in no set, and not of a post that was not
    /// found a moment ago.
    fn not_members(&self, batch: &[ViewedRequest], members: Option<&[Option<bool>]>) -> HashMap<PostId, Vec<ViewerId>> {
        let pairs = batch.iter().flat_map(|request| request.posts.iter().map(|post| (*post, request.viewer)));
        let mut wanted: HashMap<PostId, HashSet<ViewerId>> = HashMap::new();
        for (place, (post, viewer)) in pairs.enumerate() {
            let is_member = members.and_then(|members| members.get(place).copied().flatten());
            if is_member != Some(true) && !self.context.not_found.has(&post, Depth::Read) {
                wanted.entry(post).or_default().insert(viewer);
            }
        }
        wanted.into_iter().map(|(post, viewers)| (post, viewers.into_iter().collect())).collect()
    }

    /// Returns what PostgreSQL has of pairs; nothing where it does not answer.
    async fn look(&mut self, wanted: HashMap<PostId, Vec<ViewerId>>) -> Option<HashMap<PostId, PostSnapshot>> {
        if wanted.is_empty() {
            return Some(HashMap::new());
        }
        let database = self.context.database.clone()?;
        if self.probe.as_ref().is_some_and(|probe| !probe.is_finished()) {
            return None;
        }
        self.probe = None;
        let failure: &dyn Display = match timeout(PATIENCE, query(&self.context, &database, &wanted)).await {
            Ok(Ok(rows)) => {
                for post in wanted.into_keys().filter(|post| !rows.contains_key(post)) {
                    self.context.remember_not_found(post, Depth::Read);
                }
                return Some(rows);
            }
            Ok(Err(error)) => &error.to_string(),
            Err(_) => &"no answer in time",
        };
        tracing::warn!(error = %failure, "cannot look up whether posts were viewed");
        self.probe = Some(tokio::spawn(wait_for(self.context.clone(), database, wanted)));
        None
    }

    /// Returns whether the viewer has seen the post, as far as either store knows.
    fn verdict(
        &self,
        post: &PostId,
        viewer: &ViewerId,
        is_member: Option<bool>,
        rows: Option<&HashMap<PostId, PostSnapshot>>,
    ) -> Result<Seen, Unavailable> {
        match (is_member, rows) {
            (Some(true), _) => Ok(Some(true)),
            (_, Some(rows)) => Ok(rows.get(post).map(|row| row.viewers.contains(viewer))),
            (Some(false), None) if self.context.not_found.has(post, Depth::Read) => Ok(None),
            // Whether the post exists is unknown, as it is to whoever views it now.
            (Some(false), None) => Ok(Some(false)),
            (None, None) => Err(Unavailable),
        }
    }
}

/// Asks PostgreSQL for pairs, within the share that reads have of the connections.
async fn query(
    context: &Context,
    database: &Database,
    wanted: &HashMap<PostId, Vec<ViewerId>>,
) -> Result<HashMap<PostId, PostSnapshot>, DatabaseError> {
    // The semaphore is never closed.
    let _permit = context.read_queries.acquire().await;
    ledger::look(database, wanted).await
}

/// Returns when PostgreSQL answers what it did not answer.
async fn wait_for(context: Context, database: Arc<Database>, wanted: HashMap<PostId, Vec<ViewerId>>) {
    loop {
        sleep(PROBE_INTERVAL).await;
        if query(&context, &database, &wanted).await.is_ok() {
            return;
        }
    }
}

fn is_member(reply: Reply<'_>) -> Result<bool, RedisError> {
    match reply {
        Reply::List(list) if list.len() == 1 => Ok(list.iter().next() == Some(Reply::Integer(1))),
        Reply::Error(error) => Err(error.into()),
        _ => Err(RedisError::UnexpectedReply),
    }
}
