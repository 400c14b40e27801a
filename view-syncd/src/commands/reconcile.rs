//! `view-syncd reconcile`: compares Redis, the ledger, bases and counts, and mends what differs.
//!
//! Nothing is kept that grows with the number of posts, and each walk rests as long as it works.

mod counts;
mod report;

use std::{collections::HashSet, process::ExitCode, sync::Arc};

use views_core::{ids::PostId, partition::Partition, settings::EXIT_CONFIG};
use views_postgres::{DatabaseError, compare::Comparison};

use self::{counts::Counts, report::Report};
use super::{connect, progress_bar::ProgressBar, take_leases};
use crate::{
    cli::{SyncSettings, reconcile::Options},
    context::Context,
    daemon::synchronizer::Synchronizer,
    drain::{batch::Batch, shared::Shared},
    entry_id::EntryId,
    error::Failure,
    reconcile::{
        compare::{compare, confirm, is_suspicious},
        difference::{Difference, Kind},
        keyspace::Keyspace,
        look::{LookedAt, look},
        mend::{Policy, mend},
        outboxes,
        pending::MOST_ENTRIES,
        post_state::sets_beside,
        reconciler::Reconciler,
        throttle::Throttle,
    },
};

/// Suspicious posts that are compared together: they share the pauses between the looks.
const SUSPECTS: usize = 250;
/// Posts in one look.
const LOOK_POSTS: usize = 64;
/// Pairs of the outbox that are read at once.
const OUTBOX_PAIRS: usize = 5_000;
/// Posts of the outbox that are remembered as looked at.
const MOST_REMEMBERED: usize = 100_000;

/// A comparison on its way.
struct Run<'a> {
    context: &'a Arc<Context>,
    reconciler: Reconciler,
    policy: Option<Policy>,
    report: Report,
    suspects: Vec<PostId>,
    /// Whether anything is pending of a suspicious post.
    pends: bool,
    /// Posts whose pairs in the outbox have nothing else in Redis, or no post.
    orphans: HashSet<PostId>,
}

/// Compares, and mends where that is wanted.
///
/// # Errors
/// When a store is away.
pub async fn run(settings: SyncSettings, options: Options) -> anyhow::Result<ExitCode> {
    let Some(context) = connect(&settings, "Reconcile failed: a store is away").await? else {
        return Ok(ExitCode::from(EXIT_CONFIG));
    };
    let comparison = match Comparison::begin(&context.database).await {
        Ok(comparison) => comparison,
        Err(DatabaseError::Setup(text)) => {
            tracing::error!("{text}");
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
        Err(error) => return Err(error.into()),
    };
    let policy = match (options.repair, options.restore) {
        (false, _) => None,
        (true, false) => Some(Policy::Ledger),
        (true, true) => Some(Policy::Restore),
    };
    let report = Report::new(options.json, policy.is_some());
    let mut run = Run {
        context: &context,
        reconciler: Reconciler::new(&context, &Shared::new(&context)),
        policy,
        report,
        suspects: Vec::new(),
        pends: false,
        orphans: HashSet::new(),
    };
    match run.go(comparison, options.post).await {
        Ok(true) => run.report.finish(),
        Ok(false) => {
            tracing::error!("there is no such post, neither in Redis nor in PostgreSQL");
            Ok(ExitCode::FAILURE)
        }
        Err(failure @ (Failure::Foreign(_) | Failure::Database(DatabaseError::Setup(_)))) => {
            tracing::error!("{failure}");
            Ok(ExitCode::from(EXIT_CONFIG))
        }
        Err(failure) => {
            Err(anyhow::Error::from(failure).context("not everything is compared: what is mended stays so, run this again"))
        }
    }
}

impl Run<'_> {
    /// Compares everything, or one post. Returns whether there was anything to compare.
    async fn go(&mut self, mut comparison: Comparison<'_>, post: Option<PostId>) -> Result<bool, Failure> {
        // Counts of a standby may be old.
        self.context.database.ping().await?;
        let is_there = match post {
            Some(post) => self.one(&comparison, post).await?,
            None => {
                self.all_counts(&mut comparison).await?;
                self.outboxes().await?;
                self.all_keys().await?;
                true
            }
        };
        self.drain_orphans().await?;
        Ok(is_there)
    }

    async fn one(&mut self, comparison: &Comparison<'_>, post: PostId) -> Result<bool, Failure> {
        let found = comparison.one(&post).await?;
        self.report.database_posts = found.posts;
        Counts { comparison, reconciler: &mut self.reconciler, repairs: self.policy.is_some() }
            .take(found.different, &mut self.report)
            .await?;
        let looked_at = look(&mut self.reconciler.session, &[post], &mut self.report.seen.unreadable).await?;
        let seen = looked_at.get(&post);
        self.report.redis_posts = u64::from(seen.is_some_and(LookedAt::is_known));
        let partitions: Vec<Partition> = outboxes::partitions_of(&self.context.keys, &post).collect();
        let length: i64 = outboxes::lengths(&mut self.reconciler.session, &partitions).await?.into_values().sum();
        if length > 0 || seen.is_some_and(is_suspicious) {
            self.suspects.push(post);
            self.pends = length > 0;
            self.compare_suspects().await?;
        }
        Ok(self.report.database_posts + self.report.redis_posts > 0 || self.report.found() > 0)
    }

    /// Goes through all posts in PostgreSQL.
    async fn all_counts(&mut self, comparison: &mut Comparison<'_>) -> Result<(), Failure> {
        let bar = ProgressBar::new("posts in PostgreSQL", comparison.recount.estimated_posts());
        let mut throttle = Throttle::new();
        while let Some(found) = comparison.next().await? {
            self.report.database_posts += found.posts;
            if !found.different.is_empty() {
                Counts { comparison: &*comparison, reconciler: &mut self.reconciler, repairs: self.policy.is_some() }
                    .take(found.different, &mut self.report)
                    .await?;
            }
            bar.add(found.posts);
            self.context.checkpoint()?;
            throttle.rest().await;
        }
        Ok(())
    }

    /// Goes through all posts in Redis.
    async fn all_keys(&mut self) -> Result<(), Failure> {
        let bar = ProgressBar::new("posts in Redis", 0);
        let (mut keyspace, mut throttle) = (Keyspace::new(self.context.keys.clone()), Throttle::new());
        while let Some(page) = keyspace.next_page(&mut self.reconciler.session, &mut throttle, None).await? {
            let alone = sets_beside(&mut self.reconciler.session, &page.hashes).await?.missing;
            throttle.rest().await;
            for posts in [page.sets, alone] {
                self.report.redis_posts += posts.len() as u64;
                self.look_at(&posts, |_| true).await?;
                bar.add(posts.len() as u64);
                throttle.rest().await;
            }
            if self.suspects.len() >= SUSPECTS {
                self.compare_suspects().await?;
                throttle.restart();
            }
        }
        self.compare_suspects().await?;
        for failure in keyspace.failures() {
            self.report.seen.unreadable += 1;
            tracing::warn!("posts of a part of Redis cannot be read: {failure}");
        }
        keyspace.log_misnamed();
        Ok(())
    }

    /// Goes through the outboxes for pairs of posts of which Redis has nothing else, or that are gone.
    async fn outboxes(&mut self) -> Result<(), Failure> {
        let newest = outboxes::newest(&mut self.reconciler.session).await?;
        let partitions: Vec<Partition> = newest.keys().copied().collect();
        let lengths = outboxes::lengths(&mut self.reconciler.session, &partitions).await?;
        for (partition, newest) in newest {
            let length = lengths.get(&partition).copied().unwrap_or(0);
            if length > MOST_ENTRIES {
                tracing::warn!(entries = length, "the outbox is too long to be compared: what is in it is left out");
            } else {
                self.outbox(partition, newest).await?;
            }
        }
        Ok(())
    }

    /// Goes through the outbox of a partition.
    async fn outbox(&mut self, partition: Partition, newest: EntryId) -> Result<(), Failure> {
        let mut remembered = HashSet::new();
        let mut throttle = Throttle::new();
        // In a cluster, it is another node's than what was asked last.
        let connection = if self.context.redis.is_clustered() { 0 } else { self.reconciler.session.redis.number() };
        let mut batch = Batch::over(connection);
        loop {
            batch.read_on(&mut self.reconciler.session, partition, OUTBOX_PAIRS).await?;
            self.report.outbox_pairs += batch.size as u64;
            let posts: Vec<PostId> = batch.pairs.posts().iter().filter(|post| remembered.insert(**post)).copied().collect();
            if remembered.len() >= MOST_REMEMBERED {
                remembered.clear();
            }
            for chunk in posts.chunks(LOOK_POSTS) {
                self.look_at(chunk, |seen| seen.stored.is_none() || !seen.has_meta).await?;
                throttle.rest().await;
            }
            if batch.is_at_end || batch.read_to.is_none_or(|read_to| read_to >= newest) {
                return Ok(());
            }
            batch = batch.behind();
        }
    }

    /// Looks at posts for the first time, and notes those that are suspicious and `wanted`.
    async fn look_at(&mut self, posts: &[PostId], wanted: impl Fn(&LookedAt) -> bool) -> Result<(), Failure> {
        if posts.is_empty() {
            return Ok(());
        }
        let looked_at = look(&mut self.reconciler.session, posts, &mut self.report.seen.unreadable).await?;
        for (post, seen) in looked_at {
            // Of a post that has expired, or that only the outbox knows, there is nothing else to be compared.
            if wanted(&seen) && (is_suspicious(&seen) || !seen.is_known()) {
                self.pends |= seen.pending() != 0 || !seen.has_meta;
                self.suspects.push(post);
            }
        }
        Ok(())
    }

    /// Looks again at the suspicious posts, and mends what differs still.
    async fn compare_suspects(&mut self) -> Result<(), Failure> {
        let mut suspects = std::mem::take(&mut self.suspects);
        suspects.sort_unstable();
        suspects.dedup();
        let pends = std::mem::take(&mut self.pends);
        for chunk in suspects.chunks(SUSPECTS) {
            let mut found = confirm(&mut self.reconciler.session, chunk, &mut self.report.seen, pends).await?;
            let orphaned = found.differences.extract_if(.., |difference| difference.kind == Kind::OrphanedPair);
            let orphaned: Vec<Difference> = orphaned.collect();
            self.orphans.extend(orphaned.iter().filter_map(|difference| PostId::parse(&difference.post).ok()));
            match self.policy {
                None => {
                    self.report.add_all(found.differences.into_iter().chain(orphaned), |_| false);
                }
                Some(policy) => {
                    // Those of the outbox are told when they are seen to.
                    let differences = found.differences.clone();
                    let left =
                        if differences.is_empty() { Vec::new() } else { mend(&mut self.reconciler, found, policy).await? };
                    let is_left = |found: &Difference| left.iter().any(|left| left.post == found.post);
                    self.report.add_all(differences.into_iter(), |difference| !is_left(difference));
                }
            }
            self.context.checkpoint()?;
        }
        Ok(())
    }

    /// Has the pairs drained that nothing else in Redis belongs to: they go into the ledger or, where their post is gone,
    /// to the dead letters.
    async fn drain_orphans(&mut self) -> Result<(), Failure> {
        if self.orphans.is_empty() || self.policy.is_none() {
            return Ok(());
        }
        let posts: Vec<PostId> = self.orphans.drain().collect();
        let of_outbox = |difference: &Difference| difference.kind == Kind::OrphanedPair;
        let leases = take_leases(self.context).await;
        for chunk in posts.chunks(SUSPECTS) {
            let before = compare(&mut self.reconciler.session, chunk).await?;
            let mut synchronizer = Synchronizer::new(self.context);
            synchronizer.set_leases(leases.clone());
            synchronizer.drain_or_await_leader().await?;
            let after = compare(&mut self.reconciler.session, chunk).await?;
            let left: HashSet<String> =
                after.differences.into_iter().filter(of_outbox).map(|difference| difference.post).collect();
            let found = before.differences.into_iter().filter(of_outbox);
            self.report.add_all(found, |difference| !left.contains(&difference.post));
        }
        Ok(())
    }
}
