//! A process of view-syncd: the drain, the scan, and the repair of drifts. Nothing that it remembers outlives a step's
//! failure, so that its death and any error of a store are the same thing here.

mod cycle;
mod drain;
mod scan;

pub mod state;

use self::state::{Daemon, Task};
use crate::{postgres::Row, setup::Setup, variant::Variant, world::World};

/// What a process of view-syncd does, or what befalls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonAction {
    /// It reads as many entries of the outbox.
    Read(usize),
    /// It reads all of the outbox but its first entry.
    ReadBehind,
    /// It reads the outbox at an importing node to which nobody is sent.
    ReadHidden,
    /// It offers the dead once more.
    ReadDead,
    /// It begins to scan: it looks at the set and the hash.
    Look,
    /// It begins to repair: it compares the hash with the outbox.
    Drift,
    /// It takes its next step.
    Go,
    /// It takes its next step, but the reply is lost, and it will be sent again.
    GoUnheard,
    /// It finds the post's row locked by somebody else.
    FindLocked,
    /// PostgreSQL refuses the pair of the first entry.
    BeRefused,
    /// It dies.
    Die,
}

impl World {
    /// What a process may do next.
    pub(crate) fn daemon_actions(&self, place: usize, setup: &Setup) -> Vec<DaemonAction> {
        use DaemonAction as Do;
        let mut actions = Vec::new();
        let Daemon { task, in_doubt } = &self.daemons[place];
        match task {
            Task::Idle => {
                let entries = self.redis.outbox.len();
                if place < setup.leaders {
                    // Views from before the cluster come before the others of their posts.
                    let waits = self.redis.has_legacy() && setup.variant != Variant::SettlesTwoOutboxes;
                    actions.extend((1..=if waits { 0 } else { entries }).map(Do::Read));
                    actions.extend((entries > 1 && setup.variant == Variant::OvertakesHeld).then_some(Do::ReadBehind));
                    actions.extend(self.reads_hidden(setup).then_some(Do::ReadHidden));
                    actions.extend((!self.redis.dead.is_empty() && self.postgres.row == Row::Seen).then_some(Do::ReadDead));
                }
                let may_scan = !in_doubt || entries == 0 || setup.variant == Variant::ScansInDoubt;
                if self.left.scans > 0 && may_scan && self.is_scanned(setup) {
                    actions.push(Do::Look);
                    let may_repair = place < setup.leaders && self.drift(setup) != 0;
                    actions.extend(may_repair.then_some(Do::Drift));
                }
                return actions;
            }
            Task::Begin(batch) => {
                actions.extend([Do::Go, Do::FindLocked]);
                let may_be_refused = self.left.bad_pairs > 0 && self.postgres.row == Row::Seen;
                actions.extend((may_be_refused && !batch.entries.is_empty()).then_some(Do::BeRefused));
            }
            Task::Settle(batch, ..) => {
                if setup.overtaking || self.is_final(&batch.entries, setup) {
                    actions.extend([Do::Go, Do::GoUnheard]);
                }
            }
            Task::Correct(..) | Task::Repair(..) => {
                actions.push(Do::Go);
                actions.extend((self.left.lost_replies > 0).then_some(Do::GoUnheard));
            }
            _ => actions.push(Do::Go),
        }
        actions.extend(setup.daemons_die.then_some(Do::Die));
        actions
    }

    /// Has a process do something.
    pub(crate) fn daemon(&mut self, place: usize, action: DaemonAction, setup: &Setup) {
        use DaemonAction as Do;
        let task = std::mem::take(&mut self.daemons[place].task);
        let next = match action {
            Do::Die => {
                // What it had in hand may have been committed.
                self.daemons[place].in_doubt = setup.scans > 0 && place < setup.leaders;
                Task::Idle
            }
            Do::Read(number) => self.read(0, number, setup.variant),
            Do::ReadBehind => self.read(1, self.redis.outbox.len() - 1, setup.variant),
            Do::ReadHidden => self.read_hidden(),
            Do::ReadDead => self.read_dead(setup.variant),
            Do::Look => {
                self.left.scans = self.left.scans.saturating_sub(1);
                self.look()
            }
            Do::Drift => {
                self.left.scans = self.left.scans.saturating_sub(1);
                Task::DriftAgain(self.drift(setup))
            }
            Do::Go => self.go(task, place, setup),
            Do::GoUnheard => {
                if matches!(task, Task::Correct(..) | Task::Repair(..)) {
                    self.left.lost_replies -= 1;
                }
                self.go(task.clone(), place, setup);
                task
            }
            Do::FindLocked => self.find_locked(task, setup.variant),
            Do::BeRefused => {
                self.left.bad_pairs -= 1;
                self.be_refused(task, setup)
            }
        };
        self.daemons[place].task = next;
    }

    /// Returns whether there is an outbox to which nobody is sent, and which is read all the same.
    pub(crate) fn reads_hidden(&self, setup: &Setup) -> bool {
        !self.redis.hidden().is_empty() && setup.variant != Variant::ReadsOwnerOnly
    }

    /// Returns the next step of a process that is in the middle of something.
    fn go(&mut self, task: Task, place: usize, setup: &Setup) -> Task {
        match task {
            Task::Idle => Task::Idle,
            Task::Begin(_)
            | Task::Commit(..)
            | Task::Bury(..)
            | Task::Settle(..)
            | Task::Delete(..)
            | Task::BuryLate(_)
            | Task::RemoveKeys
            | Task::Offer(_)
            | Task::Unbury(_) => self.go_on_draining(task, place, setup),
            _ => self.go_on_scanning(&task, place, setup),
        }
    }
}
