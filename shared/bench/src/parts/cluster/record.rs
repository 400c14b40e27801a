//! What recording costs in a cluster.

use std::collections::BTreeMap;

use serde::Serialize;
use testkit::postgres::PostgresServer;

use super::PRIMARIES;
use crate::{
    load::{Load, Pressure},
    measure::{Measured, measure},
    parts::setting::{POSTS, Setting, VIEWERS, say},
    population::Population,
    report::{Chart, Figure, Goal, Table, markdown::number},
    servers::{Kind, Server},
    stats::median,
    stores::{Nodes, Stores},
    workload::{Shape, Size, Views, Workload},
};

const CONNECTIONS: usize = 100;
/// What a new view costs Redis, against one server.
const REDIS_GOAL: f64 = 1.3;
const WORKLOADS: [Workload; 3] = [
    Workload { size: Size::Single, views: Views::New, shape: Shape::Uniform },
    Workload { size: Size::Single, views: Views::Repeated, shape: Shape::Uniform },
    Workload { size: Size::Batch, views: Views::New, shape: Shape::Uniform },
];

/// The rounds, by the place of the workload and the number of primaries, which is 0 without a cluster.
#[derive(Debug, Default, Serialize)]
pub(super) struct Recorded {
    rounds: BTreeMap<String, Vec<Measured>>,
}

pub(super) async fn run(setting: &Setting, postgres: &PostgresServer) -> anyhow::Result<Recorded> {
    let population = Population::new(POSTS, VIEWERS);
    let mut servers = Vec::new();
    for primaries in layouts() {
        let nodes = if primaries == 0 { Nodes::one().await } else { Nodes::cluster(primaries).await };
        let stores = Stores::on(nodes, postgres, &setting.programs.binaries, &population).await?;
        servers.push((primaries, Server::start_on(stores, Kind::ViewIngest, &setting.programs, postgres, &[]).await?));
    }
    let mut recorded = Recorded::default();
    let pressure = Pressure { connections: CONNECTIONS, seconds: setting.seconds };
    for workload in WORKLOADS {
        let load = Load::new(&population, workload, setting.seconds)?;
        for round in 0..setting.rounds {
            servers.rotate_left(1);
            for (primaries, server) in &servers {
                let measured = measure(server, postgres, &population, &load, pressure).await?;
                say(format_args!(
                    "round {}: {workload}, {}: {} views/s, {} µs CPU a view, Redis {}",
                    round + 1,
                    name(*primaries),
                    number(measured.views_per_second.round()),
                    number(measured.server_cpu),
                    number(measured.redis_cpu)
                ));
                // The order of the rounds is the same everywhere, so that they can be compared one by one.
                recorded.rounds.entry(key(workload, *primaries)).or_default().push(measured);
            }
        }
    }
    Ok(recorded)
}

/// Returns the numbers of primaries; 0 is one server without a cluster.
fn layouts() -> impl Iterator<Item = usize> {
    [0].into_iter().chain(PRIMARIES)
}

fn name(primaries: usize) -> String {
    match primaries {
        0 => "one server".to_owned(),
        1 => "1 primary".to_owned(),
        _ => format!("{primaries} primaries"),
    }
}

fn key(workload: Workload, primaries: usize) -> String {
    format!("{workload}, {}", name(primaries))
}

impl Recorded {
    fn of(&self, workload: Workload, primaries: usize) -> &[Measured] {
        self.rounds.get(&key(workload, primaries)).map_or(&[], Vec::as_slice)
    }

    /// Returns a number against that of one server: the middle of what the rounds say.
    fn ratio(&self, workload: Workload, primaries: usize, of: fn(&Measured) -> f64) -> f64 {
        let rounds = self.of(workload, primaries).iter().zip(self.of(workload, 0));
        median(rounds.map(|(cluster, one)| of(cluster) / of(one)))
    }

    pub(super) fn figures(&self) -> Vec<Figure> {
        let [new, repeated, batches] = WORKLOADS;
        let most = PRIMARIES[PRIMARIES.len() - 1];
        let figure = |what: &str, workload, of: fn(&Measured) -> f64| {
            Figure::new(format!("{what}, {most} primaries against one server"), self.ratio(workload, most, of), "×")
        };
        vec![
            figure("CPU of Redis for a new view", new, |one| one.redis_cpu).goal(Goal::AtMost(REDIS_GOAL)),
            figure("CPU of Redis for a repeated view", repeated, |one| one.redis_cpu),
            figure("CPU of Redis for a new view in batches of 100", batches, |one| one.redis_cpu),
            figure("CPU of view-ingest for a new view", new, |one| one.server_cpu),
            figure("CPU of view-ingest for a new view in batches of 100", batches, |one| one.server_cpu),
            figure("new views a second on the same processors", new, |one| one.views_per_second),
        ]
    }

    pub(super) fn table(&self) -> Table {
        let rows = WORKLOADS.into_iter().flat_map(|workload| {
            layouts().map(move |primaries| {
                let Measured { views_per_second, p99, server_cpu, redis_cpu, .. } =
                    Measured::median(self.of(workload, primaries));
                let ratio = self.ratio(workload, primaries, |one| one.redis_cpu);
                let mut row = vec![workload.to_string(), name(primaries)];
                row.extend([views_per_second.round(), p99, server_cpu, redis_cpu, ratio].map(number));
                row
            })
        });
        let columns = ["views", "Redis", "views/s", "p99 ms", "CPU µs/view", "Redis µs/view", "× one server"];
        Table { title: "Recording".to_owned(), columns: columns.map(str::to_owned).to_vec(), rows: rows.collect() }
    }

    pub(super) fn charts(&self) -> Vec<Chart> {
        let bars = |of: fn(&Measured) -> f64| {
            layouts().map(|primaries| (name(primaries), of(&Measured::median(self.of(WORKLOADS[0], primaries))))).collect()
        };
        let chart = |file: &str, title: &str, unit: &str, of| Chart::Bars {
            file: file.to_owned(),
            title: title.to_owned(),
            unit: unit.to_owned(),
            bars: bars(of),
        };
        vec![
            chart("cluster-redis.svg", "CPU of Redis for a new view, by primaries", "µs", |one| one.redis_cpu),
            chart("cluster-cpu.svg", "CPU of view-ingest for a new view, by primaries", "µs", |one| one.server_cpu),
            chart("cluster-rate.svg", "New views on the same two processors", "views a second", |one| one.views_per_second),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_to_one_server_are_taken_round_by_round() {
        let rounds = |costs: [f64; 3]| costs.map(|redis_cpu| Measured { redis_cpu, ..Measured::default() }).to_vec();
        let rounds = [(key(WORKLOADS[0], 0), rounds([10.0, 20.0, 10.0])), (key(WORKLOADS[0], 3), rounds([12.0, 20.0, 13.0]))];
        let recorded = Recorded { rounds: rounds.into() };
        assert_eq!(recorded.ratio(WORKLOADS[0], 3, |one| one.redis_cpu), 1.2);
        assert_eq!(recorded.figures()[0].holds(), Some(true));
    }
}
