//! What must hold whatever happens, and what must be reachable for that to mean anything.

use stateright::Property;

use crate::{
    postgres::Row,
    redis::Meta,
    setup::{Bounds, Setup},
    viewers::Viewers,
    world::{World, Wrong},
};

/// An answered view is stored, unless the application has taken it away.
pub const ACKNOWLEDGED: &str = "every acknowledged view is in the ledger, in the outbox or among the dead letters";
/// The set does not lie.
pub const SET: &str = "everybody in the set is in the ledger, in the outbox or among the dead letters";
/// Nothing is invented.
pub const ATTEMPTED: &str = "the ledger holds only views that somebody sent";
/// The count is right.
pub const COUNT: &str = "the count is the number of the ledger's rows and the base";
/// Nobody counts double.
pub const ONCE: &str = "nobody is counted twice";
/// Counts are never too high.
pub const ABOVE: &str = "no answer is above the number of viewers who have sent a view";
/// Counts are never too low.
pub const BELOW: &str = "no answer is below the number of viewers acknowledged before it was asked";
/// Who is erased stays so.
pub const FORGOTTEN: &str = "who has been erased is nowhere until he views again";
/// Rest brings everything into order.
pub const REST: &str =
    "at rest, after a cycle, the live count is that of PostgreSQL and every acknowledged view is in the ledger";
/// Rest brings even a hash into order that the scan, which goes from set to set, does not come across.
pub const LONE: &str = "at rest, after a cycle, the live count of a post without a set is that of PostgreSQL";
/// Whom PostgreSQL has lost is no duplicate for long.
pub const STRANGERS: &str = "at rest, after a cycle, the set has nobody whom the ledger lacks";
/// Nobody else is taken for lost.
pub const KEPT: &str = "who is acknowledged is in the set, unless PostgreSQL has lost him";
/// The cap works.
pub const CAP: &str = "at rest with an empty outbox, acked does not pass recorded";
/// The acknowledgement is exact.
pub const CALM: &str = "without mishaps to view-ingest or the keys, the count is true as soon as the outbox is empty";
/// Everything can be drained.
pub const ALL_DRAINED: &str = "everybody has been acknowledged and is in the ledger, and the outbox is empty";
/// Everybody has asked as often as he may.
pub const ALL_SENT: &str = "all requests have been sent, and nobody is in the middle of anything";

type Condition = fn(&Setup, &World) -> bool;

/// What must hold in every state.
pub(crate) const ALWAYS: [(&str, Condition); 14] = [
    (ACKNOWLEDGED, |_, world| world.acknowledged.all_in(world.stored().with(world.lost))),
    (SET, |setup, world| !setup.lost_together || world.redis.set.all_in(world.stored())),
    (ATTEMPTED, |_, world| world.postgres.ledger.all_in(world.attempted)),
    (COUNT, |_, world| world.postgres.count() == world.postgres.base + world.postgres.ledger.len()),
    (ONCE, |_, world| world.postgres.counted.iter().all(|times| *times <= 1)),
    (FORGOTTEN, |_, world| world.has_forgotten()),
    (ABOVE, |setup, world| world.misleads(setup) != Some(Wrong::Above)),
    (BELOW, |setup, world| world.misleads(setup) != Some(Wrong::Below)),
    (REST, |setup, world| !world.can_settle() || world.settles(setup)),
    (LONE, |setup, world| !world.can_settle() || world.settles_alone(setup)),
    (STRANGERS, |setup, world| !world.can_settle() || world.knows_the_set(setup)),
    (KEPT, |setup, world| !setup.is_kept() || world.is_kept()),
    (CAP, |setup, world| !setup.is_capped() || world.is_capped()),
    (CALM, |setup, world| !setup.is_calm() || world.is_exact()),
];

/// What must hold in some state.
pub(crate) const SOMETIMES: [(&str, Condition); 2] = [
    (ALL_DRAINED, |setup, world| {
        let everybody = setup.requests.iter().filter(|requests| **requests > 0).count();
        world.acknowledged.len() as usize == everybody
            && world.acknowledged.all_in(world.postgres.ledger)
            && world.redis.outbox.is_empty()
    }),
    (ALL_SENT, |_, world| world.left.requests.iter().all(|left| *left == 0) && world.is_at_rest()),
];

/// Returns all of them.
pub(crate) fn all() -> Vec<Property<Setup>> {
    let always = ALWAYS.map(|(name, condition)| Property::always(name, condition));
    let sometimes = SOMETIMES.map(|(name, condition)| Property::sometimes(name, condition));
    always.into_iter().chain(sometimes).collect()
}

impl World {
    /// Whoever is in the ledger, in the outbox or among the dead letters, or whom the application has taken out of the
    /// ledger.
    fn stored(&self) -> Viewers {
        let listed = self.redis.listed().with(self.redis.hidden());
        self.postgres.ledger.with(listed).with(self.redis.dead).with(self.postgres.erased)
    }

    /// Returns whether nobody who was erased is anywhere.
    fn has_forgotten(&self) -> bool {
        let somewhere = self.postgres.ledger.with(self.redis.listed()).with(self.redis.dead).with(self.redis.set);
        self.forgotten.without(somewhere) == self.forgotten
    }

    /// What is wrong with the count that was told to a viewer, or that a reader would be told now.
    ///
    /// Whoever reads a post that Redis has no author of has it looked up first, and is told what Redis has afterwards;
    /// unless PostgreSQL does not answer.
    fn misleads(&self, setup: &Setup) -> Option<Wrong> {
        let bounds =
            setup.bounds.map(|bounds| if bounds.exact_at_rest && !self.is_recording() { Bounds::EXACT } else { bounds })?;
        let is_readable = self.redis.has_author() || setup.database_away || self.postgres.row == Row::Hidden;
        let read = || self.judge(self.redis.answer(), self.acknowledged.len(), bounds);
        self.wrong.or_else(|| if is_readable { read() } else { None })
    }

    /// Returns whether a cycle may be expected to bring everything into order.
    fn can_settle(&self) -> bool {
        self.is_at_rest() && self.postgres.row != Row::Hidden
    }

    /// Returns whether one cycle puts everything right that has a set.
    fn settles(&self, setup: &Setup) -> bool {
        let settled = self.after_a_cycle(setup);
        let redis = &settled.redis;
        let in_order = |meta: Meta| {
            meta.live() == settled.postgres.count() && meta.acked == meta.recorded && redis.set.len() == meta.recorded
        };
        let lost = settled.postgres.erased.with(settled.lost);
        // Of a post that does not exist, letters are all that is left.
        let dead = if settled.postgres.row == Row::Deleted { redis.dead } else { Viewers::default() };
        redis.outbox.is_empty()
            && redis.hidden().is_empty()
            && settled.acknowledged.all_in(settled.postgres.ledger.with(lost).with(dead))
            && (redis.set.is_empty() || !redis.takes_scripts() || redis.meta.is_some_and(in_order))
    }

    /// Returns whether one cycle puts a hash right that has no set. One that is not there is made from PostgreSQL when
    /// somebody asks for it.
    fn settles_alone(&self, setup: &Setup) -> bool {
        let settled = self.after_a_cycle(setup);
        let count = settled.postgres.count();
        !settled.redis.set.is_empty() || settled.redis.meta.is_none_or(|meta| !meta.author || meta.live() == count)
    }

    /// Returns whether after one cycle everybody in the set is in the ledger.
    fn knows_the_set(&self, setup: &Setup) -> bool {
        let settled = self.after_a_cycle(setup);
        !settled.redis.takes_scripts() || settled.redis.set.all_in(settled.postgres.ledger)
    }

    /// Returns whether the set has everybody whom it should have.
    fn is_kept(&self) -> bool {
        self.acknowledged.without(self.postgres.erased).all_in(self.redis.set)
    }

    /// Whether, at rest with an empty outbox, no more is acknowledged than was recorded.
    fn is_capped(&self) -> bool {
        !self.is_at_rest() || !self.redis.outbox.is_empty() || self.redis.meta.is_none_or(|meta| meta.acked <= meta.recorded)
    }

    /// Whether, at rest with an empty outbox, hash and PostgreSQL agree without any scan.
    fn is_exact(&self) -> bool {
        let Some(meta) = &self.redis.meta else { return true };
        let is_drained = self.redis.outbox.is_empty() && self.redis.hidden().is_empty();
        !(self.is_at_rest() && is_drained) || (meta.persisted == Some(self.postgres.count()) && meta.recorded == meta.acked)
    }
}
