//! How far the numbers of posts have drifted from the outbox, read in one transaction, so that no acknowledgement falls
//! in between.

use std::collections::HashMap;

use views_core::{ids::PostId, partition::Partition};
use views_redis::{
    post_meta::{self, Field, PostMeta},
    resp::{Commands, Replies, Reply},
};

use crate::{
    drain::{acknowledge::is_young, batch::Batch, outbox},
    entry_id::EntryId,
    error::{Failure, refusal},
    owned_session::OwnedSession,
};

/// What is asked of a hash.
const FIELDS: [Field; 4] = [Field::Recorded, Field::Acked, Field::Repeated, Field::Settled];
/// A longer outbox is not read whole in one command.
const MAX_ENTRIES: usize = 100;
/// Posts in one snapshot.
pub(crate) const SNAPSHOT_POSTS: usize = 250;

/// Returns the posts whose hashes disagree with the outbox, and by how much; nothing where the outbox is too long.
pub(crate) async fn drifts(session: &mut OwnedSession, posts: &[PostId]) -> Result<Option<HashMap<PostId, i64>>, Failure> {
    let mut drifts = HashMap::new();
    for chunk in posts.chunks(SNAPSHOT_POSTS) {
        // The transaction reads one entry more than is allowed, but a long outbox is better not read at all.
        if outbox::length(&session.context, Partition::WHOLE).await? > MAX_ENTRIES as i64
            || !snapshot(session, chunk, &mut drifts).await?
        {
            return Ok(None);
        }
        session.context.checkpoint()?;
    }
    Ok(Some(drifts))
}

/// Adds the drifts of some posts. Returns whether the outbox was short enough.
async fn snapshot(session: &mut OwnedSession, posts: &[PostId], drifts: &mut HashMap<PostId, i64>) -> Result<bool, Failure> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let keys = &session.context.keys;
    commands.command("MULTI", 0);
    commands.command("XRANGE", 5).text(keys.outbox()).text("-").text("+").text("COUNT").number(MAX_ENTRIES as i64 + 1);
    for post in posts {
        post_meta::ask(&mut commands, keys, post, &FIELDS);
    }
    commands.command("EXEC", 0);
    session.redis.exchange(&commands, &mut replies).await?;
    let mut snapshot = match replies.iter().last() {
        Some(Reply::List(snapshot)) => snapshot.iter(),
        other => return Err(refusal(other).into()),
    };
    let mut waiting = Batch::default();
    match snapshot.next() {
        Some(Reply::List(page)) if page.len() <= MAX_ENTRIES => waiting.take(page),
        Some(Reply::List(_)) => return Ok(false),
        other => return Err(refusal(other).into()),
    }
    for (post, meta) in posts.iter().zip(snapshot) {
        match PostMeta::read(meta, &FIELDS) {
            Ok(meta) => drifts.extend(drift(post, &meta, &waiting).map(|drift| (*post, drift))),
            Err(error) => tracing::debug!(%post, %error, "a snapshot met a key of another type"),
        }
    }
    Ok(true)
}

/// Returns how far the numbers of a post have drifted from the outbox, if they have.
fn drift(post: &PostId, meta: &PostMeta<'_>, waiting: &Batch) -> Option<i64> {
    // A hash that has expired has no drift.
    if !meta.exists {
        return None;
    }
    let PostMeta { recorded, acked, repeated, settled, .. } = *meta;
    let acknowledged = settled.and_then(|id| id.parse().ok()).unwrap_or(EntryId::FIRST);
    let place = waiting.pairs.posts().get_index_of(post).and_then(|place| u32::try_from(place).ok());
    let span = place.and_then(|place| waiting.entries.span_behind(place, acknowledged));
    let pairs = span.map_or(0, |span| i64::try_from(span.pairs).unwrap_or(i64::MAX));
    // `repeated` may be left over from an entry that was acknowledged while there was no hash.
    let drift = recorded + repeated.min(pairs) - acked - pairs;
    // The increment of a young entry may be on its way.
    (drift > 0 || (drift < 0 && span.is_none_or(|span| !is_young(span.last)))).then_some(drift)
}
