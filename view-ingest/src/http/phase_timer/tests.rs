use super::*;

const SECOND: Duration = Duration::from_secs(1);

impl Clock {
    fn set_ms(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Relaxed);
    }
}

fn limits() -> Limits {
    Limits {
        max_batch: 1,
        max_connections: 1,
        max_queue: 1,
        reads_require_token: false,
        header_timeout: SECOND,
        body_timeout: SECOND,
        idle_timeout: SECOND,
        write_timeout: 10 * SECOND,
        viewer_rate: None,
    }
}

fn timer() -> (Arc<Clock>, PhaseTimer) {
    let clock = Arc::new(Clock::new());
    (Arc::clone(&clock), PhaseTimer::new(clock))
}

#[test]
fn a_request_that_came_in_after_the_sweep_is_answered() {
    let limits = limits();
    let (clock, timer) = timer();
    assert_eq!(timer.due(&limits), Due::Nothing);
    clock.set_ms(1_001);
    assert_eq!(timer.due(&limits), Due::Look);
    timer.looked(false);
    assert_eq!(timer.due(&limits), Due::End);
    // From the head to the answer, and after it.
    for phase in [HEAD, BUSY, IDLE] {
        timer.enter(phase);
        assert_eq!(timer.due(&limits), Due::Nothing, "{phase}");
    }
    clock.set_ms(3_000);
    timer.begin();
    clock.set_ms(9_000);
    assert_eq!(timer.due(&limits), Due::Nothing, "a request has its own deadlines");
}

#[test]
fn a_connection_is_not_taken_apart_under_an_answer() {
    let limits = Limits { idle_timeout: 3 * SECOND, ..limits() };
    let (clock, timer) = timer();
    timer.writes(1);
    clock.set_ms(3_000);
    assert_eq!(timer.due(&limits), Due::Nothing);
    clock.set_ms(3_001);
    assert_eq!(timer.due(&limits), Due::End, "nobody takes for ever");
}

#[test]
fn an_answer_has_one_deadline_however_many_parts_it_is_taken_in() {
    let limits = Limits { write_timeout: SECOND, idle_timeout: 10 * SECOND, ..limits() };
    let (clock, timer) = timer();
    for now in [0, 500, 1_000, 1_001] {
        clock.set_ms(now);
        assert_eq!(timer.due(&limits) == Due::NotTaken, now > 1_000, "{now}");
        timer.writes(1);
    }
    timer.written();
    timer.writes(1);
    assert_eq!(timer.due(&limits), Due::Nothing, "the next answer has its own");
}

#[test]
fn only_who_is_waited_for_gives_way_and_only_as_it_was_seen() {
    let (clock, timer) = timer();
    clock.set_ms(7);
    timer.received(1);
    assert_eq!(timer.yields_since_ms(), Some(7), "half a head");
    timer.begin();
    assert_eq!(timer.yields_since_ms(), None);
    assert!(!timer.give_way(7));
    clock.set_ms(8);
    timer.awaits_body();
    assert_eq!(timer.yields_since_ms(), Some(8), "half a body");
    timer.has_body();
    clock.set_ms(9);
    assert!(!timer.answered());
    assert!(!timer.give_way(8), "it has been used since");
    assert!(timer.give_way(9));
    assert!(!timer.give_way(9), "once");
    assert_eq!(timer.due(&limits()), Due::End);
    timer.begin();
    assert_eq!(timer.due(&limits()), Due::Nothing, "what came in between is answered");
    assert!(timer.answered(), "and is the last");
}

#[test]
fn a_read_that_waits_is_refused_for_another_connection_s_sake() {
    let (clock, timer) = timer();
    timer.begin();
    clock.set_ms(5);
    let waiting = timer.waits();
    assert_eq!(timer.yields_since_ms(), Some(5));
    assert!(timer.give_way(5));
    assert_eq!(timer.due(&limits()), Due::NoRoom);
    timer.writes(1);
    assert_eq!(timer.due(&limits()), Due::End, "not in the middle of an answer before it");
    timer.written();
    drop(waiting);
    assert_eq!(timer.due(&limits()), Due::Nothing, "its answer is there");
}

#[test]
fn who_was_let_in_a_moment_ago_is_spared_until_the_first_request() {
    let (clock, timer) = timer();
    assert!(timer.is_fresh());
    timer.received(1);
    assert!(timer.is_fresh(), "half a head");
    timer.begin();
    timer.answered();
    assert!(!timer.is_fresh());
    let late = PhaseTimer::new(Arc::clone(&clock));
    clock.set_ms(250);
    assert!(!late.is_fresh());
}

#[test]
fn one_request_is_answered_in_a_turn() {
    let (_clock, timer) = timer();
    timer.turn();
    assert!(!timer.begin());
    timer.answered();
    assert!(timer.begin(), "the next one waits for the next turn");
    timer.turn();
    timer.answered();
    timer.turn();
    assert!(!timer.begin());
}

#[test]
fn large_buffers_are_given_back_soon() {
    let limits = Limits { header_timeout: 10 * SECOND, idle_timeout: 75 * SECOND, ..limits() };
    let (clock, timer) = timer();
    timer.received(SMALL_BUFFER + 1);
    timer.begin();
    timer.answered();
    clock.set_ms(1_001);
    assert_eq!(timer.due(&limits), Due::Look);
    timer.looked(false);
    assert_eq!(timer.due(&limits), Due::Nothing);
}
