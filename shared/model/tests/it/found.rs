//! What the model has found to be amiss. Each test shows how it breaks without the remedy that the code has now, and
//! that it holds with it.

use model::{properties, setup::Setup, variant::Variant};

use crate::support::{breaks, breaks_anyway, holds};

/// One viewer and one process of view-syncd.
const SMALL: Setup = Setup { requests: [1, 0], daemons: 1, leaders: 1, ..Setup::PLAIN };

/// The same, whose client sends twice, and an `XADD` that is refused.
const REFUSED: Setup = Setup { requests: [2, 0], refusals: 1, ..SMALL };

/// The scan went from set to set. A hash without one (its post has only been read, or is too popular for its viewers to
/// be given back) kept the count that it was made with, when a view went past Redis and its process died before it
/// could tell.
#[test]
fn a_scan_that_goes_from_set_to_set_leaves_a_stale_count() {
    breaks_anyway(Setup { bypasses: 1, requests: [1, 1], scan_finds_lone_hashes: false, ..SMALL }, properties::LONE);
}

#[test]
fn a_scan_that_finds_hashes_too_leaves_no_stale_count() {
    let setup = Setup { bypasses: 1, ..Setup::PLAIN };
    holds(setup, 17_000);
    holds(Setup { daemons: 1, leaders: 1, expiries: 1, database_away: true, ..setup }, 51_700);
}

/// A pipeline is no transaction: Redis may refuse its `XADD` for want of memory and take the `SADD` that follows,
/// because memory has become free in between. Until the process takes the viewer out of the set again, another process
/// calls the viewer a duplicate. Where the first one dies after that and before it has stored the view, or PostgreSQL
/// does not take it, nothing is left by which the view could be found.
#[test]
fn a_view_is_lost_when_xadd_alone_is_refused_and_the_set_is_sent_with_it() {
    let refused = Setup { variant: Variant::OnePipeline, ..REFUSED };
    breaks(refused, properties::ACKNOWLEDGED);
    breaks(refused, properties::REST);
    breaks(Setup { ingests_die: false, database_away: true, ..refused }, properties::REST);
}

/// No repair can be relied on to find such a view by the numbers, because two errors may cancel each other out. What
/// helps is not to write the set.
#[test]
fn no_view_is_lost_when_the_set_is_not_sent_because_xadd_was_refused() {
    let setup = Setup { refusals: 1, database_away: true, ..Setup::PLAIN };
    holds(Setup { requests: [2, 0], expiries: 1, ..setup }, 160_000);
    holds(Setup { daemons: 1, leaders: 1, ..setup }, 9_900);
}

/// A statement that waits for another one with the same pairs adds nothing, and gives the count that it saw when it
/// began. When it is settled, a count is written that is too low, until the next scan. So the counts of posts to which
/// a statement has added nothing are asked for once more.
#[test]
fn a_count_is_too_low_until_the_next_scan_when_two_statements_meet() {
    let setup = Setup { requests: [1, 0], ingests: 1, ingests_die: false, slow_statements: true, ..Setup::PLAIN };
    breaks_anyway(setup, properties::CALM);
}

/// A drain stores a batch and fails before it settles anything. The next one reads a part of these entries, and
/// PostgreSQL's count has the others' views, too, which `recorded` counts until they are settled.
#[test]
fn a_count_is_too_high_when_it_holds_more_than_what_is_settled_with_it() {
    breaks(Setup { variant: Variant::CountUnbounded, ..counts(SMALL) }, properties::ABOVE);
}

/// A process that was second with a viewer takes him out of `recorded`, and the outbox has him twice. When other views
/// are waiting, their increments hide that more is acknowledged than was recorded, and what is acknowledged too often
/// is missing in the count.
#[test]
fn a_count_is_too_low_when_repeated_pairs_are_known_only_by_the_surplus() {
    breaks(Setup { variant: Variant::RepeatedBySurplus, ..race() }, properties::BELOW);
    breaks(Setup { variant: Variant::RacedSubtracted, ..race() }, properties::BELOW);
}

/// A pair is settled while its process has not yet heard that it was second; then nothing will ever be settled that it
/// could note.
#[test]
fn a_count_stays_wrong_when_a_pair_is_noted_as_repeated_that_is_settled_already() {
    let overtaken = Setup { bounds: None, overtaking: true, ..race() };
    breaks(Setup { variant: Variant::RacedBlindly, ..overtaken }, properties::CALM);
}

/// Entries are settled while there is no hash, and a process that records one of them hears only after the first touch
/// that it was second.
#[test]
fn a_drift_is_made_when_the_repair_believes_in_repeated_pairs_that_are_not_there() {
    let setup = Setup { database_away: true, ingests: 2, requests: [1, 1], ..SMALL };
    breaks(Setup { variant: Variant::RepairTrustsRepeated, ..setup }, properties::REST);
    holds(setup, 7_700);
}

/// A post was viewed while PostgreSQL did not answer, so that nobody knows its count. To leave it unknown until what is
/// waiting is settled is not enough: then the settling has to write it, and the count may hold more than that; or a
/// first touch writes what it has read long before.
#[test]
fn a_count_is_wrong_when_a_first_touch_leaves_it_open_because_something_is_waiting() {
    let away = Setup { database_away: true, ..counts(SMALL) };
    breaks(Setup { variant: Variant::PendingLeftUncounted, ..away }, properties::ABOVE);
    breaks(Setup { variant: Variant::HydrateWritesPending, ..away }, properties::ABOVE);
}

/// Both viewers once, and counts are looked at.
const fn counts(setup: Setup) -> Setup {
    Setup { requests: [2, 1], ingests: 1, ingests_die: false, bounds: Some(model::setup::Bounds::EXACT), ..setup }
}

/// One of them at two processes at once.
const fn race() -> Setup {
    let bounds = Some(model::setup::Bounds { above: 1, below: 0, exact_at_rest: false });
    Setup { ingests: 2, torn_pipelines: false, overtaking: false, bounds, ..counts(SMALL) }
}
