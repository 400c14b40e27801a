//! Everything at one moment: the stores, the processes, and what the clients know.

use crate::{
    daemon::{Daemon, DaemonAction},
    ingest::{Ingest, Step},
    postgres::Postgres,
    redis::{GONE, Redis},
    setup::Setup,
    viewers::{VIEWERS, Viewers},
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
    /// Who has sent a view.
    pub attempted: Viewers,
    /// Who has been told that the view is counted, or was counted before.
    pub acknowledged: Viewers,
    /// What may still happen.
    pub left: Left,
}

/// What may still happen, as in [`Setup`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Left {
    pub(crate) requests: [u8; VIEWERS],
    pub(crate) expiries: u8,
    pub(crate) lost_replies: u8,
    pub(crate) bypasses: u8,
    pub(crate) refusals: u8,
    pub(crate) scans: u8,
}

impl World {
    /// The world before anything has happened.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        let left = Left {
            requests: setup.requests,
            expiries: setup.expiries,
            lost_replies: setup.lost_replies,
            bypasses: setup.bypasses,
            refusals: setup.refusals,
            scans: setup.scans,
        };
        Self { left, ..Self::default() }
    }

    /// Whether nobody is in the middle of anything.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.ingests.iter().all(|ingest| ingest.step == Step::Idle && ingest.adrift.is_none())
            && self.daemons.iter().all(|daemon| *daemon == Daemon::Idle)
    }

    /// Whether a record pipeline is on its way.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.ingests.iter().any(|ingest| matches!(ingest.step, Step::Record(_)) || ingest.adrift.is_some())
    }

    /// A world at rest after one process of view-syncd has run a cycle: drain, scan, drain, repair.
    #[must_use]
    pub fn after_a_cycle(&self, setup: &Setup) -> Self {
        let mut world = self.clone();
        world.finish(DaemonAction::Read, setup);
        if world.is_scanned(setup) {
            world.finish(DaemonAction::Look, setup);
            world.finish(DaemonAction::Read, setup);
            world.finish(DaemonAction::Drift, setup);
        }
        world
    }

    fn finish(&mut self, action: DaemonAction, setup: &Setup) {
        self.daemon(0, action, setup);
        while self.daemons[0] != Daemon::Idle {
            self.daemon(0, DaemonAction::Go, setup);
        }
    }

    /// Brings states that mean the same into one form: the ids of entries matter only by their order, and by whether they are there; and
    /// it is all the same which process or viewer is called by which name.
    pub(crate) fn normalize(&mut self, setup: &Setup) {
        let ids: Vec<u8> = self.redis.outbox.iter().map(|entry| entry.id).collect();
        let new_id = |old: u8| match ids.iter().position(|id| *id == old) {
            // There are only ever a few entries.
            Some(place) => place as u8 + 1,
            None => GONE,
        };
        for daemon in &mut self.daemons {
            daemon.renumber(&new_id, setup.variant);
        }
        for entry in &mut self.redis.outbox {
            entry.id = new_id(entry.id);
        }
        if !setup.symmetric {
            return;
        }
        // Processes that are not there stay at the end, because idle ones sort first and cannot be told from them.
        let idle_last = |world: &mut Self| {
            world.ingests[..setup.ingests].sort_unstable();
            world.daemons[..setup.daemons].sort_unstable();
        };
        idle_last(self);
        // Where only one of them has a client there is nothing to gain.
        if setup.requests.contains(&0) {
            return;
        }
        let mut exchanged = self.clone();
        exchanged.exchange_viewers();
        idle_last(&mut exchanged);
        if exchanged < *self {
            *self = exchanged;
        }
    }

    fn exchange_viewers(&mut self) {
        self.redis.set = self.redis.set.exchanged();
        for entry in &mut self.redis.outbox {
            entry.viewer ^= 1;
        }
        self.postgres.ledger = self.postgres.ledger.exchanged();
        self.postgres.counted.reverse();
        self.left.requests.reverse();
        self.attempted = self.attempted.exchanged();
        self.acknowledged = self.acknowledged.exchanged();
        for ingest in &mut self.ingests {
            ingest.exchange_viewers();
        }
        for daemon in &mut self.daemons {
            daemon.exchange_viewers();
        }
    }
}
