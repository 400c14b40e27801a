//! Bringing up to date what Redis knows of posts: counts and authors that PostgreSQL has otherwise, and times to live.

use std::collections::HashMap;

use views_core::ids::PostId;
use views_postgres::ledger::{CachedPost, Difference};
use views_redis::scripts::Adjustment;

use super::{adjust::adjust, drains::Drains, post_state::PostState, report::ScanReport};
use crate::{error::Failure, owned_session::OwnedSession};

/// Writes what PostgreSQL has otherwise, and a time to live where there is none. A post that is in order costs no
/// command. `cached_posts` are what Redis had before PostgreSQL was asked.
pub(crate) async fn refresh(
    session: &mut OwnedSession,
    drains: &mut impl Drains,
    states: &HashMap<PostId, PostState>,
    differences: &HashMap<PostId, Difference>,
    cached_posts: &HashMap<PostId, CachedPost>,
    report: &mut ScanReport,
) -> Result<(), Failure> {
    let mut adjustments = Vec::new();
    for (post, state) in states {
        let mut adjustment = Adjustment::of(*post);
        if let Some(cached) = cached_posts.get(post)
            && let Some(Difference::Exists { views, author }) = differences.get(post).filter(|_| state.has_meta)
        {
            // Some pairs of a post that is deferred may be stored, and are not acknowledged.
            adjustment.views = (state.persisted != Some(*views) && !drains.defers(post)).then_some(*views);
            adjustment.known = cached.views;
            adjustment.author = (cached.author != *author).then(|| [cached.author.clone(), author.clone()]);
        }
        let differences = &session.context.metrics.differences;
        let found = [
            (adjustment.views.is_some(), &differences.count),
            (adjustment.author.is_some(), &differences.author),
            (state.without_ttl, &differences.ttl),
        ];
        for (_, counter) in found.iter().filter(|(is_found, _)| *is_found) {
            counter.inc();
        }
        if found.iter().any(|(is_found, _)| *is_found) {
            adjustments.push(adjustment);
        }
    }
    // Where another process drains, too, PostgreSQL may have what that one has not acknowledged yet.
    if adjustments.iter().any(|adjustment| adjustment.views.is_some()) {
        let alone = drains.alone().await?;
        for adjustment in &mut adjustments {
            adjustment.is_quiet = !alone.contains(&session.context.keys.partition(&adjustment.post));
        }
    }
    let failed = adjust(session, &adjustments, report).await?;
    let in_order = states.iter().filter(|(post, state)| !state.has_foreign_members() && !failed.contains(*post)).count();
    report.successful += in_order as u64;
    Ok(())
}
