//! The drain of a cluster by one and two view-syncd, with one and two drains each.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;
use testkit::{eventually, postgres::PostgresServer, process::Daemon};
use tokio::time::sleep;

use crate::{
    client, cpu,
    parts::{
        drain::postgres_cpu,
        setting::{Setting, say},
    },
    population::Population,
    report::{Chart, Figure, Goal, Table, markdown::number},
    servers::{Kind, Server, processors},
    sql,
    stats::median,
    stores::{Nodes, Stores},
};

const PRIMARIES: usize = 3;
const VIEWERS_PER_POST: usize = 100;
/// How often it is looked whether the outboxes are empty.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long view-syncd may take to divide the partitions among them.
const LONGEST_DIVISION: Duration = Duration::from_secs(60);
/// Two drains against one, where PostgreSQL has the processors.
const RATIO_GOAL: f64 = 1.6;
/// So many they are.
const ENOUGH_PROCESSORS: usize = 8;

/// Who drains what.
struct Way {
    name: &'static str,
    /// Primaries; 0 is one server without a cluster.
    primaries: usize,
    daemons: usize,
    drains: usize,
}

const WAYS: [Way; 4] = [
    Way { name: "one server, one view-syncd", primaries: 0, daemons: 1, drains: 1 },
    Way { name: "3 primaries, one view-syncd, one drain", primaries: PRIMARIES, daemons: 1, drains: 1 },
    Way { name: "3 primaries, one view-syncd, two drains", primaries: PRIMARIES, daemons: 1, drains: 2 },
    Way { name: "3 primaries, two view-syncd, one drain each", primaries: PRIMARIES, daemons: 2, drains: 1 },
];

/// One drain: how fast, and what it cost, in microseconds of CPU and bytes a row.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Drain {
    rows_per_second: f64,
    syncd_cpu: f64,
    redis_cpu: f64,
    postgres_cpu: f64,
    wal_bytes: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Drained {
    views: usize,
    posts: usize,
    /// The rounds of each way.
    rounds: Vec<Vec<Drain>>,
}

pub(super) async fn run(setting: &Setting, postgres: &PostgresServer) -> anyhow::Result<Drained> {
    let population = Population::new(setting.scale(10_000, 1_000), VIEWERS_PER_POST);
    let posts = population.posts.len();
    let mut drained = Drained { views: posts * VIEWERS_PER_POST, posts, rounds: vec![Vec::new(); WAYS.len()] };
    for round in 0..setting.rounds {
        for turn in 0..WAYS.len() {
            let place = (turn + round) % WAYS.len();
            let drain = drain(setting, postgres, &population, &WAYS[place]).await?;
            say(format_args!("round {}: {}: {} rows/s", round + 1, WAYS[place].name, number(drain.rows_per_second.round())));
            drained.rounds[place].push(drain);
        }
    }
    Ok(drained)
}

async fn drain(setting: &Setting, postgres: &PostgresServer, population: &Population, way: &Way) -> anyhow::Result<Drain> {
    let nodes = if way.primaries == 0 { Nodes::one().await } else { Nodes::cluster(way.primaries).await };
    let stores = Stores::on(nodes, postgres, &setting.programs.binaries, population).await?;
    let server = Server::start_on(stores, Kind::ViewIngest, &setting.programs, postgres, &[]).await?;
    let stores = &server.stores;
    let start = |_| stores.syncd(&setting.programs.binaries).arg("--drains").arg(way.drains.to_string()).start();
    let daemons: Vec<Daemon> = (0..way.daemons).map(start).collect();
    for daemon in &daemons {
        daemon.wait_for_line("Sync completed").await;
    }
    let partitions = stores.nodes.keys.partitions().count();
    let fair = i64::try_from((partitions / way.daemons / 2).max(1))?;
    eventually("view-syncd have divided the partitions", LONGEST_DIVISION, || async {
        let sharing: i64 = stores.sql.query_one(sql::SESSIONS_WITH_LOCKS, &[&fair]).await.ok()?.get(0);
        (sharing == i64::try_from(way.daemons).ok()?).then_some(())
    })
    .await;
    daemons.iter().for_each(|daemon| daemon.signal("STOP"));
    client::fill(server.address, population, VIEWERS_PER_POST).await?;
    stores.sql.batch_execute(sql::CHECKPOINT).await?;
    let wal = async || -> anyhow::Result<i64> { Ok(stores.sql.query_one(sql::WAL_BYTES, &[]).await?.get(0)) };
    let (redis, syncd) = (stores.nodes.pids()?, daemons.iter().map(Daemon::pid).collect::<Vec<_>>());
    let (redis_before, syncd_before, postgres_before) = (cpu::used(&redis)?, cpu::used(&syncd)?, postgres_cpu(postgres)?);
    let wal_before = wal().await?;
    daemons.iter().for_each(|daemon| daemon.signal("CONT"));
    let began = Instant::now();
    while stores.nodes.outbox().await? > 0 {
        for daemon in &daemons {
            ensure!(daemon.is_running(), "view-syncd has ended: {}", daemon.output().join("\n"));
        }
        sleep(LOOK_INTERVAL).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let rows = population.posts.len() * VIEWERS_PER_POST;
    let per_row = |time: Duration| time.as_secs_f64() * 1e6 / rows as f64;
    let drain = Drain {
        rows_per_second: rows as f64 / seconds,
        syncd_cpu: per_row(cpu::used(&syncd)?.saturating_sub(syncd_before)),
        redis_cpu: per_row(cpu::used(&redis)?.saturating_sub(redis_before)),
        postgres_cpu: per_row(postgres_cpu(postgres)?.saturating_sub(postgres_before)),
        wal_bytes: (wal().await? - wal_before) as f64 / rows as f64,
    };
    let stored = stores.stored().await?;
    ensure!(stored == rows as u64, "{stored} of {rows} views are in PostgreSQL");
    Ok(drain)
}

impl Drained {
    /// Returns the speed of one way against another: the middle of what the rounds say.
    fn ratio(&self, place: usize, other: usize) -> f64 {
        let rounds = self.rounds[place].iter().zip(&self.rounds[other]);
        median(rounds.map(|(one, other)| one.rows_per_second / other.rows_per_second))
    }

    pub(super) fn figures(&self) -> Vec<Figure> {
        let two = |what: &str, place| {
            let figure = Figure::new(format!("{what}, rows a second"), self.ratio(place, 1), "×");
            if processors() >= ENOUGH_PROCESSORS { figure.goal(Goal::AtLeast(RATIO_GOAL)) } else { figure }
        };
        vec![
            Figure::new("a drain of a cluster against that of one server, rows a second", self.ratio(1, 0), "×"),
            two("two drains of one view-syncd against one", 2),
            two("two view-syncd against one", 3),
        ]
    }

    pub(super) fn table(&self) -> Table {
        let rows = WAYS.iter().zip(&self.rounds).map(|(way, rounds)| {
            let of = |number: fn(&Drain) -> f64| median(rounds.iter().map(number));
            let mut row = vec![way.name.to_owned(), number(of(|one| one.rows_per_second).round())];
            let costs = [of(|one| one.postgres_cpu), of(|one| one.redis_cpu), of(|one| one.syncd_cpu)];
            row.extend(costs.map(number));
            row.push(number(of(|one| one.wal_bytes).round()));
            row
        });
        let columns = ["", "rows/s", "PostgreSQL µs/row", "Redis µs/row", "view-syncd µs/row", "WAL bytes/row"];
        Table {
            title: format!("The drain of {} views of {} posts", number(self.views as f64), number(self.posts as f64)),
            columns: columns.map(str::to_owned).to_vec(),
            rows: rows.collect(),
        }
    }

    pub(super) fn chart(&self) -> Chart {
        let bar =
            |(way, rounds): (&Way, &Vec<Drain>)| (way.name.to_owned(), median(rounds.iter().map(|one| one.rows_per_second)));
        Chart::Bars {
            file: "cluster-drain.svg".to_owned(),
            title: "From a cluster's outboxes into PostgreSQL".to_owned(),
            unit: "rows a second".to_owned(),
            bars: WAYS.iter().zip(&self.rounds).map(bar).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_drains_are_compared_with_one_round_by_round() {
        let rounds = |rates: [f64; 3]| rates.map(|rows_per_second| Drain { rows_per_second, ..Drain::default() }).to_vec();
        let rounds = vec![Vec::new(), rounds([10.0, 20.0, 10.0]), rounds([17.0, 30.0, 19.0]), Vec::new()];
        let drained = Drained { views: 1, posts: 1, rounds };
        assert_eq!(drained.ratio(2, 1), 1.7);
    }
}
