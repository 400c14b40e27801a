//! What befalls the post's row: it is not seen, it is deleted, it comes back with less; and pairs that PostgreSQL does
//! not take.

use model::{
    properties,
    setup::{Bounds, Setup},
    variant::Variant,
};

use crate::support::{breaks, breaks_anyway, holds};

/// One process of view-syncd, and a client that sends twice.
const SMALL: Setup = Setup { requests: [2, 0], daemons: 1, leaders: 1, ..Setup::PLAIN };

/// Two viewers, and PostgreSQL loses what it has.
const RESET: Setup = Setup { resets: 1, requests: [1, 1], ingests: 1, ..SMALL };

fn with(variant: Variant, setup: Setup) -> Setup {
    Setup { variant, ..setup }
}

#[test]
fn nothing_is_lost_while_a_policy_hides_the_row() {
    holds(Setup { policies: 1, ingests: 1, ..Setup::PLAIN }, 45_000);
    holds(Setup { policies: 1, ..SMALL }, 11_000);
    holds(Setup { policies: 2, scans: 1, ingests: 1, ..SMALL }, 17_000);
}

#[test]
fn views_are_lost_when_a_row_that_is_not_seen_is_taken_for_deleted() {
    let hidden = Setup { policies: 1, ..SMALL };
    breaks(with(Variant::UnseenIsDeleted, hidden), properties::ACKNOWLEDGED);
    breaks(with(Variant::UnseenIsDeleted, hidden), properties::SET);
    breaks(with(Variant::UnseenIsDeleted, hidden), properties::REST);
}

#[test]
fn the_views_of_a_post_that_is_deleted_are_among_the_dead_letters() {
    holds(Setup { deletions: 1, ..SMALL }, 12_000);
    holds(Setup { deletions: 1, ingests: 1, ..Setup::PLAIN }, 100_000);
    holds(Setup { deletions: 1, policies: 1, scans: 1, ingests: 1, ..SMALL }, 26_000);
}

#[test]
fn views_are_lost_when_those_of_a_deleted_post_are_dropped_or_buried_late() {
    let deleted = Setup { deletions: 1, ..SMALL };
    breaks(with(Variant::DeletedIsDropped, deleted), properties::ACKNOWLEDGED);
    breaks(with(Variant::DeletesBeforeBurying, deleted), properties::ACKNOWLEDGED);
}

#[test]
fn a_pair_that_is_refused_is_stored_when_postgresql_takes_it() {
    holds(Setup { bad_pairs: 1, ingests: 1, ..Setup::PLAIN }, 98_000);
    holds(Setup { bad_pairs: 2, ..SMALL }, 23_000);
}

#[test]
fn a_pair_is_lost_when_its_letter_is_removed_before_it_is_stored() {
    breaks(with(Variant::UnburiesBeforeCommit, Setup { bad_pairs: 1, ..SMALL }), properties::ACKNOWLEDGED);
}

#[test]
fn nobody_is_called_a_duplicate_for_long_whom_postgresql_has_lost() {
    holds(Setup { daemons_die: false, ..RESET }, 1_100);
    holds(Setup { daemons_die: false, scans: 1, ..RESET }, 10_000);
    holds(Setup { daemons_die: false, scans: 1, daemons: 2, ..RESET }, 86_000);
}

#[test]
fn viewers_stay_duplicates_when_sets_are_not_compared_with_a_ledger_that_has_lost_views() {
    breaks(with(Variant::NoPurge, Setup { daemons_die: false, ..RESET }), properties::STRANGERS);
}

/// Views that come in after the fall may fill it up.
#[test]
fn a_fall_is_not_seen_when_only_counts_after_it_are_compared() {
    breaks(with(Variant::FallsByCount, Setup { daemons_die: false, ..RESET }), properties::STRANGERS);
}

/// The statement that fills the fall up sees it, but nobody hears of it.
#[test]
fn a_fall_is_not_seen_when_view_syncd_dies_with_the_statement_that_fills_it_up() {
    breaks_anyway(RESET, properties::STRANGERS);
}

/// Such an entry may stay for long where it is about a held post, too. Its views were in the ledger, and are lost.
#[test]
fn viewers_stay_duplicates_when_entries_that_are_settled_are_taken_for_waiting() {
    let setup = Setup { daemons_die: false, scans: 1, daemons: 2, ..RESET };
    breaks(with(Variant::PurgeTrustsSettled, setup), properties::STRANGERS);
}

#[test]
fn viewers_stay_duplicates_when_a_fall_is_forgotten_that_came_during_the_comparison() {
    let setup = Setup { daemons_die: false, scans: 1, daemons: 2, ..RESET };
    breaks(with(Variant::PurgeForgetsBlindly, setup), properties::STRANGERS);
}

#[test]
fn somebody_is_forgotten_when_he_is_looked_for_in_the_ledger_before_the_outbox() {
    let setup = Setup { daemons_die: false, scans: 1, daemons: 2, ..RESET };
    breaks(with(Variant::PurgeAsksLedgerFirst, setup), properties::KEPT);
}

/// One viewer is erased, with one process of view-syncd, as the command makes sure of.
const ERASED: Setup = Setup { forgets: 1, requests: [1, 1], ingests: 1, ..SMALL };

#[test]
fn who_is_erased_is_nowhere_and_the_counts_stay() {
    holds(Setup { bounds: Some(Bounds::EXACT), torn_pipelines: false, ingests_die: false, ..ERASED }, 250);
    holds(Setup { expiries: 1, ..ERASED }, 17_000);
}

#[test]
fn who_is_erased_comes_back_where_a_drain_or_a_look_up_is_not_waited_for() {
    breaks(with(Variant::ForgetsPending, ERASED), properties::FORGOTTEN);
    breaks(with(Variant::ForgetsOnce, Setup { expiries: 1, ..ERASED }), properties::FORGOTTEN);
}

#[test]
fn who_is_erased_may_come_back_by_what_was_under_way() {
    // A second drain, as in a failover, or the import of a set that was read before: the command looks again, and takes
    // such a row back.
    breaks_anyway(Setup { daemons: 2, leaders: 2, ..ERASED }, properties::FORGOTTEN);
    breaks_anyway(Setup { scans: 1, ..ERASED }, properties::FORGOTTEN);
}
