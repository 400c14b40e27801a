//! What views take of memory: in Redis while they wait for PostgreSQL and afterwards, and in both programs.

use super::setting::{Setting, say};
use crate::{
    client, cpu,
    machine::Machine,
    population::Population,
    report::{Figure, Goal, Part, Table, markdown::number},
    stores::{self, syncd_until_synced},
};

/// Each post is viewed by so many.
const VIEWERS_PER_POST: usize = 100;
const BYTES_GOAL: f64 = 100.0;
const MIB: f64 = 1024.0 * 1024.0;

const HOW: &str = "Views of posts by a hundred viewers each go through view-ingest in batches; the ids are UUIDs. What Redis holds is the \
    growth of `used_memory` since it was empty: sets, hashes, outbox, everything. Then view-syncd brings all of it into PostgreSQL.";

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Part> {
    let population = Population::new(setting.scale(10_000, 1_000), VIEWERS_PER_POST);
    let views = (population.posts.len() * VIEWERS_PER_POST) as f64;
    let postgres = stores::postgres().await;
    let server = setting.ingest(&postgres, &population).await?;
    let empty = server.stores.redis_memory().await?;
    say(format_args!("{views} views of {} posts", population.posts.len()));
    client::fill(server.address, &population, VIEWERS_PER_POST).await?;
    let waiting = server.stores.redis_memory().await? - empty;
    let ingest = cpu::peak_memory(&server.pids())? as f64 / MIB;
    say("view-syncd stores them");
    let daemon = server.stores.syncd(&setting.programs.binaries).start();
    syncd_until_synced(&daemon, 1).await;
    let syncd = cpu::peak_memory(&[daemon.pid()])? as f64 / MIB;
    let stored = server.stores.stored().await?;
    anyhow::ensure!(stored as f64 == views, "{stored} of {views} views are in PostgreSQL");
    let settled = server.stores.redis_memory().await? - empty;
    let row = |when: &str, bytes: u64| vec![when.to_owned(), number(bytes as f64 / MIB), number(bytes as f64 / views)];
    Ok(Part {
        title: "Memory".to_owned(),
        how: HOW.to_owned(),
        machine: Machine::look(),
        figures: vec![
            Figure::new("Redis's memory for a view that is in PostgreSQL", settled as f64 / views, "bytes")
                .goal(Goal::AtMost(BYTES_GOAL)),
            Figure::new("Redis's memory for a view that is still in the outbox too", waiting as f64 / views, "bytes"),
            Figure::new("view-ingest's memory at its peak", ingest, "MiB"),
            Figure::new("view-syncd's memory at its peak", syncd, "MiB"),
        ],
        tables: vec![Table {
            title: format!("Redis with {} views of {} posts", number(views), number(population.posts.len() as f64)),
            columns: ["when", "MiB", "bytes a view"].map(str::to_owned).to_vec(),
            rows: vec![row("before view-syncd", waiting), row("after view-syncd", settled)],
        }],
        charts: Vec::new(),
        raw: serde_json::Value::Null,
    })
}
