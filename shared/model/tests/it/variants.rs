//! The protocol with something broken in it: the model must notice. Each test prints how the damage comes about.

use model::{
    properties,
    setup::{Bounds, Setup},
    variant::Variant,
};

use crate::support::breaks;

/// One viewer whose client sends twice, and one process of view-syncd: what is broken shows in a small world.
const SMALL: Setup = Setup { requests: [2, 0], daemons: 1, leaders: 1, ..Setup::PLAIN };

/// Two viewers, two processes of view-syncd, and nothing goes wrong but that these die.
const CALM: Setup = Setup { ingests: 1, ingests_die: false, ..Setup::PLAIN };

/// The same with a single process of view-syncd, and counts are looked at.
const COUNTS: Setup =
    Setup { bounds: Some(Bounds::EXACT), daemons: 1, leaders: 1, requests: [2, 1], torn_pipelines: false, ..CALM };

/// One of the two viewers sends to two processes at once.
const RACE: Setup =
    Setup { ingests: 2, overtaking: false, bounds: Some(Bounds { above: 1, below: 0, exact_at_rest: true }), ..COUNTS };

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
    breaks(with(Variant::AnswerBeforeRecord, COUNTS), properties::BELOW);
}

#[test]
fn a_view_is_lost_when_its_post_is_locked_and_it_is_settled_all_the_same() {
    breaks(with(Variant::HeldIsSettled, SMALL), properties::ACKNOWLEDGED);
}

#[test]
fn a_count_is_wrong_when_younger_entries_of_a_post_are_settled_before_those_that_are_held() {
    breaks(with(Variant::OvertakesHeld, CALM), properties::CALM);
}

#[test]
fn a_count_is_wrong_when_entries_are_settled_twice() {
    breaks(with(Variant::SettlesRepeats, CALM), properties::CALM);
    breaks(with(Variant::SettlesRepeats, COUNTS), properties::BELOW);
}

#[test]
fn a_count_is_wrong_when_increments_are_not_waited_for() {
    breaks(with(Variant::NoGrace, CALM), properties::CALM);
    breaks(with(Variant::NoGrace, Setup { ingests: 2, requests: [1, 1], ..COUNTS }), properties::ABOVE);
    let orphan = Setup { ingests_die: true, orphans: 1, requests: [1, 1], ..COUNTS };
    breaks(with(Variant::NoGrace, orphan), properties::ABOVE);
}

/// The increment that is missing may be that of any older entry.
#[test]
fn a_count_is_wrong_when_increments_are_waited_for_by_the_age_of_the_first_entry() {
    breaks(with(Variant::GraceOfFirst, CALM), properties::CALM);
    breaks(with(Variant::GraceOfFirst, COUNTS), properties::ABOVE);
}

#[test]
fn acked_passes_recorded_when_it_is_not_capped_and_a_hash_expires() {
    breaks(with(Variant::AckedUncapped, Setup { expiries: 1, ingests: 1, ..SMALL }), properties::CAP);
}

#[test]
fn a_count_is_wrong_when_persisted_is_incremented_instead_of_set() {
    breaks(with(Variant::PersistedIncremented, CALM), properties::CALM);
    breaks(with(Variant::PersistedIncremented, COUNTS), properties::BELOW);
}

#[test]
fn a_viewer_is_counted_twice_when_the_statement_counts_pairs_that_it_did_not_insert() {
    breaks(with(Variant::CountsRepeats, SMALL), properties::COUNT);
    breaks(with(Variant::CountsRepeats, SMALL), properties::ONCE);
}

/// Until it is drained, and not only for as long as it takes.
#[test]
fn a_viewer_counts_twice_when_who_was_second_does_not_take_him_back() {
    breaks(with(Variant::RacedLeft, RACE), properties::ABOVE);
}

/// Those whose count has not grown, and those that `recorded` does not count: a drain that dies hides the first.
#[test]
fn a_count_is_wrong_when_repeated_pairs_are_known_only_by_the_count() {
    breaks(with(Variant::RepeatedByCount, RACE), properties::CALM);
}

#[test]
fn a_count_stays_wrong_when_the_scan_does_not_write_it() {
    breaks(with(Variant::NoRefresh, Setup { bypasses: 1, requests: [1, 1], ..SMALL }), properties::REST);
}

#[test]
fn a_count_is_set_back_when_the_scan_writes_over_what_it_has_not_seen() {
    let beside = Setup { scans: 1, daemons: 2, bounds: Some(Bounds { above: 1, ..Bounds::EXACT }), ..COUNTS };
    let loose = Some(Bounds { above: 1, below: 0, exact_at_rest: false });
    breaks(with(Variant::RefreshBlindly, Setup { bounds: loose, ..beside }), properties::BELOW);
    let torn = Setup { torn_pipelines: true, requests: [1, 1], bounds: loose, ..beside };
    breaks(with(Variant::RefreshLooksLate, torn), properties::BELOW);
}

#[test]
fn a_count_is_too_high_when_a_leader_scans_before_it_knows_that_everything_is_settled() {
    breaks(with(Variant::ScansInDoubt, Setup { scans: 1, ..COUNTS }), properties::ABOVE);
}

#[test]
fn a_count_is_too_high_when_a_standby_writes_it_while_something_is_waiting() {
    let loose = Some(Bounds { above: 1, below: 0, exact_at_rest: false });
    let setup = Setup { scans: 1, daemons: 2, requests: [1, 1], bounds: loose, ..COUNTS };
    breaks(with(Variant::StandbyRefreshes, setup), properties::ABOVE);
}

#[test]
fn a_count_stays_wrong_when_sets_that_differ_are_not_united_with_the_ledger() {
    breaks(with(Variant::NoUnion, SMALL), properties::REST);
}

#[test]
fn a_count_is_too_high_when_a_union_writes_it_while_something_is_waiting() {
    let loose = Some(Bounds { above: 1, below: 0, exact_at_rest: false });
    let setup = Setup { scans: 1, torn_pipelines: true, bounds: loose, ..COUNTS };
    breaks(with(Variant::UnionWritesPending, setup), properties::ABOVE);
}

#[test]
fn a_count_stays_wrong_when_drifts_are_not_repaired() {
    breaks(with(Variant::NoRepair, Setup { expiries: 1, ..SMALL }), properties::REST);
}

#[test]
fn a_count_is_too_high_when_a_drift_is_repaired_whose_increment_is_on_its_way() {
    breaks(with(Variant::RepairsYoung, Setup { scans: 1, ..COUNTS }), properties::ABOVE);
}

#[test]
fn a_count_is_wrong_when_a_read_brings_it_although_views_were_accepted_unseen() {
    let bounds = Some(Bounds { above: 1, below: 0, exact_at_rest: false });
    breaks(with(Variant::ReadTrustsUnseen, Setup { reads: 1, policies: 1, bounds, ..COUNTS }), properties::BELOW);
}
