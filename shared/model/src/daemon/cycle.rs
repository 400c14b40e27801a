//! A whole cycle of a process of view-syncd, without anything in between.

use super::{DaemonAction, state::Task};
use crate::{setup::Setup, world::World};

impl World {
    /// A world at rest after one process of view-syncd has run a cycle: drain, scan, drain, repair, the dead once more.
    #[must_use]
    pub fn after_a_cycle(&self, setup: &Setup) -> Self {
        let mut world = self.clone();
        world.drain(setup);
        if world.is_scanned(setup) {
            world.finish(DaemonAction::Look, setup);
            world.drain(setup);
            world.finish(DaemonAction::Drift, setup);
        }
        world.finish(DaemonAction::ReadDead, setup);
        if world.is_scanned(setup) {
            world.finish(DaemonAction::Look, setup);
        }
        world
    }

    fn drain(&mut self, setup: &Setup) {
        if self.reads_hidden(setup) {
            self.finish(DaemonAction::ReadHidden, setup);
        }
        self.finish(DaemonAction::Read(self.redis.outbox.len()), setup);
    }

    fn finish(&mut self, action: DaemonAction, setup: &Setup) {
        self.daemon(0, action, setup);
        while self.daemons[0].task != Task::Idle {
            self.daemon(0, DaemonAction::Go, setup);
        }
    }
}
