//! Which partitions this process drains: those whose advisory locks it holds in PostgreSQL, all of them on one
//! connection of their own. Without a cluster there is one partition, and who holds it leads.
//!
//! Members share the partitions out without talking to each other: each takes what is free until it has its share, and
//! gives back what is too much as soon as nobody of its own works on it.
//!
//! The locks are a courtesy, not a guarantee: two that both believe to hold a lease for a moment do no harm, because
//! every step may be repeated and may run twice at once. So a process that has lost its connection goes on until it
//! learns that another one holds the lock.

mod campaign;
mod division;
mod fitness;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use views_core::{keys::Keys, partition::Partition};
use views_postgres::{Database, DatabaseError};

pub use self::campaign::campaign;
use self::fitness::Fitness;
use crate::{entry_id::now_ms, error::Failure};

/// How often a server's only lease is tried for, and its holder makes sure that it still has its connection.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often the partitions of a cluster are shared out.
const CLUSTER_INTERVAL: Duration = Duration::from_millis(500);
/// A connection that does not answer for this long is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who has held a lease for this long is the only one: whoever held it before has learnt by now that its connection is
/// lost.
const SETTLED_IN: Duration = INTERVAL.saturating_add(PATIENCE).saturating_add(Duration::from_secs(2));
/// How long a start waits for the first decision. Without one, the daemon works.
const FIRST_DECISION: Duration = Duration::from_secs(10);
/// How long it is waited at the end until all leases are given back.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What this process is among its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nobody knows yet.
    Undecided,
    /// It drains and scans.
    Leader,
    /// Others do; this one takes over when one of them is gone.
    Standby,
}

/// Who wants leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Participant {
    /// A daemon, which the partitions are shared out to.
    Daemon,
    /// A command, which takes for a while what no daemon has.
    Command,
}

impl Role {
    /// Returns the word for operators.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Leader => "leader",
            Self::Standby => "standby",
        }
    }
}

/// Follows which partitions this process is to drain.
#[derive(Debug, Clone)]
pub struct Leases {
    state: watch::Receiver<State>,
    shared: Arc<Shared>,
}

/// What is decided.
#[derive(Debug)]
struct State {
    role: Role,
    /// What this process holds or, where its connection is lost, has held.
    held: BTreeMap<Partition, Lease>,
}

/// A partition that is this process's to drain.
#[derive(Debug)]
struct Lease {
    since: Instant,
    /// Cancelled when it is to be given back.
    leaving: CancellationToken,
    /// Cloned by whoever works on it.
    users: Arc<()>,
}

/// What the task that keeps the connection shares with everybody else.
#[derive(Debug)]
struct Shared {
    keys: Keys,
    connected: AtomicBool,
    /// Why PostgreSQL did not keep the connection that decides, where it did not.
    failure: Mutex<Option<DatabaseError>>,
    /// The backend of the connection.
    backend: Mutex<Option<i32>>,
    fitness: Fitness,
    is_ending: AtomicBool,
    /// Wakes the task.
    wake: Notify,
    /// When the last cycle of this process succeeded, in milliseconds since 1970.
    cycle: watch::Sender<Option<i64>>,
}

/// Held by whoever works on a partition: as long as there is one, its lease is not given back.
#[derive(Debug)]
pub struct InUse {
    /// Cancelled when the work is to come to an end at the next point where that is safe.
    pub leaving: CancellationToken,
    users: Option<Arc<()>>,
    shared: Arc<Shared>,
}

impl InUse {
    /// Returns whether the lease is still what it was when the work began: not one to be given back, nor one that was not
    /// there because nobody knew yet.
    pub(super) fn stands(&self, leases: &Leases) -> bool {
        !self.leaving.is_cancelled() && (self.users.is_some() || leases.role() == Role::Undecided)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        drop(self.users.take());
        self.shared.wake.notify_one();
    }
}

impl Leases {
    /// Returns those of the partitions that no other process can be draining now: this one holds them, as PostgreSQL
    /// says at this moment, and has for a while.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn alone(&self, database: &Database) -> Result<BTreeSet<Partition>, DatabaseError> {
        let settled: BTreeSet<Partition> = {
            let held = &self.state.borrow().held;
            held.iter().filter(|(_, lease)| lease.since.elapsed() >= SETTLED_IN).map(|(partition, _)| *partition).collect()
        };
        let backend = *self.shared.backend.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(backend) = backend.filter(|_| !settled.is_empty()) else { return Ok(BTreeSet::new()) };
        database.held_by(backend, settled, self.shared.keys.are_in_cluster()).await
    }

    /// Notes that a cycle has succeeded. The session that holds the locks is named by it, so that whoever can see that
    /// session knows.
    pub fn note_cycle(&self) {
        self.shared.cycle.send_replace(Some(now_ms()));
    }

    /// Notes how a step of a partition's drain ended. Where all steps fail by Redis, and another member has a Redis that
    /// is well, the leases go to that one.
    pub fn note_step(&self, partition: Partition, failure: Option<&Failure>) {
        self.shared.fitness.note_step(partition, failure);
    }

    /// Notes whether Redis was well when this process looked at it without draining anything.
    pub fn note_look(&self, is_well: bool) {
        self.shared.fitness.note_look(is_well);
    }

    /// Returns the role now.
    #[must_use]
    pub fn role(&self) -> Role {
        self.state.borrow().role
    }

    /// Returns whether this process drains and scans of its own accord.
    #[must_use]
    pub fn works(&self) -> bool {
        !self.partitions().is_empty()
    }

    /// Returns the partitions that this process is to drain: all of them while nobody knows, for somebody has to.
    #[must_use]
    pub fn partitions(&self) -> BTreeSet<Partition> {
        let state = self.state.borrow();
        match state.role {
            Role::Undecided => self.shared.keys.drained_partitions().collect(),
            _ => state.held.iter().filter(|(_, lease)| !lease.leaving.is_cancelled()).map(|(partition, _)| *partition).collect(),
        }
    }

    /// Begins work on a partition, whose lease is not given back before the work has ended. Returns nothing where the
    /// partition is not this process's to drain.
    #[must_use]
    pub fn use_of(&self, partition: Partition) -> Option<InUse> {
        let state = self.state.borrow();
        let (leaving, users) = match state.held.get(&partition) {
            Some(lease) if !lease.leaving.is_cancelled() => (lease.leaving.clone(), Some(Arc::clone(&lease.users))),
            None if state.role == Role::Undecided => (CancellationToken::new(), None),
            _ => return None,
        };
        Some(InUse { leaving, users, shared: Arc::clone(&self.shared) })
    }

    /// Returns whether the connection that decides stands. With empty outboxes, nothing else would tell that PostgreSQL
    /// is away.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.connected.load(Relaxed)
    }

    /// Returns how many partitions there are to be drained, where there is more than one.
    pub(super) fn of_many(&self) -> Option<usize> {
        self.shared.keys.are_in_cluster().then(|| self.shared.keys.drained_partitions().count())
    }

    /// Returns why there is no such connection, where it was tried.
    pub(super) fn failure(&self) -> Option<DatabaseError> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the first decision, but not for ever.
    pub async fn decided(&mut self) {
        let decided = self.state.wait_for(|state| state.role != Role::Undecided);
        // Either way the loop goes on with the role that there is.
        let _ = tokio::time::timeout(FIRST_DECISION, decided).await;
    }

    /// Waits for a change of what this process is to drain.
    pub async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Begins the end: nothing is taken any more, the other members count on everything, and each lease is given back as
    /// soon as nobody of this process works on it.
    pub fn end(&self) {
        self.shared.is_ending.store(true, Relaxed);
        self.shared.wake.notify_one();
    }

    /// Waits until everything is given back, but not for long: what is held ends with the process.
    pub async fn ended(&mut self) {
        if self.is_connected() {
            let given_back = self.state.wait_for(|state| state.held.is_empty());
            // Either way the process ends.
            let _ = tokio::time::timeout(LAST_WORD, given_back).await;
        }
    }
}
