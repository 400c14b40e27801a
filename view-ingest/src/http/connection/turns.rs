//! Turns of connections at being read: strangers, and whoever sends much, get only a share of each round of the worker.
//!
//! A view goes through several tasks of its worker (the connection, the recorder, the connection again), and each of
//! them waits for a round of everything else that is ready. What a request is worth is known only when its head has
//! been parsed, so a connection whose last request had no good token is a stranger's, and so many reads of such
//! connections are all that there is in a round. The others wait in line.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU8,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

/// How many reads of strangers a round has. Of those that cost the most of a worker's time, this many take less than a
/// millisecond.
const READS_PER_ROUND: i64 = 16;

/// No turn is waited for.
const IDLE: u8 = 0;
/// The connection stands in line.
const QUEUED: u8 = 1;
/// It is the connection's turn.
const GRANTED: u8 = 2;

/// The rounds of one worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rounds(Arc<Mutex<Round>>);

#[derive(Debug)]
struct Round {
    /// How many reads are left in this round. Below zero where somebody has taken more, which the next rounds make up for.
    left: i64,
    line: VecDeque<Arc<Place>>,
    /// Whether a task begins the next round as soon as this one is over.
    is_going_on: bool,
}

/// A connection's place in line.
#[derive(Debug, Default)]
struct Place {
    state: AtomicU8,
    waker: AtomicWaker,
}

impl Default for Round {
    fn default() -> Self {
        Self { left: READS_PER_ROUND, line: VecDeque::new(), is_going_on: false }
    }
}

/// The turns of one connection.
pub(super) struct Turns {
    rounds: Rounds,
    place: Arc<Place>,
    /// Whether the connection is amid its turn.
    has_turn: bool,
}

impl Turns {
    pub(super) fn new(rounds: Rounds) -> Self {
        Self { rounds, place: Arc::default(), has_turn: false }
    }

    /// Waits for the connection's turn at a read. Further reads of the same turn do not wait, and are charged.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_turn {
            self.rounds.round().left -= 1;
            return Poll::Ready(());
        }
        let Place { state, waker } = &*self.place;
        if state.load(Acquire) != GRANTED {
            let mut round = self.rounds.round();
            if round.left <= 0 {
                // It may be another one each time.
                waker.register(cx.waker());
                if state.swap(QUEUED, AcqRel) != QUEUED {
                    round.line.push_back(Arc::clone(&self.place));
                }
                if !std::mem::replace(&mut round.is_going_on, true) {
                    drop(round);
                    tokio::spawn(self.rounds.clone().go_on());
                }
                return Poll::Pending;
            }
            round.left -= 1;
        }
        state.store(IDLE, Release);
        self.has_turn = true;
        Poll::Ready(())
    }

    /// Ends the turn: nothing more is there to be read, or the request is answered.
    pub(super) fn end(&mut self) {
        self.has_turn = false;
    }
}

impl Rounds {
    /// Begins one round after the other, as long as somebody stands in line.
    async fn go_on(self) {
        loop {
            // Everything that is ready has its turn.
            tokio::task::yield_now().await;
            let mut round = self.round();
            round.left = (round.left + READS_PER_ROUND).min(READS_PER_ROUND);
            while round.left > 0
                && let Some(place) = round.line.pop_front()
            {
                round.left -= 1;
                place.state.store(GRANTED, Release);
                place.waker.wake();
            }
            if round.line.is_empty() {
                round.is_going_on = false;
                return;
            }
        }
    }

    fn round(&self) -> MutexGuard<'_, Round> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;

    use super::*;

    fn turn(turns: &mut Turns) -> impl Future<Output = ()> {
        poll_fn(move |cx| turns.poll_turn(cx))
    }

    /// As many connections as a round has reads, each with its turn.
    fn full(rounds: &Rounds) -> Vec<Turns> {
        let mut all: Vec<Turns> = (0..READS_PER_ROUND).map(|_| Turns::new(rounds.clone())).collect();
        assert!(all.iter_mut().all(|turns| turn(turns).now_or_never().is_some()));
        all
    }

    #[tokio::test]
    async fn who_finds_a_round_full_has_a_turn_in_the_next_one() {
        let rounds = Rounds::default();
        let _all = full(&rounds);
        let mut late = Turns::new(rounds.clone());
        assert!(turn(&mut late).now_or_never().is_none());
        assert!(turn(&mut late).now_or_never().is_none(), "however often it is polled");
        turn(&mut late).await;
        assert!(turn(&mut late).now_or_never().is_some(), "and reads on");
        late.end();
        turn(&mut late).await;
    }

    #[tokio::test]
    async fn what_is_taken_too_much_is_made_up_for() {
        let rounds = Rounds::default();
        let mut all = full(&rounds);
        for _ in 0..3 * READS_PER_ROUND {
            assert!(turn(&mut all[0]).now_or_never().is_some());
        }
        let mut late = Turns::new(rounds.clone());
        let mut waits = Box::pin(turn(&mut late));
        let mut number = 0;
        while waits.as_mut().now_or_never().is_none() {
            tokio::task::yield_now().await;
            number += 1;
        }
        assert!(number >= 3, "{number} rounds");
    }

    #[tokio::test]
    async fn a_connection_that_goes_away_keeps_nobody_waiting() {
        let rounds = Rounds::default();
        drop(full(&rounds));
        let (mut gone, mut late) = (Turns::new(rounds.clone()), Turns::new(rounds));
        assert!(turn(&mut gone).now_or_never().is_none());
        assert!(turn(&mut late).now_or_never().is_none());
        drop(gone);
        turn(&mut late).await;
    }
}
