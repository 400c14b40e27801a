//! Making the live counts of posts right at once, whatever is pending: when viewers have come past Redis, of whom some
//! may be in the outbox, and some in the set already.
//!
//! The live count is to be PostgreSQL's count and those in the outbox whom the ledger lacks. Both are known of one
//! moment, and what Redis has of the post is written over only as long as nothing has been acknowledged since. What was
//! recorded since counts on top of it.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use views_core::ids::{PostId, ViewerId};
use views_postgres::ledger;
use views_redis::{
    post_meta::{self, Field, PostMeta},
    resp::{Commands, Replies},
    scripts::Adjustment,
};

use super::{
    adjust::adjust,
    outboxes::{self, Bounds},
    post_state::{PostState, read_states},
    reconciler::Reconciler,
    report::ScanReport,
};
use crate::{entry_id::EntryId, error::Failure, owned_session::OwnedSession};

/// Posts in one query.
const POSTS: usize = 250;
/// How much of an outbox is read to know who is on the way. Where there is more, the next scan does it.
const BOUNDS: Bounds = Bounds { entries: i64::MAX, pairs: 50_000 };
/// How long it is tried while others change the same posts. After that, the next scan does it.
const PATIENCE: Duration = Duration::from_millis(300);
/// The pause before it is tried again: an entry whose post's hash is yet to be written is on its way for less.
const PAUSE: Duration = Duration::from_millis(20);

/// Writes the counts of posts that Redis knows.
pub(crate) async fn write_live_counts(reconciler: &mut Reconciler, posts: Vec<PostId>) -> Result<(), Failure> {
    for chunk in posts.chunks(POSTS) {
        let until = Instant::now() + PATIENCE;
        let mut open = chunk.to_vec();
        loop {
            open = write_once(reconciler, &open).await?;
            if open.is_empty() || Instant::now() >= until {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Writes what can be written now. Returns the posts that are to be looked at again.
async fn write_once(reconciler: &mut Reconciler, posts: &[PostId]) -> Result<Vec<PostId>, Failure> {
    let mut states = read_states(&mut reconciler.session, posts, &mut ScanReport::default()).await?;
    states.retain(|_, state| state.persisted.is_some());
    let pending = pending(&mut reconciler.session, &mut states).await?;
    let wanted: HashMap<PostId, Vec<ViewerId>> =
        states.keys().map(|post| (*post, pending.get(post).into_iter().flatten().copied().collect())).collect();
    let stored = ledger::look(&reconciler.context().database, &wanted).await?;
    let (mut adjustments, mut again) = (Vec::new(), Vec::new());
    for (post, state) in &states {
        let (Some(stored), Some(viewers)) = (stored.get(post), wanted.get(post)) else { continue };
        let unacknowledged = state.recorded - state.acked;
        if i64::try_from(viewers.len()).ok() != Some(unacknowledged) {
            // Something is on its way.
            again.push(*post);
            continue;
        }
        let missing = viewers.iter().filter(|viewer| !stored.viewers.contains(*viewer)).count();
        let views = stored.views + i64::try_from(missing).unwrap_or(0) - unacknowledged;
        if state.persisted != Some(views) {
            let count = Adjustment { known: state.persisted, views: Some(views), ..Adjustment::of(*post) };
            adjustments.push(Adjustment { acked_is: Some(state.acked), is_meant: true, ..count });
            again.push(*post);
        }
    }
    adjust(&mut reconciler.session, &adjustments, &mut ScanReport::default()).await?;
    Ok(again)
}

/// Returns who is in the outbox and not acknowledged, of the posts of which anybody is. Posts are forgotten of which that
/// cannot be told, as they are too many or cannot be read.
async fn pending(
    session: &mut OwnedSession,
    states: &mut HashMap<PostId, PostState>,
) -> Result<HashMap<PostId, HashSet<ViewerId>>, Failure> {
    let posts: Vec<PostId> = states.iter().filter(|(_, state)| state.recorded != state.acked).map(|(post, _)| *post).collect();
    if posts.is_empty() {
        return Ok(HashMap::new());
    }
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for post in &posts {
        post_meta::ask(&mut commands, &session.context.keys, post, &[Field::Settled]);
    }
    session.exchange_owned(&commands, &mut replies).await?;
    let acknowledged = |reply| PostMeta::read(reply, &[Field::Settled]).ok().and_then(|meta| meta.settled?.parse().ok());
    let froms = posts.iter().zip(replies.iter()).map(|(post, reply)| {
        let from = acknowledged(reply).map_or(EntryId::FIRST, EntryId::next);
        (*post, from)
    });
    let outboxes = outboxes::read(session, &froms.collect(), BOUNDS).await?;
    states.retain(|post, state| state.recorded == state.acked || outboxes.are_known_of(post));
    Ok(posts.iter().map(|post| (*post, outboxes.viewers_of(post))).collect())
}
