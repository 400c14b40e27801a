//! Running the model checker, and saying what it found.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use model::{properties, setup::Setup, trace, variant::Variant};
use stateright::{Checker, HasDiscoveries, Model};

/// Nothing here takes longer, even on a slow machine. Whatever is cut off by it has not been checked, and fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// What must be reachable: otherwise nothing of interest has happened in the states that were checked.
pub(crate) const REACHABLE: [&str; 2] = [properties::ALL_DRAINED, properties::ALL_SENT];

/// Checks every state that can be reached, and that they are at least as many as this: a model that has lost its steps
/// by accident holds everything.
pub(crate) fn holds(setup: Setup, least_states: usize) {
    let started = Instant::now();
    let checker = setup.checker().timeout(LIMIT).spawn_bfs().join();
    let states = checker.unique_state_count();
    println!(
        "holds in {states} states, by {} steps at most {} deep, in {:.1} s: {setup:?}",
        checker.state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64()
    );
    let mut found = checker.discoveries();
    for reachable in REACHABLE {
        assert!(found.remove(reachable).is_some(), "never reached: {reachable}");
    }
    if let Some((property, path)) = found.into_iter().next() {
        panic!("does not hold: {property}\n{}", trace::describe(&setup, path));
    }
    assert!(started.elapsed() < LIMIT, "not all states were checked");
    assert!(states >= least_states, "only {states} states, but there were {least_states} once");
}

/// Checks until a property is found not to hold, and prints how that happens. What is broken must be to blame for it:
/// in the same world the protocol as it is built holds the property.
pub(crate) fn breaks(setup: Setup, property: &'static str) {
    breaks_anyway(setup, property);
    let as_built = Setup { variant: Variant::AsBuilt, ..setup };
    let checker = as_built.checker().timeout(LIMIT).spawn_bfs().join();
    if let Some(path) = checker.discovery(property) {
        panic!("does not hold as it is built either: {property}\n{}", trace::describe(&as_built, path));
    }
}

/// The same for what is broken by something else than the variant.
pub(crate) fn breaks_anyway(setup: Setup, property: &'static str) {
    let setup = Setup { symmetric: false, ..setup };
    let finish = HasDiscoveries::AllOf(BTreeSet::from([property]));
    let checker = setup.checker().timeout(LIMIT).finish_when(finish).spawn_bfs().join();
    let Some(path) = checker.discovery(property) else {
        panic!("holds in {} states, but should not: {property}", checker.unique_state_count());
    };
    println!(
        "{:?} breaks after {} states: {property}\n{}",
        setup.variant,
        checker.unique_state_count(),
        trace::describe(&setup, path)
    );
}
