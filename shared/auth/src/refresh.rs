//! When a set of keys is fetched: every few minutes, when an operator says so, and when a token names a key that is not
//! in it. Whatever tokens name, the issuer is asked every half minute at most, and by one request at a time.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep_until, timeout},
};

/// How long the issuer is left alone, from the beginning of one request to the beginning of the next.
const PAUSE: Duration = Duration::from_secs(30);
/// How old a set may be, so that a key that the issuer has withdrawn goes away.
const MAX_AGE: Duration = Duration::from_secs(300);
/// How long a request waits for keys.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many requests may wait for keys.
const MAX_WAITING: usize = 512;

/// What came of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// The keys that there are now are all that there will be for a while.
    Enough,
    /// Too many wait already.
    TooMany,
}

/// When the set is fetched, and who waits for it.
#[derive(Debug)]
pub(super) struct Refresh {
    state: Mutex<State>,
    /// How many requests to the issuer have come to their end.
    finished: watch::Sender<u64>,
    /// A token names a key that is not there.
    wanted: Notify,
    /// An operator wants the set.
    ordered: Notify,
    waiting: Semaphore,
    fetches: Family<Outcome, Counter>,
    fetched_at: Gauge,
}

#[derive(Debug, Default)]
struct State {
    /// When the last request to the issuer began.
    begun: Option<Instant>,
    is_running: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl Default for Refresh {
    fn default() -> Self {
        let fetches = Family::<Outcome, Counter>::default();
        for outcome in ["ok", "failed"] {
            drop(fetches.get_or_create(&Outcome { outcome }));
        }
        Self {
            state: Mutex::default(),
            finished: watch::Sender::new(0),
            wanted: Notify::new(),
            ordered: Notify::new(),
            waiting: Semaphore::new(MAX_WAITING),
            fetches,
            fetched_at: Gauge::default(),
        }
    }
}

impl Refresh {
    /// Adds the numbers to a binary's own.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("key_fetches", "Requests for the issuer's keys, by outcome", self.fetches.clone());
        registry.register_with_unit(
            "keys_fetched_timestamp",
            "When the issuer's keys were fetched last, since 1970; 0 where they never were",
            Unit::Seconds,
            self.fetched_at.clone(),
        );
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a request to the issuer is under way, or could be sent now.
    pub(super) fn may_bring_more(&self) -> bool {
        let State { begun, is_running } = *self.state();
        is_running || begun.is_none_or(|begun| begun.elapsed() >= PAUSE)
    }

    /// Waits for the end of the request to the issuer that is under way or could be sent now, and has it sent.
    pub(super) async fn wait(&self) -> Waited {
        // Before it is looked whether there is a request, so that its end is not missed.
        let mut finished = self.finished.subscribe();
        if !self.may_bring_more() {
            return Waited::Enough;
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Waited::TooMany };
        self.wanted.notify_one();
        // Whoever has waited long enough makes do with the keys that there are.
        let _ = timeout(PATIENCE, finished.changed()).await;
        Waited::Enough
    }

    /// Has the set fetched now, whenever it was fetched last.
    pub(super) fn order(&self) {
        self.ordered.notify_one();
    }

    /// Notes that a request to the issuer begins.
    pub(super) fn begin(&self) {
        *self.state() = State { begun: Some(Instant::now()), is_running: true };
    }

    /// Notes that the request has come to its end, and lets those go on who wait for it.
    pub(super) fn finish(&self, is_well: bool) {
        self.state().is_running = false;
        self.fetches.get_or_create(&Outcome { outcome: if is_well { "ok" } else { "failed" } }).inc();
        if is_well {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.fetched_at.set(now.as_secs().try_into().unwrap_or(i64::MAX));
        }
        self.finished.send_modify(|number| *number += 1);
    }

    /// Waits until the next request to the issuer is due. Returns whether an operator has ordered it.
    pub(super) async fn due(&self, is_well: bool) -> bool {
        let begun = self.state().begun.unwrap_or_else(Instant::now);
        let regular = sleep_until(begun + if is_well { MAX_AGE } else { PAUSE });
        tokio::pin!(regular);
        loop {
            tokio::select! {
                () = self.ordered.notified() => return true,
                () = &mut regular => return false,
                // What was wanted while a request was under way is answered by it.
                () = self.wanted.notified() => if begun.elapsed() >= PAUSE {
                    return false;
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use tokio::time::sleep;

    use super::*;

    /// Follows the refresh with an issuer that takes its time. Returns how often it has been asked.
    fn follow(refresh: &Arc<Refresh>, takes: Duration, is_well: bool) -> Arc<AtomicUsize> {
        let asked = Arc::new(AtomicUsize::new(0));
        let (refresh, counter) = (Arc::clone(refresh), Arc::clone(&asked));
        tokio::spawn(async move {
            loop {
                refresh.begin();
                counter.fetch_add(1, SeqCst);
                sleep(takes).await;
                refresh.finish(is_well);
                refresh.due(is_well).await;
            }
        });
        asked
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_is_asked_every_half_minute_at_most_whatever_is_wanted() {
        let refresh = Arc::new(Refresh::default());
        let asked = follow(&refresh, Duration::from_millis(100), true);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(95) {
            refresh.wait().await;
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(asked.load(SeqCst), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_set_is_fetched_every_five_minutes_and_after_a_failure_every_half_minute() {
        for (is_well, expected) in [(true, 3), (false, 21)] {
            let refresh = Arc::new(Refresh::default());
            let asked = follow(&refresh, Duration::from_millis(100), is_well);
            sleep(Duration::from_secs(605)).await;
            assert_eq!(asked.load(SeqCst), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_operators_order_is_carried_out_at_once_or_behind_what_is_under_way() {
        let refresh = Arc::new(Refresh::default());
        let asked = follow(&refresh, Duration::from_secs(1), true);
        sleep(Duration::from_millis(500)).await;
        refresh.order();
        refresh.order();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(asked.load(SeqCst), 2);
        sleep(Duration::from_secs(3)).await;
        assert_eq!(asked.load(SeqCst), 2);
        refresh.order();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(asked.load(SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_patient_for_two_seconds_and_not_at_all_where_nothing_will_come() {
        let refresh = Arc::new(Refresh::default());
        follow(&refresh, Duration::from_secs(4), true);
        let begin = Instant::now();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(refresh.wait().await, Waited::Enough);
        assert_eq!(begin.elapsed().as_secs(), 2);
        // The same request to the issuer ends meanwhile.
        sleep(Duration::from_millis(500)).await;
        assert_eq!(refresh.wait().await, Waited::Enough);
        assert_eq!(begin.elapsed().as_secs(), 4);
        assert!(!refresh.may_bring_more());
        assert_eq!(refresh.wait().await, Waited::Enough);
        assert_eq!(begin.elapsed().as_secs(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait() {
        let refresh = Arc::new(Refresh::default());
        follow(&refresh, Duration::from_secs(1), true);
        let waiting: Vec<_> = (0..MAX_WAITING + 10)
            .map(|_| {
                let refresh = Arc::clone(&refresh);
                tokio::spawn(async move { refresh.wait().await })
            })
            .collect();
        let mut too_many = 0;
        for waited in waiting {
            too_many += usize::from(waited.await.unwrap() == Waited::TooMany);
        }
        assert_eq!(too_many, 10);
        assert_eq!(refresh.waiting.available_permits(), MAX_WAITING);
    }
}
