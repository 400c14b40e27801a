//! Everything at one moment: the stores, the processes, and what the clients know.

mod normal;

use crate::{
    daemon::state::{Daemon, Task},
    ingest::state::{Ingest, Pipeline, Step},
    postgres::Postgres,
    redis::{Redis, TARGET},
    setup::{Bounds, Setup},
    variant::Variant,
    viewers::{VIEWERS, Viewer, Viewers},
};

/// Everything at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct World {
    /// What Redis holds.
    pub redis: Redis,
    /// What PostgreSQL holds.
    pub postgres: Postgres,
    /// The processes of view-ingest.
    pub ingests: [Ingest; 2],
    /// The processes of view-syncd.
    pub daemons: [Daemon; 2],
    /// A read that has looked the post up, with the count that it is about to put into Redis.
    pub reader: Option<i8>,
    /// A viewer who is being erased.
    pub erasure: Option<Erasure>,
    /// Who has been erased, and has sent nothing since.
    pub forgotten: Viewers,
    /// Who has sent a view.
    pub attempted: Viewers,
    /// Who has been told that the view is counted, or was counted before.
    pub acknowledged: Viewers,
    /// Whose entry a node has lost that nobody else has, and who has not been told since that the view counts.
    pub lost: Viewers,
    /// What was wrong with the answer to a view.
    pub wrong: Option<Wrong>,
    /// What may still happen.
    pub left: Left,
}

/// How far an erasure has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Erasure {
    /// The viewer is out of the set, and no dead letter has him.
    TakenOut(Viewer),
    /// His row is in the base. A look-up may have brought him back into the set meanwhile.
    Based(Viewer),
}

/// What is wrong with a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wrong {
    /// It is above the number of viewers who have sent a view.
    Above,
    /// It is below the number of viewers who had been acknowledged before it was asked for.
    Below,
}

/// What may still happen, as in [`Setup`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Left {
    pub(crate) requests: [u8; VIEWERS],
    pub(crate) expiries: u8,
    pub(crate) lost_replies: u8,
    pub(crate) orphans: u8,
    pub(crate) bypasses: u8,
    pub(crate) refusals: u8,
    pub(crate) reads: u8,
    pub(crate) scans: u8,
    pub(crate) policies: u8,
    pub(crate) deletions: u8,
    pub(crate) resets: u8,
    pub(crate) forgets: u8,
    pub(crate) bad_pairs: u8,
    pub(crate) failovers: u8,
    pub(crate) moves: u8,
    pub(crate) legacy: u8,
}

impl World {
    /// The world before anything has happened.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        let left = Left {
            requests: setup.requests,
            expiries: setup.expiries,
            lost_replies: setup.lost_replies,
            orphans: setup.orphans,
            bypasses: setup.bypasses,
            refusals: setup.refusals,
            reads: setup.reads,
            scans: setup.scans,
            policies: setup.policies,
            deletions: setup.deletions,
            resets: setup.resets,
            forgets: setup.forgets,
            bad_pairs: setup.bad_pairs,
            failovers: setup.failovers,
            moves: setup.moves,
            legacy: setup.legacy,
        };
        let mut world = Self { left, ..Self::default() };
        if setup.variant == Variant::OutboxElsewhere {
            world.redis.nodes.outbox = TARGET;
        }
        world
    }

    /// Returns whether nobody is in the middle of anything.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.reader.is_none()
            && self.erasure.is_none()
            && self.ingests.iter().all(|ingest| ingest.step == Step::Idle && ingest.adrift.is_none())
            && self.daemons.iter().all(|daemon| daemon.task == Task::Idle)
    }

    /// Returns whether a view is being recorded.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.ingests.iter().any(|ingest| matches!(ingest.step, Step::Record(_)) || ingest.adrift.is_some())
    }

    /// What is wrong with a count that is told now to somebody who asked when so many had been acknowledged.
    #[must_use]
    pub fn judge(&self, count: i8, acknowledged: i8, bounds: Bounds) -> Option<Wrong> {
        if count > self.attempted.len() + bounds.above {
            return Some(Wrong::Above);
        }
        (count < acknowledged - bounds.below).then_some(Wrong::Below)
    }

    /// Judges the answer to a view whose replies are all there.
    pub(crate) fn measure(&mut self, pipeline: &mut Pipeline, bounds: Bounds) {
        let seen = std::mem::take(&mut pipeline.seen);
        let count = seen.count.map_or(self.redis.set.len(), |count| count - i8::from(pipeline.raced));
        self.wrong = self.wrong.or(self.judge(count.max(0), seen.acknowledged, bounds));
    }
}
