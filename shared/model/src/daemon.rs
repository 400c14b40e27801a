//! A process of view-syncd: the drain, the scan, and the repair of drifts. Nothing that it remembers outlives a step's failure, so that its
//! death and any error of a store are the same thing here.

use crate::{
    redis::{Entry, GONE, Redis},
    setup::{Setup, Variant},
    viewers::Viewers,
    world::World,
};

/// What a process of view-syncd is about to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Daemon {
    /// Nothing.
    #[default]
    Idle,
    /// Drain: to begin the statement with these entries.
    Begin(Vec<Entry>),
    /// Drain: to commit the statement, which sees the count as it was when it began.
    Commit {
        /// What has been read.
        entries: Vec<Entry>,
        /// The count when the statement began, where that is looked at.
        seen: Option<i8>,
    },
    /// Drain: to acknowledge.
    Ack {
        /// The entries.
        ids: Vec<u8>,
        /// The count that the statement gave.
        count: i8,
    },
    /// Scan: to ask PostgreSQL for the count of a post that Redis has said this of.
    Count(Look),
    /// Scan: to look the post up, because its hash has no author.
    LookUp,
    /// Scan: to run `hydrate.lua`.
    Hydrate(crate::postgres::Known),
    /// Scan: to look a second time, knowing the count.
    LookAgain(i8),
    /// Scan: to write the count.
    Refresh(i8),
    /// Union: to read the set.
    ReadSet(Union),
    /// Union: to store these members.
    StoreSet(Union, Viewers),
    /// Union: to ask for the count.
    CountSet(Union),
    /// Union: to correct the numbers, and to write this count.
    Settle(Union, i8),
    /// Repair: to look for the same drift once more.
    DriftAgain(i8),
    /// Repair: to have the set united with the ledger first, because it may hold somebody whose entry is lost.
    Rescue(i8),
    /// Repair: to take the drift back.
    Repair(i8),
}

/// Why a set is united with the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Union {
    /// By how much the set is larger than `recorded`.
    pub difference: i8,
    /// The drift that is to be repaired afterwards; zero in a scan.
    pub drift: i8,
}

/// What the scan keeps of its first look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Look {
    /// The hash has no author.
    NoAuthor,
    /// Set and hash disagree.
    Differs,
    /// All is well, given that this is the count.
    InOrder(Option<i8>),
}

/// What a process of view-syncd does, or what befalls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonAction {
    /// It reads the outbox.
    Read,
    /// It begins to scan: it looks at the set and the hash.
    Look,
    /// It begins to repair: it compares the hash with the outbox.
    Drift,
    /// It takes its next step.
    Go,
    /// It takes its next step, but the reply is lost, and it will be sent again.
    GoUnheard,
    /// It corrects one of the two numbers, and dies before the other.
    SettleHalf,
    /// It dies.
    Die,
}

impl World {
    /// What a process may do next.
    pub(crate) fn daemon_actions(&self, place: usize, setup: &Setup) -> Vec<DaemonAction> {
        use DaemonAction as Do;
        let mut actions = Vec::new();
        match &self.daemons[place] {
            Daemon::Idle => {
                actions.extend((!self.redis.outbox.is_empty()).then_some(Do::Read));
                if self.left.scans > 0 && self.is_scanned(setup) {
                    actions.push(Do::Look);
                    actions.extend((drift(&self.redis) != 0).then_some(Do::Drift));
                }
                return actions;
            }
            Daemon::Ack { .. } => actions.extend([Do::Go, Do::GoUnheard]),
            Daemon::Settle(..) => {
                actions.push(Do::Go);
                actions.extend((self.left.lost_replies > 0).then_some(Do::GoUnheard));
                actions.push(Do::SettleHalf);
            }
            Daemon::Repair(_) => {
                actions.push(Do::Go);
                actions.extend((self.left.lost_replies > 0).then_some(Do::GoUnheard));
            }
            _ => actions.push(Do::Go),
        }
        actions.push(Do::Die);
        actions
    }

    /// Whether the scan comes across the post.
    pub(crate) fn is_scanned(&self, setup: &Setup) -> bool {
        !self.redis.set.is_empty() || (setup.scan_finds_lone_hashes && self.redis.meta.is_some())
    }

    /// Has a process do something.
    pub(crate) fn daemon(&mut self, place: usize, action: DaemonAction, setup: &Setup) {
        use DaemonAction as Do;
        let daemon = std::mem::take(&mut self.daemons[place]);
        let next = match action {
            Do::Die => Daemon::Idle,
            Do::Read => self.read(setup.variant),
            Do::Look => {
                self.left.scans = self.left.scans.saturating_sub(1);
                Daemon::Count(self.look())
            }
            Do::Drift => {
                self.left.scans = self.left.scans.saturating_sub(1);
                Daemon::DriftAgain(drift(&self.redis))
            }
            Do::Go => self.go(daemon, setup),
            Do::GoUnheard => {
                if matches!(daemon, Daemon::Settle(..) | Daemon::Repair(_)) {
                    self.left.lost_replies -= 1;
                }
                self.go(daemon.clone(), setup);
                daemon
            }
            Do::SettleHalf => {
                if let Daemon::Settle(Union { difference, .. }, _) = daemon {
                    self.redis.meta().recorded += difference;
                }
                Daemon::Idle
            }
        };
        self.daemons[place] = next;
    }

    fn read(&mut self, variant: Variant) -> Daemon {
        let entries = self.redis.outbox.clone();
        if variant == Variant::DeleteBeforeCommit {
            self.redis.outbox.clear();
        }
        Daemon::Begin(entries)
    }

    fn look(&self) -> Look {
        let Redis { set, meta, .. } = &self.redis;
        match meta {
            Some(meta) if meta.author && set.len() == meta.recorded => Look::InOrder(meta.persisted),
            Some(meta) if meta.author => Look::Differs,
            _ => Look::NoAuthor,
        }
    }

    /// The next step of a process that is in the middle of something.
    fn go(&mut self, daemon: Daemon, setup: &Setup) -> Daemon {
        let variant = setup.variant;
        match daemon {
            Daemon::Idle => Daemon::Idle,
            Daemon::Begin(entries) if setup.slow_statements => Daemon::Commit { entries, seen: Some(self.postgres.count()) },
            Daemon::Begin(entries) => self.commit(&entries, None, variant),
            Daemon::Commit { entries, seen } => self.commit(&entries, seen, variant),
            Daemon::Ack { ids, count } => {
                self.redis.ack(&ids, count, variant);
                Daemon::Idle
            }
            Daemon::Count(Look::NoAuthor) => Daemon::LookUp,
            Daemon::Count(Look::Differs) => Daemon::LookAgain(self.postgres.count()),
            Daemon::Count(Look::InOrder(persisted)) => refresh(persisted, self.postgres.count(), variant),
            Daemon::LookUp => Daemon::Hydrate(self.postgres.look_up()),
            Daemon::Hydrate(known) => {
                self.redis.hydrate(known, false);
                Daemon::LookAgain(known.count)
            }
            Daemon::LookAgain(count) => {
                let meta = self.redis.meta.unwrap_or_default();
                match self.redis.set.len() - meta.recorded {
                    difference if difference != 0 && variant != Variant::NoUnion => {
                        Daemon::ReadSet(Union { difference, drift: 0 })
                    }
                    // A hash that has expired since is left alone.
                    _ if self.redis.meta.is_none() => Daemon::Idle,
                    _ => refresh(meta.persisted, count, variant),
                }
            }
            Daemon::Refresh(count) => {
                self.redis.meta().persisted = Some(count);
                Daemon::Idle
            }
            Daemon::ReadSet(union) => Daemon::StoreSet(union, self.redis.set),
            Daemon::StoreSet(union, members) => {
                self.postgres.store(members, variant);
                Daemon::CountSet(union)
            }
            Daemon::CountSet(union) => Daemon::Settle(union, self.postgres.count()),
            Daemon::Settle(Union { difference, drift }, count) => {
                let meta = self.redis.meta();
                meta.persisted = Some(count);
                meta.recorded += difference;
                meta.acked += difference;
                if drift == 0 { Daemon::Idle } else { Daemon::Repair(drift) }
            }
            Daemon::DriftAgain(first) => match drift(&self.redis) {
                second if second == 0 || second != first || variant == Variant::NoRepair => Daemon::Idle,
                second if second > 0 => Daemon::Rescue(second),
                second => Daemon::Repair(second),
            },
            Daemon::Rescue(drift) => {
                let recorded = self.redis.meta.unwrap_or_default().recorded;
                Daemon::ReadSet(Union { difference: self.redis.set.len() - recorded, drift })
            }
            Daemon::Repair(drift) => {
                self.redis.meta().acked += drift;
                Daemon::Idle
            }
        }
    }

    fn commit(&mut self, entries: &[Entry], seen: Option<i8>, variant: Variant) -> Daemon {
        let added = self.postgres.store(entries.iter().map(|entry| entry.viewer).collect(), variant);
        let count = match seen {
            _ if variant == Variant::PersistedIncremented => added,
            // Where nothing is new, no row is updated, and the count is that of the statement's snapshot.
            Some(seen) if added == 0 => seen,
            _ => self.postgres.count(),
        };
        Daemon::Ack { ids: entries.iter().map(|entry| entry.id).collect(), count }
    }
}

fn refresh(persisted: Option<i8>, count: i8, variant: Variant) -> Daemon {
    if persisted == Some(count) || variant == Variant::NoRefresh { Daemon::Idle } else { Daemon::Refresh(count) }
}

/// By how much a hash has recorded more than it has acknowledged and the outbox holds.
fn drift(redis: &Redis) -> i8 {
    // A hash that has expired has no drift. There are only ever a few entries.
    redis.meta.map_or(0, |meta| meta.recorded - meta.acked - redis.outbox.len() as i8)
}

impl Daemon {
    /// Notes which entries are gone, and gives the others new ids.
    pub(crate) fn renumber(&mut self, new_id: &impl Fn(u8) -> u8, variant: Variant) {
        match self {
            Self::Begin(entries) | Self::Commit { entries, .. } => {
                for entry in entries {
                    entry.id = new_id(entry.id);
                }
            }
            Self::Ack { ids, .. } => {
                for id in &mut *ids {
                    *id = new_id(*id);
                }
                if variant != Variant::AckCountsRepeats {
                    ids.retain(|id| *id != GONE);
                }
            }
            _ => {}
        }
    }

    /// The same with the two viewers' names exchanged.
    pub(crate) fn exchange_viewers(&mut self) {
        match self {
            Self::Begin(entries) | Self::Commit { entries, .. } => entries.iter_mut().for_each(|entry| entry.viewer ^= 1),
            Self::StoreSet(_, members) => *members = members.exchanged(),
            Self::Hydrate(known) => known.viewers = known.viewers.exchanged(),
            _ => {}
        }
    }
}
