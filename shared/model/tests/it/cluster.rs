//! A partition of a cluster: its node fails over to a replica that lacks the last of what it had, and its slot moves.
//!
//! What a node has acknowledged and its replica has not got is lost, by the nature of a cluster. What is promised all the
//! same: who is lost is counted with his next try, and nobody is called a duplicate whom nobody has.

use model::{
    properties,
    setup::{Bounds, Setup},
    variant::Variant,
};

use crate::support::{breaks, breaks_anyway, holds};

/// One viewer whose client sends twice, and one process of each kind.
const SMALL: Setup = Setup { requests: [2, 0], ingests: 1, daemons: 1, leaders: 1, ..Setup::PLAIN };

const FAILOVER: Setup = Setup { failovers: 1, ..SMALL };

const MOVE: Setup = Setup { moves: 1, ..SMALL };

/// A failover while a slot is half moved, which may separate an entry from its viewer. A scan is to mend what that leaves.
const BOTH: Setup = Setup { failovers: 1, moves: 1, lost_together: false, ..SMALL };

/// The same with both viewers, and a process of view-ingest that lives on.
const BOTH_VIEW: Setup = Setup { requests: [1, 1], ingests_die: false, ..BOTH };

fn with(variant: Variant, setup: Setup) -> Setup {
    Setup { variant, ..setup }
}

#[test]
fn a_failover_loses_an_entry_only_together_with_its_viewer_in_the_set() {
    holds(FAILOVER, 5_600);
    holds(Setup { ingests: 2, ..FAILOVER }, 38_000);
    holds(Setup { daemons: 2, leaders: 2, ..FAILOVER }, 33_000);
    holds(Setup { failovers: 2, ..FAILOVER }, 19_000);
    holds(Setup { clocks_differ: true, ..FAILOVER }, 5_600);
}

#[test]
fn a_failover_may_come_with_anything_else_that_goes_wrong() {
    holds(Setup { lost_replies: 1, requests: [1, 0], ..FAILOVER }, 1_000);
    holds(Setup { orphans: 1, late_pipelines: true, ..FAILOVER }, 33_000);
    holds(Setup { expiries: 1, ..FAILOVER }, 42_000);
    holds(Setup { bypasses: 1, refusals: 1, database_away: true, requests: [1, 0], ..FAILOVER }, 1_000);
    holds(Setup { scans: 1, ..FAILOVER }, 32_000);
    holds(Setup { bad_pairs: 1, ..FAILOVER }, 29_000);
}

/// Then the set calls a viewer a duplicate whose entry is gone.
#[test]
fn a_view_is_lost_when_its_outbox_is_on_another_node_which_fails_over() {
    let elsewhere = with(Variant::OutboxElsewhere, FAILOVER);
    breaks(elsewhere, properties::SET);
    breaks(elsewhere, properties::ACKNOWLEDGED);
}

/// That is what a range of slots is like which two nodes share. The scan finds such viewers by the numbers, unless
/// somebody else has gone missing in these: then they are right by chance, and the set is believed until it expires.
#[test]
fn a_scan_finds_whose_entry_was_lost_on_another_node_unless_two_errors_cancel_out() {
    let elsewhere = Setup { lost_together: false, ..with(Variant::OutboxElsewhere, FAILOVER) };
    holds(elsewhere, 6_000);
    holds(Setup { requests: [1, 1], ingests_die: false, ..elsewhere }, 8_000);
    breaks_anyway(Setup { requests: [1, 1], ..elsewhere }, properties::STRANGERS);
}

/// The entry is lost with the node that has answered, and the set is written on the one that takes over.
#[test]
fn a_view_is_lost_when_its_set_is_written_over_another_connection_than_its_entry() {
    let two = with(Variant::RecordsOverTwoConnections, Setup { ingests: 2, ..FAILOVER });
    breaks(two, properties::SET);
    breaks(two, properties::ACKNOWLEDGED);
}

/// The replica gives an id once more that the node has given before it failed.
#[test]
fn a_view_is_lost_when_another_nodes_entry_of_the_same_id_is_deleted() {
    let setup = Setup { requests: [1, 1], clocks_differ: true, ..FAILOVER };
    breaks(with(Variant::DeletesAnywhere, setup), properties::ACKNOWLEDGED);
}

#[test]
fn nothing_is_lost_or_doubled_while_a_slot_moves_and_is_left_half_moved() {
    holds(MOVE, 3_700);
    holds(Setup { ingests: 2, ..MOVE }, 28_000);
    holds(Setup { daemons: 2, leaders: 2, ..MOVE }, 25_000);
    holds(Setup { lost_replies: 1, ..MOVE }, 60_000);
    holds(Setup { orphans: 1, late_pipelines: true, ..MOVE }, 16_000);
    holds(Setup { expiries: 1, ..MOVE }, 24_000);
    holds(Setup { scans: 1, ..MOVE }, 20_000);
    holds(Setup { bad_pairs: 1, deletions: 1, ..MOVE }, 18_000);
}

/// A moved outbox is lost with a node whose replica has not got it, and the set is where it was, or the other way round.
#[test]
fn a_failover_while_a_slot_moves_may_separate_an_entry_from_its_viewer() {
    breaks_anyway(Setup { lost_together: true, ..BOTH }, properties::SET);
}

#[test]
fn a_cycle_brings_into_order_what_a_failover_leaves_while_a_slot_moves() {
    holds(BOTH, 147_000);
    holds(Setup { clocks_differ: true, requests: [1, 0], ..BOTH }, 1_000);
    holds(Setup { requests: [1, 0], daemons: 2, leaders: 2, ..BOTH }, 57_000);
    holds(BOTH_VIEW, 210_000);
}

/// As with outboxes on other nodes.
#[test]
fn a_cycle_does_not_where_two_errors_cancel_out() {
    breaks_anyway(Setup { ingests_die: true, ..BOTH_VIEW }, properties::STRANGERS);
}

/// A source that has failed over does not know that its slot is moving, and sends nobody to the importing node.
#[test]
fn views_stay_hidden_when_a_half_moved_outbox_is_read_at_its_owner_only() {
    breaks(with(Variant::ReadsOwnerOnly, Setup { requests: [1, 0], ..BOTH }), properties::REST);
}

#[test]
fn views_are_lost_when_a_cluster_is_mended_by_replacing_one_outbox_by_another() {
    breaks(with(Variant::MendsUndrained, Setup { ingests_die: false, ..BOTH }), properties::ACKNOWLEDGED);
}

/// The node that they were read from is still there. The one that has the outbox by now has lost an entry, and its post
/// is told that it is acknowledged.
#[test]
fn viewers_stay_duplicates_when_entries_are_settled_whose_outbox_has_moved_away() {
    breaks(with(Variant::SettlesBehindAMove, Setup { daemons_die: false, ..BOTH_VIEW }), properties::STRANGERS);
}

#[test]
fn counts_are_off_by_one_after_a_failover_or_while_a_slot_moves() {
    let within = |above, below, setup| {
        holds(Setup { bounds: Some(Bounds { above, below, exact_at_rest: false }), ingests_die: false, ..setup }, 460);
    };
    // A view that is lost; or that was stored past Redis, which is told a moment later.
    within(1, 1, FAILOVER);
    within(0, 1, MOVE);
    within(1, 1, BOTH);
}

/// The keys are moved from a server without a cluster, with an outbox that has entries.
const LEGACY: Setup = Setup { legacy: 1, requests: [1, 1], ingests: 1, ingests_die: false, ..Setup::PLAIN };

#[test]
fn counts_are_exact_when_the_outbox_of_before_a_cluster_is_drained_before_all_others() {
    holds(LEGACY, 2_900);
    let one = Setup { daemons: 1, leaders: 1, ..LEGACY };
    holds(Setup { requests: [2, 2], bounds: Some(Bounds::EXACT), ..LEGACY }, 7_500);
    holds(Setup { requests: [2, 1], ingests: 2, ..one }, 37_000);
    holds(Setup { requests: [2, 1], ingests_die: true, ..one }, 45_000);
}

/// A post is settled up to an entry, which says nothing of entries of another outbox.
#[test]
fn a_count_is_wrong_when_a_post_is_settled_by_the_ids_of_two_outboxes() {
    breaks(with(Variant::SettlesTwoOutboxes, LEGACY), properties::CALM);
}
