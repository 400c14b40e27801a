//! Brings posts into order: what Redis knows of them is compared with PostgreSQL in one query, and what differs is written.

use std::collections::HashMap;

use views_core::ids::PostId;
use views_postgres::ledger::{self, CachedPost, Difference};

use super::{
    drains::Drains,
    hydrate::hydrate,
    import_set::keep_members,
    post_state::{PostState, read_states},
    reconciler::Reconciler,
    refresh::refresh,
    report::ScanReport,
};
use crate::{drain::missing_posts, error::Failure};

/// Brings posts into order, but for those whose set is to be imported or rebuilt: these are noted in the report.
pub(crate) async fn reconcile(
    reconciler: &mut Reconciler,
    drains: &mut impl Drains,
    mut states: HashMap<PostId, PostState>,
    report: &mut ScanReport,
) -> Result<(), Failure> {
    if states.is_empty() {
        return Ok(());
    }
    let cached = |(post, state): (&PostId, &PostState)| CachedPost {
        post: *post,
        views: state.persisted,
        author: state.author.as_deref().unwrap_or_default().to_owned(),
    };
    let mut cached_posts: Vec<CachedPost> = states.iter().map(cached).collect();
    // In their order, PostgreSQL finds neighbours side by side.
    cached_posts.sort_unstable();
    let mut differences = ledger::compare(&reconciler.context().database, &cached_posts).await?;
    reconciler.context().progress.made();

    let missing: Vec<PostId> =
        differences.iter().filter(|(_, difference)| **difference == Difference::Missing).map(|(post, _)| *post).collect();
    remove_missing(reconciler, drains, &missing, &mut states, report).await?;

    let without_author: Vec<PostId> = states.iter().filter(|(_, state)| !state.has_author()).map(|(post, _)| *post).collect();
    hydrate(reconciler.context(), &without_author).await?;
    for post in &without_author {
        differences.remove(post);
    }
    // Those that are not as expected are read a second time: view-ingest adds to the set and to `recorded` with two
    // commands, and the first time may have fallen in between.
    let is_expected = |state: &PostState| state.has_author() && !state.has_foreign_members();
    let unexpected: Vec<PostId> = states.iter().filter(|(_, state)| !is_expected(state)).map(|(post, _)| *post).collect();
    states.retain(|_, state| is_expected(state));
    states.extend(read_states(&mut reconciler.session, &unexpected, report).await?);

    report.note_unacknowledged(states.iter().filter(|(_, state)| state.recorded != state.acked).map(|(post, _)| *post));
    let has_regressed = |(post, state): &(&PostId, &PostState)| {
        state.regressed
            || matches!(differences.get(*post), Some(Difference::Exists { views, .. }) if state.persisted.is_some_and(|known| known > *views))
    };
    report.regressed.extend(states.iter().filter(has_regressed).map(|(post, _)| *post));

    let cached_posts = cached_posts.into_iter().map(|cached| (cached.post, cached)).collect();
    refresh(&mut reconciler.session, drains, &states, &differences, &cached_posts, report).await?;
    let with_foreign_members = states.iter().filter(|(_, state)| state.has_foreign_members()).map(|(post, _)| *post);
    report.with_foreign_members.extend(with_foreign_members);
    report.with_foreign_members.retain(|post| !report.regressed.contains(post));
    Ok(())
}

/// Removes the keys of posts that do not exist. What others than view-ingest have put into their sets is kept as dead
/// letters; what view-ingest has put there is in the outbox, or was.
async fn remove_missing(
    reconciler: &mut Reconciler,
    drains: &mut impl Drains,
    missing: &[PostId],
    states: &mut HashMap<PostId, PostState>,
    report: &mut ScanReport,
) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    // A standby may only not know them yet, and another database never will.
    reconciler.context().database.ping().await?;
    reconciler.session.check_owner().await?;
    let foreign = missing.iter().filter(|post| states.get(*post).is_some_and(|state| state.members > state.recorded)).copied();
    let unread = keep_members(reconciler, drains, foreign.collect(), report).await?;
    // What could not be read is not kept yet.
    let kept: Vec<PostId> = missing.iter().filter(|post| !unread.contains(*post)).copied().collect();
    let removed = if kept.is_empty() { Ok(()) } else { missing_posts::remove(&mut reconciler.session, &kept).await };
    match removed {
        Ok(()) => report.removed += kept.len() as u64,
        // Of a node of a cluster that is away, the next scan removes them.
        Err(Failure::Redis(error)) if reconciler.context().is_of_one_post(&error) => report.fail(&missing[0], &error),
        Err(failure) => return Err(failure),
    }
    for post in missing {
        states.remove(post);
    }
    Ok(())
}
