//! Counterexamples as text: one line for each step, with what it led to.

use std::fmt::Write;

use stateright::Path;

use crate::{actions::Action, world::World};

/// Writes a path down.
#[must_use]
pub fn describe(path: Path<World, Action>) -> String {
    let mut text = String::new();
    let mut action = None;
    for (number, (world, next)) in path.into_vec().into_iter().enumerate() {
        if let Some(action) = action {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{number:3}. {}\n     {}", step(action), state(&world));
        }
        action = next;
    }
    text
}

fn step(action: Action) -> String {
    match action {
        Action::Ingest(place, action) => format!("view-ingest {}: {action:?}", place + 1),
        Action::Syncd(place, action) => format!("view-syncd {}: {action:?}", place + 1),
        Action::SetExpires => "the set expires".to_owned(),
        Action::HashExpires => "the hash expires".to_owned(),
        Action::BothExpire => "set and hash expire".to_owned(),
    }
}

fn state(world: &World) -> String {
    let World { redis, postgres, acknowledged, .. } = world;
    let hash = redis.meta.map_or_else(
        || "none".to_owned(),
        |meta| {
            let persisted = meta.persisted.map_or_else(|| "?".to_owned(), |count| count.to_string());
            format!("{persisted}+{}-{}={}", meta.recorded, meta.acked, meta.live())
        },
    );
    format!(
        "set {:?} hash {hash} outbox {:?} | ledger {:?} count {} | acknowledged {acknowledged:?}",
        redis.set,
        redis.waiting(),
        postgres.ledger,
        postgres.count(),
    )
}
