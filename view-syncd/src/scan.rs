//! The scan: every post in Redis is compared with PostgreSQL, page by page. It is the guarantee of consistency; the drain is for speed.
//!
//! A post that nothing has happened to costs Redis its share of the walk and four reads, PostgreSQL a look at an index, and neither of
//! them a write. Nothing that is kept grows with the number of posts, and no step keeps a store busy for long.

mod fallen;
mod look;
mod pace;
mod refresh;
mod walk;

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use views_core::ids::PostId;
use views_postgres::ledger::{self, Belief, Truth};

pub(crate) use self::look::Look;
use self::{pace::Pace, walk::Walk};
use crate::{
    drain::Urgency,
    engine::{Engine, Failure},
};

/// Posts with something unacknowledged that are remembered for the repair of drifts. The rest has its turn with the next scan.
const MAX_UNSETTLED: usize = 10_000;
/// Sets that are united with PostgreSQL together: one commit for many. As many others may wait to be compared with the ledger.
const UNITED_POSTS: usize = 500;
/// How often the drain has its turn. Each costs a look at the outbox.
const DRAIN_EVERY: Duration = Duration::from_millis(20);

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
    /// Posts whose set somebody else seems to have written, and that wait for company.
    differing: Vec<PostId>,
    /// Posts of which PostgreSQL has fewer views than it had.
    pub(crate) fallen: HashSet<PostId>,
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
        self.check_owner().await?;
        let (mut walk, mut pace) = (Walk::new(self.keys.clone()), Pace::new());
        let mut drained = Instant::now();
        while let Some(page) = self.next_page(&mut walk, &mut pace).await? {
            self.scan_posts(&page.sets, &mut scanned).await?;
            pace.rest().await;
            self.scan_hashes(&page.hashes, &mut scanned).await?;
            self.go_on()?;
            pace.rest().await;
            if scanned.differing.len() >= UNITED_POSTS {
                self.unite_differing(&mut scanned).await?;
                pace.begin();
            }
            if scanned.fallen.len() >= UNITED_POSTS {
                self.restore_fallen(&mut scanned, &mut drained).await?;
                pace.begin();
            }
            if self.take_turns(&mut drained).await? {
                pace.begin();
            }
        }
        self.unite_differing(&mut scanned).await?;
        self.restore_fallen(&mut scanned, &mut drained).await?;
        walk.end();
        if scanned.united > 0 {
            tracing::info!(posts = scanned.united, "united sets with PostgreSQL that others than view-ingest had written");
        }
        self.metrics.scans.inc();
        self.metrics.scan_seconds.observe(started.elapsed().as_secs_f64());
        Ok(scanned)
    }

    /// Gives the drain its turn where it has waited for one: however long the scan takes, views go on reaching PostgreSQL. Returns whether it was so.
    async fn take_turns(&mut self, drained: &mut Instant) -> Result<bool, Failure> {
        if !self.drains || drained.elapsed() < DRAIN_EVERY {
            return Ok(false);
        }
        self.drain(Urgency::Patient).await?;
        *drained = Instant::now();
        Ok(true)
    }

    /// Brings the posts into order that have a set.
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

    /// Brings those hashes into order that have no set beside them: of posts that were only read, or whose set is gone. Their counts are
    /// served like any other. They are not among the posts with views that a cycle reports.
    ///
    /// A hash with a set is brought into order where the walk meets the set, before this or after. So every hash is seen whose set is there
    /// all the time or never; one whose set is taken away by hand in between has its turn with the next scan. (When they expire, they do so
    /// together.) The other way round, from hash to set, a first touch in between could hide what others have written to a set.
    async fn scan_hashes(&mut self, posts: &[PostId], scanned: &mut Scanned) -> Result<(), Failure> {
        let sets = self.sets_beside(posts).await?;
        self.end_immortality(&sets.immortal, scanned).await?;
        let mut looks = self.look(&sets.missing, scanned).await?;
        looks.retain(|_, look| look.members == 0 && look.has_meta);
        let mut aside = Scanned::default();
        self.put_in_order(looks, &mut aside).await?;
        self.unite_differing(&mut aside).await?;
        scanned.take_over(aside);
        Ok(())
    }

    async fn put_in_order(&mut self, mut looks: HashMap<PostId, Look>, scanned: &mut Scanned) -> Result<(), Failure> {
        if looks.is_empty() {
            return Ok(());
        }
        let belief = |(post, look): (&PostId, &Look)| Belief {
            post: *post,
            views: look.persisted,
            author: look.author.as_deref().unwrap_or_default().to_owned(),
        };
        let mut beliefs: Vec<Belief> = looks.iter().map(belief).collect();
        // In their order, PostgreSQL finds neighbours side by side.
        beliefs.sort_unstable();
        let mut truths = ledger::compare(&self.database, &beliefs).await?;
        self.progress.made();

        let missing: Vec<PostId> = truths.iter().filter(|(_, truth)| **truth == Truth::Missing).map(|(post, _)| *post).collect();
        self.remove_missing(&missing, &mut looks, scanned).await?;

        let unexpected: Vec<PostId> = looks.iter().filter(|(_, look)| !look.has_author()).map(|(post, _)| *post).collect();
        self.hydrate(&unexpected).await?;
        for post in &unexpected {
            truths.remove(post);
        }
        // A second look at those that differ: view-ingest adds to the set and to `recorded` with two commands, and the first look may have
        // fallen in between.
        let doubtful = looks.iter().filter(|(_, look)| !look.has_author() || look.differs());
        let doubtful: Vec<PostId> = doubtful.map(|(post, _)| *post).collect();
        looks.retain(|_, look| look.has_author() && !look.differs());
        looks.extend(self.look(&doubtful, scanned).await?);

        let room = MAX_UNSETTLED.saturating_sub(scanned.unsettled.len());
        let unsettled = looks.iter().filter(|(_, look)| look.recorded != look.acked).map(|(post, _)| *post);
        scanned.unsettled.extend(unsettled.take(room));
        let has_fallen = |(post, look): &(&PostId, &Look)| {
            look.fallen
                || matches!(truths.get(*post), Some(Truth::Exists { views, .. }) if look.persisted.is_some_and(|known| known > *views))
        };
        scanned.fallen.extend(looks.iter().filter(has_fallen).map(|(post, _)| *post));

        let beliefs = beliefs.into_iter().map(|belief| (belief.post, belief)).collect();
        self.refresh(&looks, &truths, &beliefs, scanned).await?;
        scanned.differing.extend(looks.iter().filter(|(_, look)| look.differs()).map(|(post, _)| *post));
        scanned.differing.retain(|post| !scanned.fallen.contains(post));
        Ok(())
    }

    /// Removes the keys of posts that do not exist. What others than view-ingest have put into their sets is kept as dead letters; what
    /// view-ingest has put there is in the outbox, or was.
    async fn remove_missing(
        &mut self,
        missing: &[PostId],
        looks: &mut HashMap<PostId, Look>,
        scanned: &mut Scanned,
    ) -> Result<(), Failure> {
        if missing.is_empty() {
            return Ok(());
        }
        // A standby may only not know them yet, and another database never will.
        self.database.ping().await?;
        self.check_owner().await?;
        let foreign = missing.iter().filter(|post| looks.get(*post).is_some_and(|look| look.members > look.recorded)).copied();
        self.keep_members(foreign.collect(), scanned).await?;
        self.remove_posts(missing).await?;
        scanned.removed += missing.len() as u64;
        for post in missing {
            looks.remove(post);
        }
        Ok(())
    }

    /// Unites the sets with PostgreSQL that wait for it. They are looked at anew: by now, what has been read of them is old.
    async fn unite_differing(&mut self, scanned: &mut Scanned) -> Result<(), Failure> {
        let posts = std::mem::take(&mut scanned.differing);
        let mut looks = self.look(&posts, scanned).await?;
        // Of a post that has expired, nothing is brought back to life.
        looks.retain(|_, look| look.members > 0 || look.has_meta);
        self.unite(looks.into_iter().collect(), scanned).await
    }
}

impl Scanned {
    /// Takes over what is worth knowing of posts that are not counted themselves.
    fn take_over(&mut self, aside: Self) {
        self.errors += aside.errors;
        self.fallen.extend(aside.fallen);
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
