//! A Redis Cluster of one, two and three primaries against one server: recording, and the drain. And one of whose primaries
//! is killed.

mod drain;
mod failover;
mod record;

use super::setting::Setting;
use crate::{machine::Machine, report::Part, stores};

/// How many primaries the clusters have.
const PRIMARIES: [usize; 3] = [1, 2, 3];

const HOW: &str = "One server against clusters of one, two and three primaries, without replicas: those would take their share of the \
    same processors. All run on this machine, together with view-ingest and the load, so the rates show what a cluster costs, and not \
    what more machines bring. They are measured in turn, the order rotates, and ratios are taken within each round. Recording: as in \
    the comparison of servers, uniform posts; Redis's CPU is that of all primaries together. A primary is killed: three primaries \
    with a replica each, a steady load over connections of their own for its posts and the others', kill -9 in the midst of it; \
    the times are those of all answers from half a second before the kill on. The drain: view-syncd \
    have divided the partitions among them; they are stopped (SIGSTOP) while view-ingest fills the outboxes with batches of 100 \
    posts, and the clock runs from the moment when they go on until all outboxes are empty. Two drains are worth it where PostgreSQL \
    has the processors: one alone keeps two of them busy.";

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Part> {
    let postgres = stores::postgres().await;
    let recorded = record::run(setting, &postgres).await?;
    let failed_over = failover::run(setting, &postgres).await?;
    let drained = drain::run(setting, &postgres).await?;
    Ok(Part {
        title: "A cluster against one server".to_owned(),
        how: HOW.to_owned(),
        machine: Machine::look(),
        figures: [recorded.figures(), failed_over.figures(), drained.figures()].concat(),
        tables: vec![recorded.table(), failed_over.table(), drained.table()],
        charts: recorded.charts().into_iter().chain([drained.chart()]).collect(),
        raw: serde_json::json!({ "record": recorded, "failover": failed_over, "drain": drained }),
    })
}
