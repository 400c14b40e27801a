//! The places of the operators' connections, and who gives one up where all are taken.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// Operators are few. Where this many connections are open, the one that has asked for nothing for the longest time
/// gives way to a new one,
const MAX_PLACES: usize = 64;
/// but not before it has had time to ask,
const TIME_TO_ASK: Duration = Duration::from_secs(1);
/// unless there are as many as this.
const MAX_CONNECTIONS: usize = 512;

/// All places of a listener.
#[derive(Debug, Default)]
pub(super) struct Slots(Mutex<Holders>);

#[derive(Debug, Default)]
struct Holders {
    next: u64,
    all: BTreeMap<u64, Holder>,
}

#[derive(Debug)]
struct Holder {
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
pub(super) struct Slot {
    slots: Arc<Slots>,
    number: u64,
    leave: Arc<Notify>,
}

impl Slots {
    /// Takes a place for a new connection, and has those leave that have been idle or incomplete for longest and are
    /// too many.
    pub(super) fn take(self: &Arc<Self>) -> Slot {
        let leave = Arc::new(Notify::new());
        let mut holders = self.holders();
        loop {
            let number = holders.placed().count();
            let Some(longest) = holders.placed().min_by_key(|occupant| occupant.since) else { break };
            let may_stay = number < MAX_CONNECTIONS && longest.since.elapsed() < TIME_TO_ASK;
            if number < MAX_PLACES || may_stay {
                break;
            }
            longest.standing = Standing::Leaving;
            longest.leave.notify_one();
        }
        let number = holders.next;
        holders.next += 1;
        let occupant = Holder { since: Instant::now(), standing: Standing::Placed, leave: Arc::clone(&leave) };
        holders.all.insert(number, occupant);
        drop(holders);
        Slot { slots: Arc::clone(self), number, leave }
    }

    fn holders(&self) -> MutexGuard<'_, Holders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holders {
    fn placed(&mut self) -> impl Iterator<Item = &mut Holder> {
        self.all.values_mut().filter(|occupant| occupant.standing == Standing::Placed)
    }
}

impl Slot {
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
                self.slots.holders().all.get(&self.number).is_none_or(|occupant| occupant.standing == Standing::Leaving);
            if leaving {
                return;
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Holder)) {
        if let Some(occupant) = self.slots.holders().all.get_mut(&self.number) {
            change(occupant);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.holders().all.remove(&self.number);
    }
}
