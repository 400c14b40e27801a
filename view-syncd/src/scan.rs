//! The scan: every post in Redis is compared with PostgreSQL, page by page. It is the guarantee of consistency; the drain is for speed.
//!
//! A post that nothing has happened to costs Redis five reads and no write, and a share of one query per page. Nothing that is kept grows
//! with the number of posts.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use fred::{
    error::Error,
    interfaces::{HashesInterface, KeysInterface, SetsInterface},
    types::{ExpireOptions, Value},
};
use futures_util::future::join_all;
use shared::{
    ids::PostId,
    keys::{self, field},
    ledger, redis, scripts,
};

use crate::{
    drain::Urgency,
    engine::{Engine, Failure, is_about_the_key, replies},
};

/// Keys that one `SCAN` looks at, whether they are sets of views or not. It takes Redis well under a millisecond.
const SCAN_COUNT: u32 = 1_000;
/// Posts in one pipeline and one query.
const PAGE_POSTS: usize = 1_000;
/// Posts in one query that brings viewers along.
const LOOK_UP_POSTS: usize = 64;
/// A post with at most this many viewers gets them back from the ledger, as at its first touch by view-ingest.
const FEW_VIEWERS: i64 = 1_000;
/// Posts with something unacknowledged that are remembered for the repair of drifts. The rest has its turn with the next scan.
const MAX_UNSETTLED: usize = 10_000;

/// What a scan has seen and done.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Posts with views in Redis.
    pub found: u64,
    /// Posts whose count in Redis is right now.
    pub successful: u64,
    /// Posts that could not be brought into order.
    pub errors: u64,
    /// Posts that do not exist in PostgreSQL, and whose keys are gone now.
    pub removed: u64,
    /// Posts whose set somebody else had written, and whose members are all in PostgreSQL now.
    pub united: u64,
    /// Posts of which something was not acknowledged, for the repair of drifts.
    pub(crate) unsettled: HashSet<PostId>,
}

/// What Redis knows of a post.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Look {
    /// The size of the set.
    pub(crate) members: i64,
    pub(crate) has_author: bool,
    pub(crate) has_meta: bool,
    pub(crate) persisted: Option<i64>,
    pub(crate) recorded: i64,
    pub(crate) acked: i64,
    /// Whether one of the keys is there for ever.
    pub(crate) immortal: bool,
}

impl Look {
    /// Whether somebody else than view-ingest seems to have written the set.
    pub(crate) fn differs(&self) -> bool {
        self.members != self.recorded
    }
}

impl Engine {
    /// Scans everything.
    ///
    /// # Errors
    /// [`Failure`]: a store is away, or the process is about to stop; what has been done so far stays done.
    pub async fn scan(&mut self) -> Result<Scanned, Failure> {
        let started = Instant::now();
        let mut scanned = Scanned::default();
        // Counts of a standby may be old, and would be written over younger ones.
        self.database.ping().await?;
        self.walk(Walk::Sets, &mut scanned).await?;
        self.walk(Walk::LoneHashes, &mut scanned).await?;
        if scanned.united > 0 {
            tracing::info!(posts = scanned.united, "united sets with PostgreSQL that others than view-ingest had written");
        }
        self.metrics.scans.inc();
        self.metrics.scan_seconds.observe(started.elapsed().as_secs_f64());
        Ok(scanned)
    }

    async fn walk(&mut self, walk: Walk, scanned: &mut Scanned) -> Result<(), Failure> {
        let (pattern, post_of): (_, fn(&str) -> Option<PostId>) = match walk {
            Walk::Sets => (keys::VIEWS_PATTERN, keys::post_of_views),
            Walk::LoneHashes => (keys::META_PATTERN, keys::post_of_meta),
        };
        let mut cursor = "0".to_owned();
        let mut misnamed = 0;
        loop {
            let (next, found): (String, Vec<String>) = self.redis.scan_page(cursor, pattern, Some(SCAN_COUNT), None).await?;
            // Redis may name a key twice.
            let posts: HashSet<PostId> = found.iter().filter_map(|key| post_of(key)).collect();
            misnamed += found.iter().filter(|key| post_of(key).is_none()).count();
            let posts: Vec<PostId> = posts.into_iter().collect();
            for page in posts.chunks(PAGE_POSTS) {
                match walk {
                    Walk::Sets => self.scan_posts(page, scanned).await?,
                    Walk::LoneHashes => self.scan_lone(page, scanned).await?,
                }
            }
            self.go_on()?;
            if next == "0" {
                break;
            }
            cursor = next;
            // However long the scan takes, views go on reaching PostgreSQL.
            self.drain(Urgency::Patient).await?;
        }
        if misnamed > 0 {
            tracing::warn!(keys = misnamed, "keys like {pattern} do not hold the id of a post and are passed over");
        }
        Ok(())
    }

    /// Brings those hashes into order that have no set beside them: of posts that were only read, or whose set is gone. Their counts are
    /// served like any other. They are not among the posts with views that a cycle reports.
    async fn scan_lone(&mut self, posts: &[PostId], scanned: &mut Scanned) -> Result<(), Failure> {
        let pipeline = self.redis.pipeline();
        for post in posts {
            let () = pipeline.exists(keys::views(post)).await?;
        }
        let sets = replies(redis::send::<i64>(&self.redis, &pipeline).await, posts.len())?;
        let lone = posts.iter().zip(sets).filter(|(_, set)| set.as_ref().is_ok_and(|set| *set == 0));
        let lone: Vec<PostId> = lone.map(|(post, _)| *post).collect();
        self.progress.made();
        if lone.is_empty() {
            return Ok(());
        }
        let mut looks = self.look(&lone, scanned).await?;
        looks.retain(|_, look| look.members == 0 && look.has_meta);
        let mut aside = Scanned::default();
        self.put_in_order(looks, &mut aside).await?;
        scanned.take_over(aside);
        Ok(())
    }

    async fn scan_posts(&mut self, posts: &[PostId], scanned: &mut Scanned) -> Result<(), Failure> {
        let errors_before = scanned.errors;
        let mut looks = self.look(posts, scanned).await?;
        // A set that has expired meanwhile is none of our business.
        looks.retain(|_, look| look.members > 0);
        let found = looks.len() as u64 + (scanned.errors - errors_before);
        scanned.found += found;
        self.metrics.posts_scanned.inc_by(found);
        self.put_in_order(looks, scanned).await
    }

    async fn put_in_order(&mut self, mut looks: HashMap<PostId, Look>, scanned: &mut Scanned) -> Result<(), Failure> {
        let seen: Vec<PostId> = looks.keys().copied().collect();
        if seen.is_empty() {
            return Ok(());
        }
        let mut counts = ledger::counts(&self.database, &seen).await?;
        self.progress.made();

        let missing: Vec<PostId> = seen.into_iter().filter(|post| !counts.contains_key(post)).collect();
        if !missing.is_empty() {
            // A standby may only not know them yet.
            self.database.ping().await?;
        }
        self.remove_posts(&missing).await?;
        scanned.removed += missing.len() as u64;
        looks.retain(|post, _| counts.contains_key(post));

        let strange: Vec<PostId> = looks.iter().filter(|(_, look)| !look.has_author).map(|(post, _)| *post).collect();
        self.hydrate(&strange, &mut counts).await?;
        // A second look at those that differ: view-ingest adds to the set and to `recorded` with two commands, and the first look may have
        // fallen in between.
        let doubtful = looks.iter().filter(|(_, look)| !look.has_author || look.differs());
        let doubtful: Vec<PostId> = doubtful.map(|(post, _)| *post).collect();
        looks.retain(|_, look| look.has_author && !look.differs());
        looks.extend(self.look(&doubtful, scanned).await?);

        let room = MAX_UNSETTLED.saturating_sub(scanned.unsettled.len());
        let unsettled = looks.iter().filter(|(_, look)| look.recorded != look.acked).map(|(post, _)| *post);
        scanned.unsettled.extend(unsettled.take(room));

        let (differing, in_order): (HashMap<_, _>, HashMap<_, _>) = looks.into_iter().partition(|(_, look)| look.differs());
        self.refresh(&in_order, &counts, scanned).await?;
        // Last, because unions let the drain have its turn, and what has been read above is old after that.
        self.unite(differing.into_iter().collect(), scanned).await
    }

    /// Asks Redis for what it knows of posts. A post whose keys are of another type is an error of its own, and left out.
    pub(crate) async fn look(&self, posts: &[PostId], scanned: &mut Scanned) -> Result<HashMap<PostId, Look>, Failure> {
        let mut looks = HashMap::with_capacity(posts.len());
        if posts.is_empty() {
            return Ok(looks);
        }
        let pipeline = self.redis.pipeline();
        for post in posts {
            let (views, meta) = (keys::views(post), keys::meta(post));
            let () = pipeline.scard(&views).await?;
            let fields = vec![field::AUTHOR, field::PERSISTED, field::RECORDED, field::ACKED];
            let () = pipeline.hmget(&meta, fields).await?;
            let () = pipeline.ttl(&views).await?;
            let () = pipeline.ttl(&meta).await?;
        }
        let all = replies(redis::send::<Value>(&self.redis, &pipeline).await, 4 * posts.len())?;
        let mut all = all.into_iter();
        for post in posts {
            // All four are taken before the first error is looked at, so that the next post finds its own.
            let own: Vec<Result<Value, Error>> = all.by_ref().take(4).collect();
            match own.into_iter().collect::<Result<Vec<Value>, Error>>() {
                Ok(own) => {
                    looks.insert(*post, read(own));
                }
                Err(error) => scanned.fail(post, &error),
            }
        }
        self.progress.made();
        Ok(looks)
    }

    /// Puts into Redis what PostgreSQL knows of posts that view-ingest has never seen or could not look up.
    async fn hydrate(&self, posts: &[PostId], counts: &mut HashMap<PostId, i64>) -> Result<(), Failure> {
        for chunk in posts.chunks(LOOK_UP_POSTS) {
            let known = ledger::look_up(&self.database, chunk, FEW_VIEWERS).await?;
            let hydrations = known.iter().map(|(post, known)| scripts::hydrate(&self.redis, post, known, self.settings.view_ttl));
            for (result, (post, known)) in join_all(hydrations).await.into_iter().zip(&known) {
                match result {
                    Ok(()) => {
                        counts.insert(*post, known.views);
                    }
                    // The second look meets the same key and counts the error.
                    Err(error) if is_about_the_key(&error) => tracing::debug!(%post, %error, "cannot put a post into Redis"),
                    Err(error) => return Err(error.into()),
                }
            }
            self.progress.made();
            self.go_on()?;
        }
        Ok(())
    }

    /// Writes the counts that have changed, and a time to live where there is none. A post that is in order costs no command.
    async fn refresh(
        &self,
        looks: &HashMap<PostId, Look>,
        counts: &HashMap<PostId, i64>,
        scanned: &mut Scanned,
    ) -> Result<(), Failure> {
        let ttl = i64::try_from(self.settings.view_ttl.as_secs()).unwrap_or(i64::MAX);
        let pipeline = self.redis.pipeline();
        let mut asked: Vec<PostId> = Vec::new();
        for (post, look) in looks {
            let count = counts.get(post).copied();
            let stale = look.has_meta && count.is_some() && look.persisted != count;
            if let (true, Some(count)) = (stale, count) {
                let () = pipeline.hset(keys::meta(post), (field::PERSISTED, count)).await?;
                asked.push(*post);
            }
            if stale || look.immortal {
                // Only where there is none: also for a hash that has expired since, and has just been brought back to life.
                for key in [keys::views(post), keys::meta(post)] {
                    let () = pipeline.expire(key, ttl, Some(ExpireOptions::NX)).await?;
                    asked.push(*post);
                }
            }
        }
        let mut failed = HashSet::new();
        if !asked.is_empty() {
            let all = replies(redis::send::<Value>(&self.redis, &pipeline).await, asked.len())?;
            for (post, reply) in asked.iter().zip(all) {
                if let Err(error) = reply
                    && failed.insert(*post)
                {
                    scanned.fail(post, &error);
                }
            }
        }
        scanned.successful += (looks.len() - failed.len()) as u64;
        self.progress.made();
        Ok(())
    }
}

/// What a walk through the keys looks for.
#[derive(Debug, Clone, Copy)]
enum Walk {
    Sets,
    LoneHashes,
}

impl Scanned {
    /// Takes over what is worth knowing of posts that are not counted themselves.
    fn take_over(&mut self, aside: Self) {
        self.errors += aside.errors;
        self.removed += aside.removed;
        let room = MAX_UNSETTLED.saturating_sub(self.unsettled.len());
        self.unsettled.extend(aside.unsettled.into_iter().take(room));
    }

    /// Notes that a post could not be brought into order.
    pub(crate) fn fail(&mut self, post: &PostId, error: &dyn std::fmt::Display) {
        self.errors += 1;
        tracing::warn!(%post, %error, "a post cannot be synchronized");
    }
}

/// Reads the replies about a post: size, fields, and the two times to live.
fn read(replies: Vec<Value>) -> Look {
    let mut replies = replies.into_iter();
    let mut next = || replies.next().unwrap_or(Value::Null);
    let members = next().as_i64().unwrap_or(0);
    let fields = next().into_array();
    let number = |place: usize| fields.get(place).and_then(Value::as_i64);
    let no_expiry = |ttl: &Value| ttl.as_i64() == Some(-1);
    Look {
        members,
        has_author: fields.first().is_some_and(|author| !author.is_null()),
        has_meta: fields.iter().any(|field| !field.is_null()),
        persisted: number(1),
        recorded: number(2).unwrap_or(0),
        acked: number(3).unwrap_or(0),
        immortal: [next(), next()].iter().any(no_expiry),
    }
}
