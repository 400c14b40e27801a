//! The scan: every post in Redis is compared with PostgreSQL, page by page. It is the guarantee of consistency; the drain is for speed.
//!
//! A post that nothing has happened to costs Redis its share of the walk and four reads, PostgreSQL a look at an index, and neither of
//! them a write. Nothing that is kept grows with the number of posts, and no step keeps a store busy for long.

mod keyspace;
mod post_state;
mod refresh;
mod regressed;
mod throttle;

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use views_core::ids::PostId;
use views_postgres::ledger::{self, Belief, Truth};

pub(crate) use self::post_state::PostState;
use self::{keyspace::Keyspace, throttle::Throttle};
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
pub struct ScanReport {
    /// Posts with views in Redis.
    pub found: u64,
    /// Posts whose count in Redis is right now.
    pub successful: u64,
    /// Posts that could not be brought into order.
    pub errors: u64,
    /// Posts that do not exist in PostgreSQL, and whose keys are gone now.
    pub removed: u64,
    /// Posts whose set somebody else had written, and whose members are all in PostgreSQL now.
    pub imported: u64,
    /// Posts of which something was not acknowledged, for the repair of drifts.
    pub(crate) unsettled: HashSet<PostId>,
    /// Posts whose set somebody else seems to have written, and that wait for company.
    with_foreign_members: Vec<PostId>,
    /// Posts of which PostgreSQL has fewer views than it had.
    pub(crate) regressed: HashSet<PostId>,
}

impl Engine {
    /// Scans everything.
    ///
    /// # Errors
    /// [`Failure`]: a store is away, or the process is about to stop; what has been done so far stays done.
    pub async fn scan(&mut self) -> Result<ScanReport, Failure> {
        let started = Instant::now();
        let mut scanned = ScanReport::default();
        // Counts of a standby may be old, and would be written over younger ones.
        self.database.ping().await?;
        self.check_owner().await?;
        let (mut keyspace, mut throttle) = (Keyspace::new(self.keys.clone()), Throttle::new());
        let mut drained = Instant::now();
        while let Some(page) = self.next_page(&mut keyspace, &mut throttle).await? {
            self.reconcile_sets(&page.sets, &mut scanned).await?;
            throttle.rest().await;
            self.reconcile_hashes(&page.hashes, &mut scanned).await?;
            self.checkpoint()?;
            throttle.rest().await;
            if scanned.with_foreign_members.len() >= UNITED_POSTS {
                self.import_foreign(&mut scanned).await?;
                throttle.begin();
            }
            if scanned.regressed.len() >= UNITED_POSTS {
                self.rebuild_sets(&mut scanned, &mut drained).await?;
                throttle.begin();
            }
            if self.give_turn(&mut drained).await? {
                throttle.begin();
            }
        }
        self.import_foreign(&mut scanned).await?;
        self.rebuild_sets(&mut scanned, &mut drained).await?;
        keyspace.end();
        if scanned.imported > 0 {
            tracing::info!(posts = scanned.imported, "united sets with PostgreSQL that others than view-ingest had written");
        }
        self.metrics.scans.inc();
        self.metrics.scan_seconds.observe(started.elapsed().as_secs_f64());
        Ok(scanned)
    }

    /// Gives the drain its turn where it has waited for one: however long the scan takes, views go on reaching PostgreSQL. Returns whether it was so.
    async fn give_turn(&mut self, drained: &mut Instant) -> Result<bool, Failure> {
        if !self.drains || drained.elapsed() < DRAIN_EVERY {
            return Ok(false);
        }
        self.drain(Urgency::Patient).await?;
        *drained = Instant::now();
        Ok(true)
    }

    /// Brings the posts into order that have a set.
    async fn reconcile_sets(&mut self, posts: &[PostId], scanned: &mut ScanReport) -> Result<(), Failure> {
        let errors_before = scanned.errors;
        let mut states = self.read_states(posts, scanned).await?;
        // A set that has expired meanwhile is none of our business.
        states.retain(|_, state| state.members > 0);
        let found = states.len() as u64 + (scanned.errors - errors_before);
        scanned.found += found;
        self.metrics.posts_scanned.inc_by(found);
        self.reconcile(states, scanned).await
    }

    /// Brings those hashes into order that have no set beside them: of posts that were only read, or whose set is gone. Their counts are
    /// served like any other. They are not among the posts with views that a cycle reports.
    ///
    /// A hash with a set is brought into order where the walk meets the set, before this or after. So every hash is seen whose set is there
    /// all the time or never; one whose set is taken away by hand in between has its turn with the next scan. (When they expire, they do so
    /// together.) The other way round, from hash to set, a first touch in between could hide what others have written to a set.
    async fn reconcile_hashes(&mut self, posts: &[PostId], scanned: &mut ScanReport) -> Result<(), Failure> {
        let sets = self.sets_beside(posts).await?;
        self.set_missing_ttl(&sets.without_ttl, scanned).await?;
        let mut states = self.read_states(&sets.missing, scanned).await?;
        states.retain(|_, state| state.members == 0 && state.has_meta);
        let mut aside = ScanReport::default();
        self.reconcile(states, &mut aside).await?;
        self.import_foreign(&mut aside).await?;
        scanned.take_over(aside);
        Ok(())
    }

    async fn reconcile(&mut self, mut states: HashMap<PostId, PostState>, scanned: &mut ScanReport) -> Result<(), Failure> {
        if states.is_empty() {
            return Ok(());
        }
        let belief = |(post, state): (&PostId, &PostState)| Belief {
            post: *post,
            views: state.persisted,
            author: state.author.as_deref().unwrap_or_default().to_owned(),
        };
        let mut beliefs: Vec<Belief> = states.iter().map(belief).collect();
        // In their order, PostgreSQL finds neighbours side by side.
        beliefs.sort_unstable();
        let mut truths = ledger::compare(&self.database, &beliefs).await?;
        self.progress.made();

        let missing: Vec<PostId> = truths.iter().filter(|(_, truth)| **truth == Truth::Missing).map(|(post, _)| *post).collect();
        self.remove_missing_posts(&missing, &mut states, scanned).await?;

        let unexpected: Vec<PostId> = states.iter().filter(|(_, state)| !state.has_author()).map(|(post, _)| *post).collect();
        self.hydrate(&unexpected).await?;
        for post in &unexpected {
            truths.remove(post);
        }
        // A second look at those that differ: view-ingest adds to the set and to `recorded` with two commands, and the first look may have
        // fallen in between.
        let doubtful = states.iter().filter(|(_, state)| !state.has_author() || state.has_foreign_members());
        let doubtful: Vec<PostId> = doubtful.map(|(post, _)| *post).collect();
        states.retain(|_, state| state.has_author() && !state.has_foreign_members());
        states.extend(self.read_states(&doubtful, scanned).await?);

        let room = MAX_UNSETTLED.saturating_sub(scanned.unsettled.len());
        let unsettled = states.iter().filter(|(_, state)| state.recorded != state.acked).map(|(post, _)| *post);
        scanned.unsettled.extend(unsettled.take(room));
        let has_regressed = |(post, state): &(&PostId, &PostState)| {
            state.regressed
                || matches!(truths.get(*post), Some(Truth::Exists { views, .. }) if state.persisted.is_some_and(|known| known > *views))
        };
        scanned.regressed.extend(states.iter().filter(has_regressed).map(|(post, _)| *post));

        let beliefs = beliefs.into_iter().map(|belief| (belief.post, belief)).collect();
        self.refresh(&states, &truths, &beliefs, scanned).await?;
        scanned
            .with_foreign_members
            .extend(states.iter().filter(|(_, state)| state.has_foreign_members()).map(|(post, _)| *post));
        scanned.with_foreign_members.retain(|post| !scanned.regressed.contains(post));
        Ok(())
    }

    /// Removes the keys of posts that do not exist. What others than view-ingest have put into their sets is kept as dead letters; what
    /// view-ingest has put there is in the outbox, or was.
    async fn remove_missing_posts(
        &mut self,
        missing: &[PostId],
        states: &mut HashMap<PostId, PostState>,
        scanned: &mut ScanReport,
    ) -> Result<(), Failure> {
        if missing.is_empty() {
            return Ok(());
        }
        // A standby may only not know them yet, and another database never will.
        self.database.ping().await?;
        self.check_owner().await?;
        let foreign =
            missing.iter().filter(|post| states.get(*post).is_some_and(|state| state.members > state.recorded)).copied();
        self.keep_members_as_dead_letters(foreign.collect(), scanned).await?;
        self.remove_posts(missing).await?;
        scanned.removed += missing.len() as u64;
        for post in missing {
            states.remove(post);
        }
        Ok(())
    }

    /// Unites the sets with PostgreSQL that wait for it. They are looked at anew: by now, what has been read of them is old.
    async fn import_foreign(&mut self, scanned: &mut ScanReport) -> Result<(), Failure> {
        let posts = std::mem::take(&mut scanned.with_foreign_members);
        let mut states = self.read_states(&posts, scanned).await?;
        // Of a post that has expired, nothing is brought back to life.
        states.retain(|_, state| state.members > 0 || state.has_meta);
        self.import_sets(states.into_iter().collect(), scanned).await
    }
}

impl ScanReport {
    /// Takes over what is worth knowing of posts that are not counted themselves.
    fn take_over(&mut self, aside: Self) {
        self.errors += aside.errors;
        self.regressed.extend(aside.regressed);
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
