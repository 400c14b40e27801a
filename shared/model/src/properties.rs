//! What must hold whatever happens, and what must be reachable for that to mean anything.

use stateright::Property;

use crate::{redis::Meta, setup::Setup, viewers::Viewers, world::World};

/// An answered view is stored.
pub const ACKNOWLEDGED: &str = "every acknowledged view is in the ledger or in the outbox";
/// The set does not lie.
pub const SET: &str = "everybody in the set is in the ledger or in the outbox";
/// Nothing is invented.
pub const ATTEMPTED: &str = "the ledger holds only views that somebody sent";
/// The count is right.
pub const COUNT: &str = "the count is the number of the ledger's rows";
/// Nobody counts double.
pub const ONCE: &str = "nobody is counted twice";
/// Rest brings everything into order.
pub const REST: &str =
    "at rest, after a cycle, the live count is that of PostgreSQL and every acknowledged view is in the ledger";
/// Rest brings even a hash into order that the scan, which goes from set to set, does not come across.
pub const LONE: &str = "at rest, after a cycle, the live count of a post without a set is that of PostgreSQL";
/// The cap works.
pub const CAP: &str = "acked never passes recorded, unless the scan is correcting them";
/// The acknowledgement is exact.
pub const CALM: &str = "without mishaps to view-ingest or the keys, the count is true as soon as the outbox is empty";
/// Everything can be drained.
pub const ALL_DRAINED: &str = "everybody has been acknowledged and is in the ledger, and the outbox is empty";
/// Everybody has asked as often as he may.
pub const ALL_SENT: &str = "all requests have been sent, and nobody is in the middle of anything";

/// All of them.
pub(crate) fn all() -> Vec<Property<Setup>> {
    vec![
        Property::always(ACKNOWLEDGED, |_, world: &World| world.acknowledged.all_in(world.stored())),
        Property::always(SET, |_, world: &World| world.redis.set.all_in(world.stored())),
        Property::always(ATTEMPTED, |_, world: &World| world.postgres.ledger.all_in(world.attempted)),
        Property::always(COUNT, |_, world: &World| world.postgres.count() == world.postgres.ledger.len()),
        Property::always(ONCE, |_, world: &World| world.postgres.counted.iter().all(|times| *times <= 1)),
        Property::always(REST, |setup, world: &World| !world.is_at_rest() || world.settles(setup)),
        Property::always(LONE, |setup, world: &World| !world.is_at_rest() || world.settles_alone(setup)),
        Property::always(CAP, |setup: &Setup, world: &World| {
            setup.scans > 0 || world.redis.meta.is_none_or(|meta| meta.acked <= meta.recorded)
        }),
        Property::always(CALM, |setup: &Setup, world: &World| !setup.is_calm() || world.is_exact()),
        Property::sometimes(ALL_DRAINED, |setup: &Setup, world: &World| {
            let everybody = setup.requests.iter().filter(|requests| **requests > 0).count();
            world.acknowledged.len() as usize == everybody
                && world.acknowledged.all_in(world.postgres.ledger)
                && world.redis.outbox.is_empty()
        }),
        Property::sometimes(ALL_SENT, |_, world: &World| world.left.requests.iter().all(|left| *left == 0) && world.is_at_rest()),
    ]
}

impl World {
    /// Whoever is in the ledger or in the outbox.
    fn stored(&self) -> Viewers {
        self.postgres.ledger.with(self.redis.waiting())
    }

    /// Whether one cycle puts everything right that has a set.
    fn settles(&self, setup: &Setup) -> bool {
        let settled = self.after_a_cycle(setup);
        let redis = &settled.redis;
        let in_order = |meta: Meta| {
            meta.live() == settled.postgres.count() && meta.acked == meta.recorded && redis.set.len() == meta.recorded
        };
        redis.outbox.is_empty()
            && settled.acknowledged.all_in(settled.postgres.ledger)
            && (redis.set.is_empty() || redis.meta.is_some_and(in_order))
    }

    /// Whether one cycle puts a hash right that has no set. One that is not there is made from PostgreSQL when somebody asks for it.
    fn settles_alone(&self, setup: &Setup) -> bool {
        let settled = self.after_a_cycle(setup);
        let count = settled.postgres.count();
        !settled.redis.set.is_empty() || settled.redis.meta.is_none_or(|meta| !meta.author || meta.live() == count)
    }

    /// Whether the hash agrees with the other keys without any scan: at rest with an empty outbox `persisted` is the count, and what is waiting
    /// is never counted too low.
    fn is_exact(&self) -> bool {
        let Some(meta) = &self.redis.meta else { return true };
        let waiting = self.redis.outbox.len() as i8;
        let at_rest = self.is_at_rest() && waiting == 0;
        (!at_rest || meta.persisted == Some(self.postgres.count()))
            && (self.is_recording() || meta.recorded - meta.acked >= waiting)
    }
}
