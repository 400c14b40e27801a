//! Counterexamples as text: one line for each step, with what it led to.

use std::fmt::Write;

use stateright::Path;

use crate::{
    actions::Action,
    daemon::DaemonAction,
    ingest::{
        IngestAction,
        state::{Command, Ingest, Pipeline, Step, commands},
    },
    redis::{Entry, Nodes},
    setup::Setup,
    viewers::name,
    world::World,
};

/// Writes a path down.
#[must_use]
pub fn describe(setup: &Setup, path: Path<World, Action>) -> String {
    let mut text = String::new();
    let mut before: Option<(World, Action)> = None;
    for (number, (world, next)) in path.into_vec().into_iter().enumerate() {
        if let Some((before, action)) = before {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{number:3}. {}\n     {}", step(setup, &before, action), state(setup, &world));
        }
        before = next.map(|next| (world, next));
    }
    text
}

fn step(setup: &Setup, before: &World, action: Action) -> String {
    match action {
        Action::Ingest(place, action) => {
            format!("view-ingest {}: {}", place + 1, ingest_step(setup, &before.ingests[place], action))
        }
        Action::Syncd(place, action @ (DaemonAction::Go | DaemonAction::GoUnheard)) => {
            let unheard = if action == DaemonAction::Go { "" } else { ", but the reply is lost" };
            format!("view-syncd {}: {:?}{unheard}", place + 1, before.daemons[place].task)
        }
        Action::Syncd(place, action) => format!("view-syncd {}: {action:?}", place + 1),
        Action::ReadLooksUp => "somebody reads, and the post is looked up".to_owned(),
        Action::ReadBringsCount => format!("the read brings the count {:?}", before.reader),
        Action::SetExpires => "the set expires".to_owned(),
        Action::HashExpires => "the hash expires".to_owned(),
        Action::BothExpire => "set and hash expire".to_owned(),
        Action::Hide => "a policy hides the row".to_owned(),
        Action::Show => "the policy is lifted".to_owned(),
        Action::Delete => "the application deletes the post".to_owned(),
        Action::TakesOut(viewer) => format!("{} is being erased: taken out of the set", name(viewer)),
        Action::MovesIntoBase => "the row of whom is erased moves into the base".to_owned(),
        Action::TakesOutAgain => "whom is erased is taken out of the set again".to_owned(),
        Action::Cluster(action) => format!("cluster: {action:?}"),
        Action::Reset => "the application creates the post anew".to_owned(),
    }
}

fn ingest_step(setup: &Setup, before: &Ingest, action: IngestAction) -> String {
    let command = |pipeline: Pipeline| match commands(setup.variant)[pipeline.executed] {
        Command::Outbox => "XADD",
        Command::Set => "SADD",
        Command::Recorded => "HINCRBY",
    };
    match (action, before.step, before.adrift) {
        (IngestAction::Check(viewer), ..) => format!("checks for {}", name(viewer)),
        (IngestAction::CheckFails(viewer), ..) => format!("cannot reach Redis for {}", name(viewer)),
        (IngestAction::Execute, Step::Record(pipeline), _) => format!("{} {}", command(pipeline), name(pipeline.viewer)),
        (IngestAction::Refuse, Step::Record(pipeline), _) => {
            format!("{} {} is refused", command(pipeline), name(pipeline.viewer))
        }
        (IngestAction::ExecuteAdrift, _, Some(pipeline)) => {
            format!("{} {}, for which nobody waits", command(pipeline), name(pipeline.viewer))
        }
        _ => format!("{action:?}"),
    }
}

fn entries(entries: &[Entry]) -> String {
    let names: Vec<&str> = entries.iter().map(|entry| name(entry.viewer)).collect();
    format!("[{}]", names.join(" "))
}

fn cluster(nodes: &Nodes) -> String {
    let hidden = nodes.hidden.outbox.as_ref().map_or_else(String::new, |(outbox, _)| format!(" hidden {}", entries(outbox)));
    format!(" | {:?}, post at {}, outbox at {}{hidden}", nodes.slot, nodes.post + 1, nodes.outbox + 1)
}

fn state(setup: &Setup, world: &World) -> String {
    let World { redis, postgres, acknowledged, .. } = world;
    let hash = redis.meta.map_or_else(
        || "none".to_owned(),
        |meta| {
            let persisted = meta.persisted.map_or_else(|| "?".to_owned(), |count| count.to_string());
            let repeated = if meta.repeated.is_empty() { String::new() } else { format!(" repeated {:?}", meta.repeated.0) };
            format!("{persisted}+{}-{}={}{repeated}", meta.recorded, meta.acked, meta.live())
        },
    );
    let nodes = if setup.is_cluster() || setup.legacy > 0 { cluster(&redis.nodes) } else { String::new() };
    let dead = if redis.dead.is_empty() { String::new() } else { format!(" dead {:?}", redis.dead) };
    format!(
        "set {:?} hash {hash} outbox {}{dead}{nodes} | {:?} ledger {:?} count {} | acknowledged {acknowledged:?}",
        redis.set,
        entries(&redis.outbox),
        postgres.row,
        postgres.ledger,
        postgres.count(),
    )
}
