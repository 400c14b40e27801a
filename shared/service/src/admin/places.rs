//! The places of the operators' connections, and who gives one up where all are taken.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// Operators are few. Where this many connections are open, the one that has asked for nothing for the longest time gives way to a new one,
const MAX_PLACES: usize = 64;
/// but not before it has had time to ask,
const TIME_TO_ASK: Duration = Duration::from_secs(1);
/// unless there are as many as this.
const MAX_CONNECTIONS: usize = 512;

/// All places of a listener.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Occupants>);

#[derive(Debug, Default)]
struct Occupants {
    next: u64,
    all: BTreeMap<u64, Occupant>,
}

#[derive(Debug)]
struct Occupant {
    /// When a request last came or was answered.
    since: Instant,
    standing: Standing,
    leave: Arc<Notify>,
}

#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// Has a place.
    Placed,
    /// Waits for an answer that takes its time, and needs no place meanwhile.
    Waiting,
    /// Has been told to leave.
    Leaving,
}

/// A connection's place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    leave: Arc<Notify>,
}

impl Places {
    /// Takes a place for a new connection, and has those leave that have been idle or incomplete for longest and are too many.
    pub(super) fn take(self: &Arc<Self>) -> Place {
        let leave = Arc::new(Notify::new());
        let mut occupants = self.occupants();
        loop {
            let number = occupants.placed().count();
            let Some(longest) = occupants.placed().min_by_key(|occupant| occupant.since) else { break };
            let may_stay = number < MAX_CONNECTIONS && longest.since.elapsed() < TIME_TO_ASK;
            if number < MAX_PLACES || may_stay {
                break;
            }
            longest.standing = Standing::Leaving;
            longest.leave.notify_one();
        }
        let number = occupants.next;
        occupants.next += 1;
        let occupant = Occupant { since: Instant::now(), standing: Standing::Placed, leave: Arc::clone(&leave) };
        occupants.all.insert(number, occupant);
        drop(occupants);
        Place { places: Arc::clone(self), number, leave }
    }

    fn occupants(&self) -> MutexGuard<'_, Occupants> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Occupants {
    fn placed(&mut self) -> impl Iterator<Item = &mut Occupant> {
        self.all.values_mut().filter(|occupant| occupant.standing == Standing::Placed)
    }
}

impl Place {
    /// A request has come, or has been answered.
    pub(super) fn used(&self) {
        self.change(|occupant| occupant.since = Instant::now());
    }

    /// Leaves the place to others while the connection waits.
    pub(super) async fn waiting<T>(&self, work: impl Future<Output = T>) -> T {
        self.change(|occupant| occupant.standing = Standing::Waiting);
        let result = work.await;
        self.change(|occupant| occupant.standing = Standing::Placed);
        result
    }

    /// Returns when the connection is to give way.
    pub(super) async fn wanted(&self) {
        loop {
            self.leave.notified().await;
            // It may have begun to wait in that very moment.
            let leaving =
                self.places.occupants().all.get(&self.number).is_none_or(|occupant| occupant.standing == Standing::Leaving);
            if leaving {
                return;
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Occupant)) {
        if let Some(occupant) = self.places.occupants().all.get_mut(&self.number) {
            change(occupant);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.occupants().all.remove(&self.number);
    }
}
