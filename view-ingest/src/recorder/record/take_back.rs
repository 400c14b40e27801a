//! Undoing what the sets took although the outbox did not.

use fred::{
    interfaces::{HashesInterface, SetsInterface},
    types::Value,
};
use shared::{
    ids::{PostId, ViewerId},
    keys::{self, field},
};

use super::{Group, Reply, Stores, counts_the_set};

/// Takes viewers out of the sets again whom Redis has put there although the outbox did not take them (it may be full, or of a wrong
/// type, while a set is not). Otherwise their next try would be called a duplicate of a view that nobody ever stores.
///
/// `replies` are those that follow the outbox's.
pub(super) async fn run(
    stores: &Stores,
    groups: &[Group],
    pairs: &[(PostId, ViewerId)],
    mut replies: impl Iterator<Item = Reply>,
) {
    let pipeline = stores.redis.pipeline();
    let mut queued = false;
    for group in groups.iter().filter(|group| group.recorded.is_some()) {
        if !group.new.is_empty() {
            // The replies to SADD, EXPIRE, HINCRBY, EXPIRE.
            let [added, _, recorded, _] = [(); 4].map(|()| replies.next());
            let viewers: Vec<&str> = pairs[group.new.clone()].iter().map(|(_, viewer)| viewer.as_str()).collect();
            let number = viewers.len() as i64;
            if added.is_some_and(|reply| reply.is_ok_and(|added| added.as_i64().unwrap_or(0) > 0)) {
                queued |= pipeline.srem::<(), _, _>(keys::views(&group.post), viewers).await.is_ok();
            }
            if recorded.is_some_and(|reply| reply.is_ok()) {
                queued |= pipeline.hincrby::<(), _, _>(keys::meta(&group.post), field::RECORDED, -number).await.is_ok();
            }
        }
        if counts_the_set(group) {
            let _ = replies.next();
        }
    }
    if queued && let Some(error) = pipeline.try_all::<Value>().await.into_iter().find_map(Result::err) {
        tracing::error!(%error, "sets keep viewers whom the outbox does not have");
    }
}
