//! The protocol with something broken in it: the model must notice. Each test prints how the damage comes about.

use model::{
    properties,
    setup::{Setup, Variant},
};

use crate::support::breaks;

/// One viewer whose client sends twice, and one daemon: what is broken shows in a small world.
const SMALL: Setup = Setup { requests: [2, 0], daemons: 1, ..Setup::PLAIN };

/// Two viewers, two daemons, and nothing goes wrong but that these die.
const CALM: Setup = Setup { ingests: 1, ingests_die: false, ..Setup::PLAIN };

fn with(variant: Variant, setup: Setup) -> Setup {
    Setup { variant, ..setup }
}

#[test]
fn a_view_is_lost_when_the_set_is_written_before_the_outbox() {
    breaks(with(Variant::SetBeforeOutbox, SMALL), properties::ACKNOWLEDGED);
    breaks(with(Variant::SetBeforeOutbox, SMALL), properties::SET);
}

#[test]
fn a_view_is_lost_when_its_entry_is_deleted_before_commit() {
    breaks(with(Variant::DeleteBeforeCommit, SMALL), properties::ACKNOWLEDGED);
    breaks(with(Variant::DeleteBeforeCommit, SMALL), properties::SET);
}

#[test]
fn a_view_is_lost_when_it_is_answered_before_it_is_recorded() {
    breaks(with(Variant::AnswerBeforeRecord, SMALL), properties::ACKNOWLEDGED);
}

#[test]
fn a_count_is_wrong_when_an_acknowledgement_counts_entries_that_it_did_not_delete() {
    breaks(with(Variant::AckCountsRepeats, CALM), properties::CALM);
}

#[test]
fn acked_passes_recorded_when_it_is_not_capped_and_a_hash_expires() {
    breaks(with(Variant::AckedUncapped, Setup { expiries: 1, ..SMALL }), properties::CAP);
}

#[test]
fn a_count_is_wrong_when_persisted_is_incremented_instead_of_set() {
    breaks(with(Variant::PersistedIncremented, CALM), properties::CALM);
}

#[test]
fn a_viewer_is_counted_twice_when_the_statement_counts_pairs_that_it_did_not_insert() {
    breaks(with(Variant::CountsRepeats, SMALL), properties::COUNT);
    breaks(with(Variant::CountsRepeats, SMALL), properties::ONCE);
}

#[test]
fn a_count_stays_wrong_when_the_scan_does_not_write_it() {
    breaks(with(Variant::NoRefresh, Setup { bypasses: 1, requests: [1, 1], ..SMALL }), properties::REST);
}

#[test]
fn a_count_stays_wrong_when_sets_that_differ_are_not_united_with_the_ledger() {
    breaks(with(Variant::NoUnion, SMALL), properties::REST);
}

#[test]
fn a_count_stays_wrong_when_drifts_are_not_repaired() {
    breaks(with(Variant::NoRepair, SMALL), properties::REST);
}
