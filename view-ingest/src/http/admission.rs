//! The places of connections, for all workers together: a bounded number, and who gives way when all are taken.
//!
//! The connection that has been idle or incomplete for longest gives way to a new one, and so does a read that waits
//! for its permit or for the stores; one that was let in a moment ago comes last. A connection's time is in its phase
//! timer and changes with every request, so nobody keeps them in order: when the first one has to give way, all are
//! looked through and put in line by their time. Whoever comes to be in wait after that has waited for less than
//! everybody in the line, so the line is good until it is used up; who was used meanwhile is passed over. A flood of
//! connections so causes one look through all of them for each time it has replaced them.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use slab::Slab;
use views_core::ticks;

use crate::{
    cli::Limits,
    http::phase_timer::{Clock, PhaseTimer},
    metrics::Metrics,
};

/// How often slow and idle connections are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// After a look through all connections, nobody looks again for so many times as long as it took. It matters where all
/// of them are busy.
const PAUSE_FOR_A_LOOK: u32 = 20;

/// All places.
pub(crate) struct Admission {
    limit: usize,
    metrics: Metrics,
    clock: Arc<Clock>,
    taken: AtomicUsize,
    timers: Mutex<Slab<Arc<PhaseTimer>>>,
    line: Mutex<Line>,
}

/// Those who give way next, the first of them first, each with the time since when it could.
#[derive(Default)]
struct Line {
    waiting: VecDeque<(u64, Arc<PhaseTimer>)>,
    looks_again: Option<Instant>,
}

impl Admission {
    pub(crate) fn new(limit: usize, metrics: Metrics) -> Self {
        let (clock, taken) = (Arc::new(Clock::new()), AtomicUsize::new(0));
        Self { limit, metrics, clock, taken, timers: Mutex::default(), line: Mutex::default() }
    }

    /// Takes a place, if need be another connection's. Returns `None` where all of them are being answered.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Slot> {
        // As exact as connections are many: the order of those that come with one tick is not known.
        self.clock.tick();
        if self.taken.fetch_add(1, Relaxed) >= self.limit && !self.make_room() {
            self.taken.fetch_sub(1, Relaxed);
            return None;
        }
        let timer = Arc::new(PhaseTimer::new(Arc::clone(&self.clock)));
        let number = locked(&self.timers).insert(Arc::clone(&timer));
        self.metrics.connections.inc();
        Some(Slot { admission: Arc::clone(self), timer, number })
    }

    fn make_room(&self) -> bool {
        let line = &mut *locked(&self.line);
        loop {
            while let Some((since, timer)) = line.waiting.pop_front() {
                if timer.give_way(since) {
                    self.metrics.evicted.inc();
                    return true;
                }
            }
            let start = Instant::now();
            if line.looks_again.is_some_and(|again| start < again) {
                return false;
            }
            let timers = locked(&self.timers);
            let waiting = timers.iter().filter_map(|(_, timer)| {
                let since = timer.yields_since_ms()?;
                Some((timer.is_fresh(), since, Arc::clone(timer)))
            });
            let mut waiting: Vec<_> = waiting.collect();
            drop(timers);
            waiting.sort_by_key(|(is_fresh, since, _)| (*is_fresh, *since));
            line.waiting = waiting.into_iter().map(|(_, since, timer)| (since, timer)).collect();
            let end = Instant::now();
            line.looks_again = Some(end + (end - start) * PAUSE_FOR_A_LOOK);
            if line.waiting.is_empty() {
                return false;
            }
        }
    }

    /// Ends what is too slow, for ever.
    pub(crate) async fn sweep(self: Arc<Self>, limits: Limits) {
        let mut interval = ticks::every(SWEEP_INTERVAL);
        loop {
            interval.tick().await;
            self.clock.tick();
            for (_, timer) in locked(&self.timers).iter() {
                timer.sweep(&limits);
            }
        }
    }
}

/// A connection's place, given back when dropped.
pub(crate) struct Slot {
    admission: Arc<Admission>,
    pub(crate) timer: Arc<PhaseTimer>,
    number: usize,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // It may stand in the line still.
        self.timer.ended();
        locked(&self.admission.timers).remove(self.number);
        self.admission.metrics.connections.dec();
        self.admission.taken.fetch_sub(1, Relaxed);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    fn admission(limit: usize) -> Arc<Admission> {
        Arc::new(Admission::new(limit, Metrics::new(&mut Registry::default(), 1)))
    }

    /// Returns whether the place is another connection's by now.
    fn gives_way(slot: &Slot) -> bool {
        slot.timer.yields_since_ms().is_none()
    }

    #[test]
    fn who_is_being_answered_keeps_the_place() {
        let admission = admission(2);
        let (first, second) = (admission.take().unwrap(), admission.take().unwrap());
        first.timer.begin();
        second.timer.begin();
        assert!(admission.take().is_none());
        assert_eq!(admission.taken.load(Relaxed), 2);
        second.timer.answered();
        locked(&admission.line).looks_again = None;
        let third = admission.take().unwrap();
        assert!(gives_way(&second) && !gives_way(&third));
        assert_eq!(admission.metrics.evicted.get(), 1);
        drop((first, second, third));
        assert_eq!((admission.taken.load(Relaxed), admission.metrics.connections.get()), (0, 0));
    }

    #[test]
    fn one_look_is_enough_for_as_many_as_there_are() {
        let admission = admission(1_000);
        let old: Vec<_> = (0..1_000).map(|_| admission.take().unwrap()).collect();
        let mut new = vec![admission.take().unwrap()];
        let looked = locked(&admission.line).looks_again;
        new.extend((1..1_000).map(|_| admission.take().unwrap()));
        assert_eq!(locked(&admission.line).looks_again, looked);
        assert!(old.iter().all(gives_way));
        assert!(!new.iter().any(gives_way));
    }
}
