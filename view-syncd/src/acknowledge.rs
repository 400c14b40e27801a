//! Acknowledging in Redis what PostgreSQL has taken or refused for good: the numbers of each post in one step, then the entries.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use fred::{error::Error, interfaces::KeysInterface, types::Value};
use indexmap::IndexSet;
use views_core::{failpoints, ids::PostId, keys::field};
use views_postgres::ledger;
use views_redis::{
    self as redis,
    resp::{Commands, Replies},
    scripts::{self, Settled, Settlement},
};

use crate::{
    engine::{Engine, Failure, refusal},
    outbox::{Entries, EntryId, Span, now_ms},
};

/// Posts in one script, which takes Redis about half a millisecond.
const SCRIPT_POSTS: usize = 60;
/// Entries that are deleted with one command.
const DELETED_ENTRIES: usize = 200;
/// Posts whose keys are removed in one pipeline.
const CHUNK: usize = 500;
/// How long an increment of `recorded` may come behind its entry: longer than view-ingest waits for Redis.
const GRACE: Duration = Duration::from_secs(2);
/// How soon a post is asked for again whose increments were missing.
const SHORT_PAUSE: Duration = Duration::from_millis(20);

/// A post that is to be acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct AckedPost {
    /// The post.
    pub(crate) post: PostId,
    /// Its place among the posts of the entries.
    pub(crate) place: u32,
    /// The entries that name it.
    pub(crate) span: Span,
    /// Its count in PostgreSQL.
    pub(crate) views: i64,
    /// Its count before its new pairs.
    pub(crate) before: i64,
    /// The count that Redis had when PostgreSQL was asked for these once more.
    seen: Option<String>,
}

impl AckedPost {
    /// A post at a place, with its count now and its count before its new pairs.
    pub(crate) fn new(post: PostId, place: u32, span: Span, views: i64, before: i64) -> Self {
        Self { post, place, span, views, before, seen: None }
    }

    fn settlement(&self) -> Settlement {
        let Self { post, span, views, before, .. } = *self;
        let (first, last, seen) = (span.first.to_string(), span.last.to_string(), self.seen.clone());
        Settlement { post, first, last, pairs: span.pairs, views, before, seen }
    }
}

impl Engine {
    /// Settles the numbers of posts, over the link by which the entries were read.
    pub(crate) async fn acknowledge_posts(
        &mut self,
        entries: &Entries,
        mut posts: Vec<AckedPost>,
        link: u64,
    ) -> Result<(), Failure> {
        let since = Instant::now();
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        if failpoints::is_broken(failpoints::COUNT_BEFORE_ACK) && !posts.is_empty() {
            for acked in &posts {
                commands.command("HSET", 3).parts(&self.keys.meta_parts(&acked.post)).text(field::PERSISTED).number(acked.views);
            }
            self.line.exchange_over(link, &commands, &mut replies).await?;
            tokio::time::sleep(SHORT_PAUSE).await;
        }
        let mut is_final = false;
        while !posts.is_empty() {
            let (mut again, mut doubtful) = (Vec::new(), Vec::new());
            let mut youngest = EntryId { ms: 0, sequence: 0 };
            for chunk in posts.chunks(SCRIPT_POSTS) {
                let settlements: Vec<Settlement> = chunk.iter().map(AckedPost::settlement).collect();
                failpoints::at("ack::before");
                commands.clear();
                scripts::settle(&mut commands, &self.keys, &settlements, is_final);
                self.line.exchange_over(link, &commands, &mut replies).await?;
                failpoints::at("ack::after");
                self.progress.made();
                let reply = replies.iter().next();
                let Some(redis::resp::Reply::List(all)) = reply else { return Err(refusal(reply).into()) };
                for (acked, reply) in chunk.iter().zip(all.iter()) {
                    match scripts::settled(reply) {
                        Some(Settled::Done) => {}
                        Some(Settled::Fallen) => tracing::info!(post = %acked.post, "PostgreSQL has fewer views than it had"),
                        Some(Settled::Short) => {
                            youngest = youngest.max(acked.span.last);
                            again.push(acked.clone());
                        }
                        Some(Settled::Doubtful(count)) => doubtful.push(AckedPost { seen: Some(count), ..acked.clone() }),
                        Some(Settled::UpTo(id)) => again.extend(rest_of(acked, entries, &id)),
                        None => return Err(refusal(Some(reply)).into()),
                    }
                }
            }
            self.ask_again(&mut doubtful).await?;
            again.extend(doubtful);
            posts = again;
            if youngest.ms > 0 {
                // By the clock of Redis, or by our own where the two disagree.
                is_final = since.elapsed() >= GRACE || !is_young(youngest);
                if !is_final {
                    tokio::time::sleep(SHORT_PAUSE).await;
                }
            }
        }
        Ok(())
    }

    /// Asks PostgreSQL once more for the counts of posts of which Redis has more views than PostgreSQL had before the new ones.
    async fn ask_again(&self, doubtful: &mut [AckedPost]) -> Result<(), Failure> {
        let posts: Vec<PostId> = doubtful.iter().map(|acked| acked.post).collect();
        if posts.is_empty() {
            return Ok(());
        }
        let counts: HashMap<PostId, i64> = ledger::counts(&self.database, &posts).await?;
        for acked in doubtful {
            // One that was deleted this moment has its turn with the next scan.
            let views = counts.get(&acked.post).copied().unwrap_or(acked.views);
            // What others have stored since was not there before either.
            (acked.before, acked.views) = (views - (acked.views - acked.before), views);
        }
        Ok(())
    }

    /// Deletes entries of which every post is settled, over the link by which they were read.
    pub(crate) async fn delete_entries(&mut self, entries: &[EntryId], link: u64) -> Result<(), Error> {
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        for chunk in entries.chunks(DELETED_ENTRIES) {
            failpoints::at("delete::before");
            commands.clear();
            commands.command("XDEL", 1 + chunk.len()).text(self.keys.outbox());
            for entry in chunk {
                commands.text(&entry.to_string());
            }
            self.line.exchange_over(link, &commands, &mut replies).await?;
            self.progress.made();
            let reply = replies.iter().next();
            if !matches!(reply, Some(redis::resp::Reply::Integer(_))) {
                return Err(refusal(reply));
            }
        }
        Ok(())
    }

    /// Removes the keys of posts that do not exist. Whoever has viewed them is counted nowhere.
    pub(crate) async fn remove_posts(&mut self, posts: &[PostId]) -> Result<(), Failure> {
        if !posts.is_empty() {
            self.check_owner().await?;
        }
        for chunk in posts.chunks(CHUNK) {
            let pipeline = self.redis.pipeline();
            for post in chunk {
                // The set may be large: its memory is freed aside.
                let () = pipeline.unlink(vec![self.keys.views(post), self.keys.meta(post)]).await?;
                tracing::debug!(%post, "removing the keys of a post that does not exist in PostgreSQL");
            }
            redis::send::<Value>(&self.redis, &pipeline).await.into_iter().try_for_each(|reply| reply.map(drop))?;
        }
        if !posts.is_empty() {
            tracing::info!(posts = posts.len(), "removed the keys of posts that do not exist in PostgreSQL");
        }
        Ok(())
    }
}

/// Whether an increment that belongs to an entry may be on its way.
pub(crate) fn is_young(entry: EntryId) -> bool {
    let age_ms = now_ms().saturating_sub(i64::try_from(entry.ms).unwrap_or(i64::MAX));
    u128::try_from(age_ms).map_or(true, |age| age < GRACE.as_millis())
}

/// What is left of a post when entries up to this one have been settled by somebody else.
fn rest_of(acked: &AckedPost, entries: &Entries, id: &str) -> Option<AckedPost> {
    let span = entries.span_behind(acked.place, id.parse().ok()?)?;
    Some(AckedPost { span, ..acked.clone() })
}

/// The distinct posts that an entry names.
pub(crate) fn distinct(named: &[u32]) -> HashSet<u32> {
    named.iter().copied().collect()
}

/// The places of posts.
pub(crate) fn places_of<'a>(posts: &'a IndexSet<PostId>, wanted: impl Iterator<Item = &'a PostId>) -> HashSet<u32> {
    wanted.filter_map(|post| posts.get_index_of(post)).filter_map(|place| u32::try_from(place).ok()).collect()
}
