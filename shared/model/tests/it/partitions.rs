//! Two partitions of a cluster at once, on nodes of their own until a slot moves.

use std::{collections::BTreeSet, time::Instant};

use model::{
    partitions::{EVERYTHING, Partitions},
    properties,
    setup::Setup,
    variant::Variant,
};
use stateright::{Checker, HasDiscoveries, Model};

use crate::support::{LIMIT, REACHABLE};

/// A viewer of a post of each partition, one process of view-ingest, and one of view-syncd for each partition.
const EACH: Setup = Setup { requests: [1, 0], ingests: 1, daemons: 1, leaders: 1, ..Setup::PLAIN };

#[test]
fn nothing_is_lost_or_doubled_when_two_processes_drain_a_partition_each() {
    holds(EACH, 2_300);
    holds(Setup { failovers: 1, ..EACH }, 42_000);
    holds(Setup { moves: 1, ..EACH }, 37_000);
}

/// Whoever gives a lease back may not have heard yet that somebody else has taken it.
#[test]
fn nothing_is_lost_or_doubled_when_two_processes_believe_to_have_the_leases_of_both() {
    holds(Setup { daemons: 2, leaders: 2, ..EACH }, 7_000);
}

#[test]
fn a_node_that_has_both_partitions_may_fail_over_while_a_slot_is_half_moved() {
    holds(Setup { failovers: 1, moves: 1, ingests_die: false, daemons_die: false, lost_together: false, ..EACH }, 630_000);
}

/// The node of the other partition was away, and its set is written.
#[test]
fn a_view_is_lost_when_a_batch_goes_on_where_only_another_outbox_has_answered() {
    let any = Setup { variant: Variant::AnyOutboxSuffices, ..EACH };
    breaks(any, properties::ACKNOWLEDGED);
    breaks(any, EVERYTHING);
}

/// As for a single partition.
fn holds(setup: Setup, least_states: usize) {
    let started = Instant::now();
    let checker = Partitions(setup).checker().timeout(LIMIT).spawn_bfs().join();
    let states = checker.unique_state_count();
    println!("holds in {states} states, in {:.1} s: {setup:?}", started.elapsed().as_secs_f64());
    let mut found = checker.discoveries();
    for reachable in REACHABLE {
        assert!(found.remove(reachable).is_some(), "never reached: {reachable}");
    }
    if let Some((property, path)) = found.into_iter().next() {
        panic!("does not hold: {property}\n{:#?}", path.into_actions());
    }
    assert!(started.elapsed() < LIMIT, "not all states were checked");
    assert!(states >= least_states, "only {states} states, but there were {least_states} once");
}

fn breaks(setup: Setup, property: &'static str) {
    let finish = HasDiscoveries::AllOf(BTreeSet::from([property]));
    let checker = Partitions(setup).checker().timeout(LIMIT).finish_when(finish).spawn_bfs().join();
    let Some(path) = checker.discovery(property) else {
        panic!("holds in {} states, but should not: {property}", checker.unique_state_count());
    };
    println!("{:?} breaks: {property}\n{:#?}", setup.variant, path.into_actions());
    let as_built = Partitions(Setup { variant: Variant::AsBuilt, ..setup }).checker().timeout(LIMIT).spawn_bfs().join();
    assert!(as_built.discovery(property).is_none(), "does not hold as it is built either: {property}");
}
