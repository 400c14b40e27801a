//! The scan: all posts in Redis, page by page.
//!
//! A post that nothing has happened to costs Redis its share of the keyspace and four reads, PostgreSQL a look at an
//! index, and neither of them a write. Nothing that is kept grows with the number of posts, and no step keeps a store
//! busy for long.

use std::time::Instant;

use views_core::ids::PostId;

use super::{
    adjust::set_missing_ttl,
    drains::Drains,
    import_set::import_sets,
    keyspace::Keyspace,
    post_state::{read_states, sets_beside},
    posts::reconcile,
    rebuild_set::rebuild_sets,
    reconciler::Reconciler,
    report::ScanReport,
    throttle::Throttle,
    turn,
};
use crate::error::Failure;

/// Sets that are imported into PostgreSQL together: one commit for many. As many others may wait to be compared with
/// the ledger.
const IMPORTED_POSTS: usize = 500;

/// Scans everything. When it fails, what has been done so far stays done.
pub(crate) async fn scan(reconciler: &mut Reconciler, drains: &mut impl Drains) -> Result<ScanReport, Failure> {
    let started = Instant::now();
    let mut report = ScanReport::default();
    // Counts of a standby may be old, and would be written over younger ones.
    reconciler.context().database.ping().await?;
    reconciler.session.check_owner().await?;
    let (mut keyspace, mut throttle) = (Keyspace::new(reconciler.context().keys.clone()), Throttle::new());
    loop {
        // What this process drains may change meanwhile.
        let wanted = reconciler.context().keys.partitions().filter(|partition| drains.covers(*partition)).collect();
        let page = keyspace.next_page(&mut reconciler.session, &mut throttle, Some(&wanted)).await?;
        let Some(page) = page else { break };
        reconcile_sets(reconciler, drains, &page.sets, &mut report).await?;
        throttle.rest().await;
        reconcile_hashes(reconciler, drains, &page.hashes, &mut report).await?;
        reconciler.context().checkpoint()?;
        throttle.rest().await;
        if report.with_foreign_members.len() >= IMPORTED_POSTS {
            import_foreign(reconciler, drains, &mut report).await?;
            throttle.restart();
        }
        if report.regressed.len() >= IMPORTED_POSTS {
            rebuild_sets(reconciler, drains, &mut report).await?;
            throttle.restart();
        }
        if turn::give(reconciler, drains).await? {
            throttle.restart();
        }
    }
    import_foreign(reconciler, drains, &mut report).await?;
    rebuild_sets(reconciler, drains, &mut report).await?;
    for failure in keyspace.failures() {
        report.errors += 1;
        report.unseen.push(failure.to_owned());
        tracing::warn!("posts of a part of Redis cannot be synchronized: {failure}");
    }
    keyspace.log_misnamed();
    if report.imported > 0 {
        tracing::info!(posts = report.imported, "united sets with PostgreSQL that others than view-ingest had written");
    }
    let metrics = &reconciler.context().metrics;
    metrics.scans.inc();
    metrics.scan_seconds.observe(started.elapsed().as_secs_f64());
    Ok(report)
}

/// Brings the posts into order that have a set.
async fn reconcile_sets(
    reconciler: &mut Reconciler,
    drains: &mut impl Drains,
    posts: &[PostId],
    report: &mut ScanReport,
) -> Result<(), Failure> {
    let errors_before = report.errors;
    let mut states = read_states(&mut reconciler.session, posts, report).await?;
    // A set that has expired meanwhile is none of our business.
    states.retain(|_, state| state.members > 0);
    let found = states.len() as u64 + (report.errors - errors_before);
    report.found += found;
    reconciler.context().metrics.posts_scanned.inc_by(found);
    reconcile(reconciler, drains, states, report).await
}

/// Brings those hashes into order that have no set beside them: of posts that were only read, or whose set is gone.
/// Their counts are served like any other. They are not among the posts with views that a cycle reports.
///
/// A hash with a set is brought into order where the scan meets the set, before this or after. So every hash is seen
/// whose set is there all the time or never; one whose set is taken away by hand in between has its turn with the next
/// scan. (When they expire, they do so together.) The other way round, from hash to set, a first touch in between could
/// hide what others have written to a set.
async fn reconcile_hashes(
    reconciler: &mut Reconciler,
    drains: &mut impl Drains,
    posts: &[PostId],
    report: &mut ScanReport,
) -> Result<(), Failure> {
    let sets = sets_beside(&mut reconciler.session, posts).await?;
    set_missing_ttl(&mut reconciler.session, &sets.without_ttl, report).await?;
    let mut states = read_states(&mut reconciler.session, &sets.missing, report).await?;
    states.retain(|_, state| state.members == 0 && state.has_meta);
    let mut aside = ScanReport::default();
    reconcile(reconciler, drains, states, &mut aside).await?;
    import_foreign(reconciler, drains, &mut aside).await?;
    report.take_over(aside);
    Ok(())
}

/// Imports the sets that wait for it. Their state is read anew: by now, what has been read of them is old.
async fn import_foreign(reconciler: &mut Reconciler, drains: &mut impl Drains, report: &mut ScanReport) -> Result<(), Failure> {
    let posts = std::mem::take(&mut report.with_foreign_members);
    let mut states = read_states(&mut reconciler.session, &posts, report).await?;
    // Of a post that has expired, nothing is brought back to life.
    states.retain(|_, state| state.members > 0 || state.has_meta);
    import_sets(reconciler, drains, states.into_iter().collect(), report).await
}
