//! Correcting what Redis has of posts, by a script that writes a count only over the one that was there when PostgreSQL
//! was asked.

use std::collections::HashSet;

use views_core::{failpoints, ids::PostId};
use views_redis::{
    resp::{Commands, Replies, Reply},
    scripts::{self, Adjustment},
};

use super::{post_state::try_read_states, report::ScanReport};
use crate::{
    error::{Failure, refusal},
    owned_session::OwnedSession,
};

/// Posts in one script, which takes Redis a fraction of a millisecond.
const SCRIPT_POSTS: usize = 10;

/// Corrects posts. Returns those that could not be, for what their keys hold.
pub(crate) async fn adjust(
    session: &mut OwnedSession,
    adjustments: &[Adjustment],
    report: &mut ScanReport,
) -> Result<HashSet<PostId>, Failure> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let mut failed = HashSet::new();
    for chunk in adjustments.chunks(SCRIPT_POSTS) {
        commands.clear();
        scripts::adjust(&mut commands, &session.context.keys, chunk);
        session.exchange_owned(&commands, &mut replies).await?;
        failpoints::at("adjust::after");
        let keys = &session.context.keys;
        for (adjustment, reply) in chunk.iter().zip(scripts::replies_about(keys, chunk, &replies)) {
            if matches!(reply, Reply::Error(_)) {
                report.fail(&adjustment.post, &refusal(Some(reply)));
                failed.insert(adjustment.post);
            }
        }
    }
    Ok(failed)
}

/// Gives those of the sets their time to live that have none. What is no set is left alone: it is the error of its own post.
pub(crate) async fn set_missing_ttl(
    session: &mut OwnedSession,
    posts: &[PostId],
    report: &mut ScanReport,
) -> Result<(), Failure> {
    let states = try_read_states(session, posts).await?;
    let sets = states.into_iter().filter(|(_, state)| state.as_ref().is_ok_and(|state| state.members > 0));
    let adjustments: Vec<Adjustment> = sets.map(|(post, _)| Adjustment::of(post)).collect();
    session.context.metrics.differences.ttl.inc_by(adjustments.len() as u64);
    adjust(session, &adjustments, report).await.map(drop)
}
