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

/// What a new view costs Redis, against one server.
const REDIS_GOAL: f64 = 1.3;
/// Few views at once share the commands of few others, which a cluster divides further.
const LOADS: [Asked; 5] = [
    Asked { size: Size::Single, views: Views::New, connections: 100 },
    Asked { size: Size::Single, views: Views::New, connections: 1_000 },
    Asked { size: Size::Single, views: Views::Repeated, connections: 100 },
    Asked { size: Size::Single, views: Views::Repeated, connections: 1_000 },
    Asked { size: Size::Batch, views: Views::New, connections: 16 },
];

/// What is asked, by how many at once.
#[derive(Debug, Clone, Copy)]
struct Asked {
    size: Size,
    views: Views,
    connections: usize,
}

impl Asked {
    fn workload(self) -> Workload {
        Workload { size: self.size, views: self.views, shape: Shape::Uniform }
    }

    fn name(self) -> String {
        let size = if self.size == Size::Batch { "batches of 100" } else { "single" };
        let views = if self.views == Views::New { "new" } else { "repeated" };
        format!("{size}, {views}, {} connections", self.connections)
    }
}

/// The rounds, by what is asked and the number of primaries, which is 0 without a cluster.
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
    for asked in LOADS {
        let pressure = Pressure { connections: asked.connections, seconds: setting.seconds };
        let load = Load::new(&population, asked.workload(), setting.seconds)?;
        for round in 0..setting.rounds {
            servers.rotate_left(1);
            for (primaries, server) in &servers {
                let measured = measure(server, postgres, &population, &load, pressure).await?;
                say(format_args!(
                    "round {}: {}, {}: {} views/s, {} µs CPU a view, Redis {}",
                    round + 1,
                    asked.name(),
                    name(*primaries),
                    number(measured.views_per_second.round()),
                    number(measured.server_cpu),
                    number(measured.redis_cpu)
                ));
                // The order of the rounds is the same everywhere, so that they can be compared one by one.
                recorded.rounds.entry(key(asked, *primaries)).or_default().push(measured);
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

fn key(asked: Asked, primaries: usize) -> String {
    format!("{}, {}", asked.name(), name(primaries))
}

impl Recorded {
    fn of(&self, asked: Asked, primaries: usize) -> &[Measured] {
        self.rounds.get(&key(asked, primaries)).map_or(&[], Vec::as_slice)
    }

    /// Returns a number against that of one server: the middle of what the rounds say.
    fn ratio(&self, asked: Asked, primaries: usize, of: fn(&Measured) -> f64) -> f64 {
        let rounds = self.of(asked, primaries).iter().zip(self.of(asked, 0));
        median(rounds.map(|(cluster, one)| of(cluster) / of(one)))
    }

    pub(super) fn figures(&self) -> Vec<Figure> {
        let most = PRIMARIES[PRIMARIES.len() - 1];
        let figure = |what: &str, asked: Asked, of: fn(&Measured) -> f64| {
            let what = format!("{what}, {}: {most} primaries against one server", asked.name());
            Figure::new(what, self.ratio(asked, most, of), "×")
        };
        let redis = LOADS.map(|asked| {
            let figure = figure("CPU of Redis", asked, |one| one.redis_cpu);
            if asked.views == Views::New { figure.goal(Goal::AtMost(REDIS_GOAL)) } else { figure }
        });
        let ingest = LOADS.map(|asked| figure("CPU of view-ingest", asked, |one| one.server_cpu));
        redis.into_iter().chain(ingest).collect()
    }

    pub(super) fn table(&self) -> Table {
        let rows = LOADS.into_iter().flat_map(|asked| {
            layouts().map(move |primaries| {
                let Measured { views_per_second, p99, server_cpu, redis_cpu, .. } = Measured::median(self.of(asked, primaries));
                let ratio = self.ratio(asked, primaries, |one| one.redis_cpu);
                let mut row = vec![asked.name(), name(primaries)];
                row.extend([views_per_second.round(), p99, server_cpu, redis_cpu, ratio].map(number));
                row
            })
        });
        let columns = ["views", "Redis", "views/s", "p99 ms", "CPU µs/view", "Redis µs/view", "× one server"];
        Table { title: "Recording".to_owned(), columns: columns.map(str::to_owned).to_vec(), rows: rows.collect() }
    }

    pub(super) fn charts(&self) -> Vec<Chart> {
        let bars = |of: fn(&Measured) -> f64| {
            let of_all = |asked: Asked| {
                layouts().map(move |primaries| {
                    let bar = format!("{}, {}", name(primaries), asked.connections);
                    (bar, of(&Measured::median(self.of(asked, primaries))))
                })
            };
            LOADS[..2].iter().flat_map(|asked| of_all(*asked)).collect()
        };
        let chart = |file: &str, title: &str, unit: &str, of| Chart::Bars {
            file: file.to_owned(),
            title: format!("{title}, by primaries and connections"),
            unit: unit.to_owned(),
            bars: bars(of),
        };
        vec![
            chart("cluster-redis.svg", "CPU of Redis for a new view", "µs", |one| one.redis_cpu),
            chart("cluster-cpu.svg", "CPU of view-ingest for a new view", "µs", |one| one.server_cpu),
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
        let rounds = [(key(LOADS[0], 0), rounds([10.0, 20.0, 10.0])), (key(LOADS[0], 3), rounds([12.0, 20.0, 13.0]))];
        let recorded = Recorded { rounds: rounds.into() };
        assert_eq!(recorded.ratio(LOADS[0], 3, |one| one.redis_cpu), 1.2);
        assert_eq!(recorded.figures()[0].holds(), Some(true));
    }
}
