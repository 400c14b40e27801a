//! Recording cut short, and recording done wrong: only for proofs (see [`shared::failpoints`]).

use fred::{error::Error, interfaces::SetsInterface, types::Value};
use shared::{
    failpoints,
    ids::{PostId, ViewerId},
    keys,
};

use super::{Group, Reply, Stores, queue_posts, send_outbox};

/// Dies on the way, or sends things in the wrong order, if either is wanted. Gives nothing where all is to be as it should.
pub(super) async fn exchange(
    stores: &Stores,
    groups: &[Group],
    pairs: &[(PostId, ViewerId)],
) -> Result<Option<Vec<Reply>>, Error> {
    if failpoints::is_broken(failpoints::SET_BEFORE_OUTBOX) {
        let sets = stores.redis.pipeline();
        queue_posts(&sets, groups, pairs, stores.view_ttl).await?;
        let sets = sets.try_all::<Value>().await;
        failpoints::at("record::between");
        send_outbox(stores, pairs).await?;
        return Ok(Some(sets));
    }
    if failpoints::hit("record::between") {
        let _ = send_outbox(stores, pairs).await;
        failpoints::abort("record::between");
    }
    if failpoints::hit("record::before_count") {
        send_outbox(stores, pairs).await?;
        let pipeline = stores.redis.pipeline();
        for (post, viewer) in pairs {
            let () = pipeline.sadd(keys::views(post), viewer.as_str()).await?;
        }
        let _ = pipeline.try_all::<Value>().await;
        failpoints::abort("record::before_count");
    }
    Ok(None)
}
