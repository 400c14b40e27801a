//! Repairing drifts: `recorded` less `acked` must be the number of a post's pairs in the outbox that are not
//! acknowledged, but for those that are known to be repeated. Where a hash has expired at the wrong moment, or an
//! increment was lost or repeated, it is not, and the live count is wrong for good.
//!
//! view-ingest writes the outbox first and the hash a moment later; so a drift counts only when it is the same in two
//! looks at both, with a step of the drains in between. Should chance have deceived both, the next scan repairs
//! what this one has spoilt.

use std::collections::{HashMap, HashSet};

use views_core::{failpoints, ids::PostId, log_names};
use views_postgres::ledger;
use views_redis::scripts::Adjustment;

use super::{
    adjust::adjust,
    drains::Drains,
    import_set::import_sets,
    post_state::read_states,
    reconciler::Reconciler,
    report::ScanReport,
    snapshot::{LOOK_POSTS, drifts},
};
use crate::error::Failure;

/// Repairs the drifts among these posts. Where an outbox is too long to be read at once, the next cycle does it.
pub(crate) async fn repair(reconciler: &mut Reconciler, drains: &mut impl Drains, posts: HashSet<PostId>) -> Result<(), Failure> {
    if posts.is_empty() {
        return Ok(());
    }
    reconciler.session.check_owner().await?;
    let posts: Vec<PostId> = posts.into_iter().collect();
    let mut first = drifts(&mut reconciler.session, &posts).await?;
    first.retain(|_, drift| *drift != 0);
    if first.is_empty() {
        return Ok(());
    }
    drains.step().await?;
    let suspects: Vec<PostId> = first.keys().copied().collect();
    let second = drifts(&mut reconciler.session, &suspects).await?;
    let drifted: Vec<(PostId, i64)> = second.into_iter().filter(|(post, drift)| first.get(post) == Some(drift)).collect();
    reconciler.context().metrics.drifts_found.inc_by(drifted.len() as u64);
    let mut counts = recover(reconciler, drains, &drifted).await?;
    failpoints::at("repair::before");
    let adjustment = |(post, drift): &(PostId, i64)| {
        let (known, views) = counts.remove(post).unzip();
        // With nothing in the outbox, as is now known, the count in PostgreSQL is the live one.
        Adjustment { acked: *drift, known: known.flatten(), views, is_quiet: true, ..Adjustment::of(*post) }
    };
    let adjustments: Vec<Adjustment> = drifted.iter().map(adjustment).collect();
    let failed = adjust(&mut reconciler.session, &adjustments, &mut ScanReport::default()).await?;
    for (post, drift) in drifted.iter().filter(|(post, _)| !failed.contains(post)) {
        reconciler.context().metrics.drifts.inc();
        tracing::info!(name: log_names::EXAMPLE, %post, drift, "repaired a count that had drifted from the outbox");
    }
    Ok(())
}

/// Imports the sets into the ledger of posts of which more was recorded than the outbox ever had: the set may hold
/// viewers whose entry is lost, and whom view-ingest would call duplicates for as long as the set lives. Done before
/// the drift is repaired, which hides it. Returns the counts that Redis had of them and that PostgreSQL has.
async fn recover(
    reconciler: &mut Reconciler,
    drains: &mut impl Drains,
    drifted: &[(PostId, i64)],
) -> Result<HashMap<PostId, (Option<i64>, i64)>, Failure> {
    let posts: Vec<PostId> = drifted.iter().filter(|(_, drift)| *drift > 0).map(|(post, _)| *post).collect();
    let mut counts = HashMap::new();
    for chunk in posts.chunks(LOOK_POSTS) {
        // What cannot be imported is logged there, and has its turn again when it drifts again.
        let mut report = ScanReport::default();
        let states = read_states(&mut reconciler.session, chunk, &mut report).await?;
        import_sets(reconciler, drains, states.clone().into_iter().collect(), &mut report).await?;
        let stored = ledger::counts(&reconciler.context().database, chunk).await?;
        counts.extend(stored.into_iter().filter_map(|(post, views)| Some((post, (states.get(&post)?.persisted, views)))));
    }
    Ok(counts)
}
