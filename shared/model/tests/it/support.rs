//! Running the model checker and telling what it found.

use model::{setup::Setup, trace};
use stateright::{Checker, Model};
use std::time::Instant;

pub(crate) fn run(name: &str, setup: Setup) {
    let started = Instant::now();
    let checker = setup.checker().spawn_bfs().join();
    println!(
        "{name}: {} states ({} steps), depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64()
    );
    for (property, path) in checker.discoveries() {
        if property.starts_with("all ") || property.starts_with("everybody has") {
            continue;
        }
        println!("FOUND {property}\n{}", trace::describe(path));
    }
}
