//! What the model has found to be amiss. Each test shows how it breaks without the remedy that the code has now, and that it holds with it.

use model::{
    properties,
    setup::{Setup, Variant},
};

use crate::support::{breaks, breaks_anyway, holds};

/// One viewer and one daemon.
const SMALL: Setup = Setup { requests: [1, 0], daemons: 1, ..Setup::PLAIN };

/// The same, whose client sends twice, and an `XADD` that is refused.
const REFUSED: Setup = Setup { requests: [2, 0], refusals: 1, ..SMALL };

/// The scan went from set to set. A hash without one (its post has only been read, or is too popular for its viewers to be given back) kept
/// the count that it was made with, when a view went past Redis and its process died before it could tell.
#[test]
fn a_scan_that_goes_from_set_to_set_leaves_a_stale_count() {
    breaks_anyway(Setup { bypasses: 1, requests: [1, 1], scan_finds_lone_hashes: false, ..SMALL }, properties::LONE);
}

#[test]
fn a_scan_that_finds_hashes_too_leaves_no_stale_count() {
    let setup = Setup { bypasses: 1, ..Setup::PLAIN };
    holds(setup, 8_900);
    holds(Setup { daemons: 1, expiries: 1, database_away: true, ..setup }, 23_000);
}

/// A pipeline is no transaction: Redis may refuse its `XADD` for want of memory and take the `SADD` that follows, because memory has become
/// free in between. Until the process takes the viewer out of the set again, another process calls the viewer a duplicate. Where the first one
/// dies after that and before it has stored the view, or PostgreSQL does not take it, nothing is left by which the view could be found.
#[test]
fn a_view_is_lost_when_xadd_alone_is_refused_and_the_set_is_sent_with_it() {
    let refused = Setup { variant: Variant::OnePipeline, ..REFUSED };
    breaks(refused, properties::ACKNOWLEDGED);
    breaks(refused, properties::REST);
    breaks(Setup { ingests_die: false, database_away: true, ..refused }, properties::REST);
}

/// No repair can be relied on to find such a view by the numbers, because two errors may cancel each other out. What helps is not to write
/// the set.
#[test]
fn no_view_is_lost_when_the_set_is_not_sent_because_xadd_was_refused() {
    let setup = Setup { refusals: 1, database_away: true, ..Setup::PLAIN };
    holds(Setup { requests: [2, 0], expiries: 1, ..setup }, 21_000);
    holds(Setup { daemons: 1, ..setup }, 6_400);
}

/// A statement that waits for another one with the same pairs adds nothing, and gives the count that it saw when it began. Its
/// acknowledgement then writes a count that is too low, until the next scan. So the counts of posts to which a statement has added nothing are
/// asked for once more.
#[test]
fn a_count_is_too_low_until_the_next_scan_when_two_statements_meet() {
    let setup = Setup { requests: [1, 0], ingests: 1, ingests_die: false, slow_statements: true, ..Setup::PLAIN };
    breaks_anyway(setup, properties::CALM);
}
