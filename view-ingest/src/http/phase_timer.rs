//! In which phase a connection is and for how long, told by the connection and read by those who look for what is
//! overdue or may give way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::cli::Limits;

/// What hyper's buffers begin with, in bytes.
const SMALL_BUFFER: usize = 8 * 1024;
/// How long a connection is idle before its large buffers are given back.
const SHRINK_AFTER: Duration = Duration::from_secs(1);
/// How long a connection is listened to after its last answer.
const LINGER: Duration = Duration::from_secs(2);

/// Between two requests, unless the next one has begun together with the last one.
const IDLE: u8 = 0;
/// A request's head has begun to arrive.
const HEAD: u8 = 1;
/// A request is being answered.
const BUSY: u8 = 2;
/// Between two requests, and nothing of the next one has come.
const QUIET: u8 = 3;
/// A request's body is waited for.
const BODY: u8 = 4;
/// The last answer is written, and what the client still sends is thrown away.
const LINGERING: u8 = 5;
/// A request is being answered that may be refused for another connection's sake.
const WAITING: u8 = 6;
/// How long a connection on which no request has come yet is spared, as far as others can give way: its first one is on
/// its way.
const TIME_TO_ASK: Duration = Duration::from_millis(250);

/// What a timer says of nothing that is to be taken.
const TAKEN: u64 = u64::MAX;

/// The clock of all timers, which is read without asking the system, and is as exact as it is swept.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    now_ms: AtomicU64,
}

/// In which phase a connection is, and since when.
#[derive(Debug)]
pub(crate) struct PhaseTimer {
    phase: AtomicU8,
    since_ms: AtomicU64,
    /// Since when the client has yet to take a part of an answer, or [`TAKEN`].
    writing_since_ms: AtomicU64,
    /// How many bytes have gone through hyper's buffers since they were new: they may be as large.
    passed: AtomicUsize,
    /// How many bytes have come in since the last answer.
    unanswered: AtomicUsize,
    admitted_ms: u64,
    /// Whether a request has come.
    has_asked: AtomicBool,
    /// Whether the last request had a good token.
    is_trusted: AtomicBool,
    /// Whether a request has been answered since the connection's task had its turn.
    has_answered: AtomicBool,
    /// Whether its place has been given to another connection.
    gives_way: AtomicBool,
    /// Whether the process stops, and nobody is waited for any more.
    is_last: AtomicBool,
    clock: Arc<Clock>,
    overdue: Notify,
}

/// What is to be done about a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// To find out whether the next request has begun, and to begin with small buffers anew.
    Look,
    /// To tell that the request took too long, and end.
    TooSlow,
    /// To tell that there is no room for the request, and end.
    NoRoom,
    /// To end, as an answer is not taken.
    NotTaken,
    End,
}

/// A request that may be refused for another connection's sake.
pub(crate) struct WaitingGuard<'a>(&'a PhaseTimer);

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.enter(BUSY);
    }
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), now_ms: AtomicU64::new(0) }
    }

    /// Brings the clock up to date.
    pub(crate) fn tick(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Two threads may do this at once, and time goes only forwards.
        self.now_ms.fetch_max(now, Relaxed);
    }

    /// Returns the milliseconds since the start, as of the last tick.
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Relaxed)
    }
}

impl PhaseTimer {
    pub(crate) fn new(clock: Arc<Clock>) -> Self {
        Self {
            phase: AtomicU8::new(IDLE),
            since_ms: AtomicU64::new(clock.now_ms()),
            writing_since_ms: AtomicU64::new(TAKEN),
            passed: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            admitted_ms: clock.now_ms(),
            has_asked: AtomicBool::new(false),
            is_trusted: AtomicBool::new(false),
            has_answered: AtomicBool::new(false),
            gives_way: AtomicBool::new(false),
            is_last: AtomicBool::new(false),
            clock,
            overdue: Notify::new(),
        }
    }

    fn enter(&self, phase: u8) {
        self.phase.store(phase, Relaxed);
        self.since_ms.store(self.clock.now_ms(), Relaxed);
    }

    /// There is one who writes, so this need not be one step.
    fn pass(&self, length: usize) {
        self.passed.store(self.passed.load(Relaxed).saturating_add(length), Relaxed);
    }

    /// Notes that bytes have come in, and how many.
    pub(crate) fn received(&self, length: usize) {
        self.pass(length);
        self.unanswered.store(self.unanswered.load(Relaxed).saturating_add(length), Relaxed);
        if matches!(self.phase.load(Relaxed), IDLE | QUIET) {
            self.enter(HEAD);
        }
    }

    /// Notes that the request that is being answered has a good token.
    pub(crate) fn trust(&self) {
        self.is_trusted.store(true, Relaxed);
    }

    /// Returns whether the last request had a good token.
    pub(super) fn is_trusted(&self) -> bool {
        self.is_trusted.load(Relaxed)
    }

    /// Returns how many bytes have come in since the last answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.load(Relaxed)
    }

    /// Notes that a request is there. Returns whether another one was answered in this turn of the connection's task.
    pub(crate) fn begin(&self) -> bool {
        self.enter(BUSY);
        self.has_asked.store(true, Relaxed);
        self.is_trusted.store(false, Relaxed);
        self.has_answered.load(Relaxed)
    }

    /// Notes that the request that is being answered may be refused for another connection's sake, until the guard is
    /// dropped.
    pub(crate) fn waits(&self) -> WaitingGuard<'_> {
        self.enter(WAITING);
        WaitingGuard(self)
    }

    /// Notes that a request's answer is there. Returns whether it is the last one, as the place has been given away
    /// meanwhile.
    pub(crate) fn answered(&self) -> bool {
        self.enter(IDLE);
        self.unanswered.store(0, Relaxed);
        self.has_answered.store(true, Relaxed);
        self.gives_way.load(Relaxed)
    }

    /// Notes that the connection's task has its turn.
    pub(crate) fn turn(&self) {
        self.has_answered.store(false, Relaxed);
    }

    /// Notes that the rest of a body is waited for.
    pub(crate) fn awaits_body(&self) {
        self.enter(BODY);
    }

    /// Notes that a body has come to its end, however it has.
    pub(crate) fn has_body(&self) {
        self.enter(BUSY);
    }

    /// Notes that so much of an answer is to be taken.
    pub(crate) fn writes(&self, length: usize) {
        self.pass(length);
        // An answer's time is not begun anew with each of its parts.
        if !self.is_writing() {
            self.writing_since_ms.store(self.clock.now_ms(), Relaxed);
        }
    }

    /// Notes that all has been taken.
    pub(crate) fn written(&self) {
        self.writing_since_ms.store(TAKEN, Relaxed);
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.writing_since_ms.load(Relaxed) != TAKEN
    }

    /// Notes that the last answer is written.
    pub(crate) fn lingers(&self) {
        self.enter(LINGERING);
    }

    pub(crate) fn is_lingering(&self) -> bool {
        self.phase.load(Relaxed) == LINGERING
    }

    /// Nobody is waited for from now on.
    pub(crate) fn stop(&self) {
        self.is_last.store(true, Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_last.load(Relaxed)
    }

    /// Enters the phase that a look has shown the connection to be in since its last answer. Its buffers are new.
    pub(crate) fn looked(&self, has_begun: bool) {
        self.passed.store(0, Relaxed);
        self.phase.store(if has_begun { HEAD } else { QUIET }, Relaxed);
    }

    /// Returns when the connection may be overdue.
    pub(crate) async fn overdue(&self) {
        self.overdue.notified().await;
    }

    /// Wakes the connection when it has been in its phase for too long.
    pub(crate) fn sweep(&self, limits: &Limits) {
        if self.due(limits) != Due::Nothing {
            self.overdue.notify_one();
        }
    }

    /// Returns since when the connection could give way: one that is idle, incomplete, or does not take its answer. Who
    /// has had the last answer comes before all others. A request that is being answered keeps its connection.
    pub(crate) fn yields_since_ms(&self) -> Option<u64> {
        if self.gives_way.load(Relaxed) {
            return None;
        }
        match self.phase.load(Relaxed) {
            BUSY => None,
            LINGERING => Some(0),
            _ => Some(self.since_ms.load(Relaxed)),
        }
    }

    /// Returns whether the connection was let in a moment ago and its first request may be on its way: others give way
    /// before it.
    pub(crate) fn is_fresh(&self) -> bool {
        let age = self.clock.now_ms().saturating_sub(self.admitted_ms);
        !self.has_asked.load(Relaxed) && u128::from(age) < TIME_TO_ASK.as_millis()
    }

    /// Ends the connection for another one's sake, if it could give way since that time still. Should a request come in
    /// between, it is answered first.
    pub(crate) fn give_way(&self, since_ms: u64) -> bool {
        let gives_way = self.yields_since_ms() == Some(since_ms) && !self.gives_way.swap(true, Relaxed);
        if gives_way {
            self.overdue.notify_one();
        }
        gives_way
    }

    /// Notes that the connection has ended.
    pub(crate) fn ended(&self) {
        self.gives_way.store(true, Relaxed);
    }

    /// Returns what is to be done about the connection. A request that is being answered, and one whose body is read,
    /// have their own deadlines.
    pub(crate) fn due(&self, limits: &Limits) -> Due {
        let now = self.clock.now_ms();
        let is_over = |since: u64, limit: Duration| u128::from(now.saturating_sub(since)) > limit.as_millis();
        let phase = self.phase.load(Relaxed);
        if self.gives_way.load(Relaxed) && phase != BUSY {
            let may_be_told = phase == WAITING && !self.is_writing();
            return if may_be_told { Due::NoRoom } else { Due::End };
        }
        let writing_since = self.writing_since_ms.load(Relaxed);
        if writing_since != TAKEN && is_over(writing_since, limits.write_timeout) {
            return Due::NotTaken;
        }
        let (limit, due) = match phase {
            // To take the connection apart would lose the rest of the answer.
            IDLE if writing_since == TAKEN => {
                let look = limits.header_timeout.min(limits.idle_timeout);
                let is_large = self.passed.load(Relaxed) > SMALL_BUFFER;
                (if is_large { look.min(SHRINK_AFTER) } else { look }, Due::Look)
            }
            IDLE | QUIET => (limits.idle_timeout, Due::End),
            HEAD if writing_since == TAKEN => (limits.header_timeout, Due::TooSlow),
            // A refusal in the middle of an answer would be taken for a part of it.
            HEAD => (limits.header_timeout, Due::End),
            LINGERING => (LINGER, Due::End),
            _ => return Due::Nothing,
        };
        if is_over(self.since_ms.load(Relaxed), limit) { due } else { Due::Nothing }
    }
}

#[cfg(test)]
mod tests;
