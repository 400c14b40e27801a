//! The slots of a cluster: whether each has a primary, and none is half moved.

use super::check::Checks;
use crate::{commands::look::Look, context::half_moved};

pub(super) async fn check(look: &Look, checks: &mut Checks) {
    if look.redis.is_err() || !look.context.redis.is_clustered() {
        return;
    }
    let without_primary = look.context.redis.slots_without_primary();
    if without_primary > 0 {
        checks.fail(
            "redis-slots",
            format!(
                "{without_primary} slots have no primary, so that their views are not taken: start it, or run \
                 `redis-cli --cluster fix HOST:PORT` where it is lost for good"
            ),
        );
    }
    match half_moved::in_words(&look.half_moved_slots().await) {
        Some(text) => checks.warn("redis-slots", text),
        None if without_primary == 0 => checks.ok("redis-slots", "all of them have a primary, and none is half moved"),
        None => {}
    }
}
