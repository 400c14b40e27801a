//! A process of view-syncd: the drain, the scan, and the repair of drifts. Nothing that it remembers outlives a step's failure, so that its
//! death and any error of a store are the same thing here.

mod drain;
mod scan;

use crate::{
    postgres::{Known, Row},
    redis::{Counted, Entry, Id},
    setup::Setup,
    variant::Variant,
    viewers::Viewers,
    world::World,
};

/// A process of view-syncd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Daemon {
    /// What it is about to do.
    pub task: Task,
    /// Whether something may be committed that is not settled. A leader drains everything before it scans then.
    pub in_doubt: bool,
}

/// What a process of view-syncd is about to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Task {
    /// Nothing.
    #[default]
    Idle,
    /// Drain: to begin the statement.
    Begin(Batch),
    /// Drain: to commit the statement, which sees the count as it was when it began.
    Commit(Batch, i8),
    /// Drain: to bury viewers.
    Bury(Batch, Viewers, Buried),
    /// Drain: to settle the post with this count. Entries up to this one were settled before.
    Settle(Batch, Counted, Id),
    /// Drain: to delete the entries, which are settled or of a post that does not exist.
    Delete(Batch, Fate),
    /// Drain: to bury those whose entries are deleted. Only done wrong.
    BuryLate(Viewers),
    /// Drain or scan: to remove the keys of a post that does not exist.
    RemoveKeys,
    /// Drain: to offer the dead once more.
    Offer(Viewers),
    /// Drain: to remove letters of viewers who are stored now.
    Unbury(Viewers),
    /// Scan: to ask PostgreSQL for the count of a post that Redis has said this of.
    Count(Look),
    /// Scan: to run `hydrate.lua`, having looked the post up because its hash had no author.
    Hydrate(Known),
    /// Scan: to look a second time. What was known of the count, and what it is, unless the post has been looked up meanwhile.
    LookAgain(Option<Expected>),
    /// Scan: to look whether the outbox has anything of the post, before the count is written. Only as a remedy.
    CheckWaiting(Expected, Next),
    /// Scan: to write the count.
    Refresh(Expected, Next),
    /// Union: to look at the set and the hash.
    Unite,
    /// Union: to read the set.
    ReadSet(Union),
    /// Union: to store these members.
    StoreSet(Union, Viewers),
    /// Union: to ask for the count.
    CountSet(Union),
    /// Union: to correct the numbers, and to write this count.
    Correct(Union, i8),
    /// Purge: to read the set.
    ReadFallen,
    /// Purge: to look for these members in the outbox or, when that is done, in the ledger. So many falls had been noted.
    Find(Viewers, Place, u8),
    /// Purge: to take these viewers out of the set.
    TakeOut(Viewers, u8),
    /// Purge: to forget as many falls, if there have not been more since.
    ForgetFalls(u8),
    /// Repair: to look for the same drift once more.
    DriftAgain(i8),
    /// Repair: to have the set united with the ledger first, because it may hold somebody whose entry is lost.
    Rescue(i8),
    /// Repair: to ask for the count.
    CountDrifted(Drifted),
    /// Repair: to take the drift back, and to write the count, if any.
    Repair(Drifted, Option<i8>),
}

/// Entries that have been read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Batch {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether that was the whole outbox.
    pub is_whole: bool,
}

/// Why viewers are buried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Buried {
    /// There is no such post.
    NoPost,
    /// PostgreSQL refuses the pair, and has this count.
    Refused(Counted),
}

/// What has become of the pairs of entries that are to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// They are settled.
    Settled,
    /// Their post does not exist.
    NoPost,
}

/// Where somebody is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// In the outbox, and then elsewhere.
    OutboxFirst,
    /// In the ledger, and nowhere else.
    LedgerLast,
    /// In the ledger, and then elsewhere. Only done wrong.
    LedgerFirst,
    /// In the outbox, and nowhere else.
    OutboxLast,
}

/// A count that is to be written, where the one that is there is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Expected {
    /// `persisted` before PostgreSQL was asked.
    pub known: Option<i8>,
    /// The count in PostgreSQL.
    pub views: i8,
}

/// What follows when the count is in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// Set and hash disagree: the set is united with the ledger.
    Unite,
    /// PostgreSQL has lost views: the set is compared with the ledger.
    Purge,
}

/// Why a set is united with the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Union {
    /// By how much the set was larger than `recorded`.
    pub difference: i8,
    /// `persisted` at that time.
    pub known: Option<i8>,
    /// The drift that is to be repaired afterwards; zero in a scan.
    pub drift: i8,
}

/// A drift that is to be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Drifted {
    /// By how much more is recorded than acknowledged or waiting.
    pub drift: i8,
    /// `persisted` before PostgreSQL was asked.
    pub known: Option<i8>,
}

/// What the scan keeps of its first look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Look {
    /// What the scan makes of it.
    pub state: State,
    /// `persisted`.
    pub known: Option<i8>,
    /// `fallen`.
    pub fallen: bool,
}

/// What the scan makes of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// The hash has no author.
    NoAuthor,
    /// Set and hash disagree.
    Differs,
    /// All is well, but perhaps for the count.
    InOrder,
}

/// What a process of view-syncd does, or what befalls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonAction {
    /// It reads as many entries of the outbox.
    Read(usize),
    /// It reads all of the outbox but its first entry.
    ReadBehind,
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
                    actions.extend((1..=entries).map(Do::Read));
                    actions.extend((entries > 1 && setup.variant == Variant::OvertakesHeld).then_some(Do::ReadBehind));
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

    /// The next step of a process that is in the middle of something.
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

impl Task {
    /// The batch that it is about.
    fn batch_mut(&mut self) -> Option<&mut Batch> {
        match self {
            Self::Begin(batch)
            | Self::Commit(batch, _)
            | Self::Bury(batch, ..)
            | Self::Settle(batch, ..)
            | Self::Delete(batch, _) => Some(batch),
            _ => None,
        }
    }
}

impl Daemon {
    /// Shows all ids to somebody.
    pub(crate) fn each_id(&mut self, visit: &mut impl FnMut(&mut Id)) {
        if let Some(batch) = self.task.batch_mut() {
            batch.entries.iter_mut().for_each(|entry| visit(&mut entry.id));
        }
        if let Task::Settle(.., settled) = &mut self.task {
            visit(settled);
        }
    }

    /// Forgets what makes no difference any more.
    pub(crate) fn forget(&mut self, outbox: &[Entry]) {
        if let Task::Delete(batch, _) = &mut self.task {
            batch.entries.retain(|entry| outbox.contains(entry));
        }
        // What is not in the outbox is settled.
        self.in_doubt &= !outbox.is_empty();
    }

    /// The same with the two viewers' names exchanged.
    pub(crate) fn exchange_viewers(&mut self) {
        if let Some(batch) = self.task.batch_mut() {
            batch.entries.iter_mut().for_each(|entry| entry.viewer ^= 1);
        }
        match &mut self.task {
            Task::Bury(_, viewers, _)
            | Task::BuryLate(viewers)
            | Task::Offer(viewers)
            | Task::Unbury(viewers)
            | Task::StoreSet(_, viewers)
            | Task::Find(viewers, ..)
            | Task::TakeOut(viewers, _) => *viewers = viewers.exchanged(),
            Task::Hydrate(known) => known.viewers = known.viewers.exchanged(),
            _ => {}
        }
    }
}
