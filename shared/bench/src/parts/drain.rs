//! From the outbox into PostgreSQL, against the least that PostgreSQL can do about the same rows.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde::Serialize;
use testkit::postgres::PostgresServer;
use tokio::time::sleep;
use uuid::Uuid;

use super::setting::{Setting, say};
use crate::{
    client, cpu,
    machine::Machine,
    population::Population,
    report::{Chart, Figure, Goal, Part, Table, markdown::number},
    servers::Server,
    sql,
    stats::median,
    stores::{self, Stores},
    workload::{Ask, BATCH},
};

const VIEWERS_PER_POST: usize = 100;
/// As many rows as view-syncd puts into one statement by default.
const CHUNK: usize = 100_000;
/// How often it is looked whether the outbox is empty.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
const RATIO_GOAL: f64 = 0.8;
const MEMORY_GOAL_MIB: f64 = 64.0;

const HOW: &str = "view-ingest has recorded the views in batches of 100 posts, in random order, and they wait in the outbox. The clock \
    runs from the moment when view-syncd has connected and begins until the outbox is empty: reading, storing, counting, settling Redis. The \
    comparison puts the same rows into a database of the same server that has nothing else to do: `INSERT … SELECT FROM unnest`, sorted \
    beforehand, and one `UPDATE` of the counts, once for all rows, and once in chunks of 100,000 in the order of the outbox, each its own \
    transaction. It reads no outbox, asks for no authors, and tells nobody. All three take turns. PostgreSQL is as durable as by default.";

/// One round: how fast, and what was used.
#[derive(Debug, Clone, Default, Serialize)]
struct Round {
    drain: Speed,
    at_once: Speed,
    in_chunks: Speed,
    /// CPU of view-syncd and of Redis, in microseconds a row.
    syncd_cpu: f64,
    redis_cpu: f64,
    peak_mib: f64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Speed {
    rows_per_second: f64,
    /// CPU of PostgreSQL, in microseconds a row.
    postgres_cpu: f64,
}

type Pair = (Uuid, Uuid);
/// One of the three that are compared.
type Way = fn(&Round) -> Speed;

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Part> {
    let population = Population::new(setting.scale(10_000, 1_000), VIEWERS_PER_POST);
    let postgres = stores::postgres().await;
    let mut rounds = Vec::new();
    for number_of_this in 0..setting.rounds {
        let mut round = Round::default();
        let server = setting.ingest(&postgres, &population).await?;
        let asks = client::fill(server.address, &population, VIEWERS_PER_POST).await?;
        let pairs = pairs(&population, &asks)?;
        for turn in 0..3 {
            match (turn + number_of_this) % 3 {
                0 => drain(setting, &server, &postgres, pairs.len(), &mut round).await?,
                1 => round.at_once = plain(setting, &postgres, &server.stores, &population, &pairs, pairs.len()).await?,
                _ => round.in_chunks = plain(setting, &postgres, &server.stores, &population, &pairs, CHUNK).await?,
            }
        }
        say(format_args!(
            "round {}: drain {} rows/s, plain at once {}, plain in chunks {}; view-syncd at most {} MiB",
            number_of_this + 1,
            number(round.drain.rows_per_second.round()),
            number(round.at_once.rows_per_second.round()),
            number(round.in_chunks.rows_per_second.round()),
            number(round.peak_mib)
        ));
        rounds.push(round);
    }
    Ok(part(population.posts.len(), &rounds))
}

/// Returns the rows in the order in which view-ingest was asked.
fn pairs(population: &Population, asks: &[Ask]) -> anyhow::Result<Vec<Pair>> {
    let posts = population.posts.iter().map(|id| Uuid::parse_str(id)).collect::<Result<Vec<_>, _>>()?;
    let viewers = population.viewers.iter().map(|viewer| Uuid::parse_str(&viewer.id)).collect::<Result<Vec<_>, _>>()?;
    let batches: Vec<&[Uuid]> = posts.chunks(BATCH).collect();
    Ok(asks.iter().flat_map(|ask| batches[ask.body].iter().map(|post| (*post, viewers[ask.viewer]))).collect())
}

async fn drain(
    setting: &Setting,
    server: &Server,
    postgres: &PostgresServer,
    rows: usize,
    round: &mut Round,
) -> anyhow::Result<()> {
    let stores = &server.stores;
    stores.sql.batch_execute(sql::CHECKPOINT).await?;
    let redis = stores.nodes.pids()?;
    let (redis_before, postgres_before) = (cpu::used(&redis)?, postgres_cpu(postgres)?);
    let daemon = stores.syncd(&setting.programs.binaries).start();
    daemon.wait_for_line("Starting views synchronization").await;
    let began = Instant::now();
    while stores.nodes.outbox().await? > 0 {
        ensure!(daemon.is_running(), "view-syncd has ended: {}", daemon.output().join("\n"));
        sleep(LOOK_INTERVAL).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let per_row = |time: Duration| time.as_secs_f64() * 1e6 / rows as f64;
    let postgres_cpu = per_row(postgres_cpu(postgres)?.saturating_sub(postgres_before));
    round.drain = Speed { rows_per_second: rows as f64 / seconds, postgres_cpu };
    round.syncd_cpu = per_row(cpu::used(&[daemon.pid()])?);
    round.redis_cpu = per_row(cpu::used(&redis)? - redis_before);
    round.peak_mib = cpu::peak_memory(&[daemon.pid()])? as f64 / (1024.0 * 1024.0);
    let stored = stores.stored().await?;
    ensure!(stored == rows as u64, "{stored} of {rows} views are in PostgreSQL");
    Ok(())
}

/// Puts the rows into a database of their own, so many at once.
async fn plain(
    setting: &Setting,
    postgres: &PostgresServer,
    stores: &Stores,
    population: &Population,
    pairs: &[Pair],
    chunk: usize,
) -> anyhow::Result<Speed> {
    let (_, mut client) = stores::database(postgres, &stores.nodes.url(), &setting.programs.binaries, population).await?;
    let insert = client.prepare(sql::PLAIN_INSERT).await?;
    let update = client.prepare(sql::PLAIN_COUNTS).await?;
    let chunks: Vec<_> = pairs.chunks(chunk).map(columns).collect();
    client.batch_execute(sql::CHECKPOINT).await?;
    let cpu_before = postgres_cpu(postgres)?;
    let began = Instant::now();
    for (posts, viewers, counted, views) in &chunks {
        let transaction = client.transaction().await?;
        transaction.execute(&insert, &[posts, viewers]).await?;
        transaction.execute(&update, &[counted, views]).await?;
        transaction.commit().await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let postgres_cpu = postgres_cpu(postgres)?.saturating_sub(cpu_before).as_secs_f64() * 1e6 / pairs.len() as f64;
    let stored: i64 = client.query_one(sql::LEDGER_ROWS, &[]).await?.get(0);
    ensure!(stored == i64::try_from(pairs.len())?, "the comparison has stored {stored} rows");
    Ok(Speed { rows_per_second: pairs.len() as f64 / seconds, postgres_cpu })
}

/// Rows sorted by key, column by column, and how many views each post has among them.
fn columns(pairs: &[Pair]) -> (Vec<Uuid>, Vec<Uuid>, Vec<Uuid>, Vec<i64>) {
    let mut sorted = pairs.to_vec();
    sorted.sort_unstable();
    let mut counts: BTreeMap<Uuid, i64> = BTreeMap::new();
    for (post, _) in &sorted {
        *counts.entry(*post).or_default() += 1;
    }
    let (posts, viewers) = sorted.into_iter().unzip();
    let (counted, views) = counts.into_iter().unzip();
    (posts, viewers, counted, views)
}

pub(super) fn postgres_cpu(postgres: &PostgresServer) -> anyhow::Result<Duration> {
    cpu::used(&cpu::family(postgres.pid().context("PostgreSQL has ended")?)?)
}

fn part(posts: usize, rounds: &[Round]) -> Part {
    let of = |number: fn(&Round) -> f64| median(rounds.iter().map(number));
    let ways: [(&str, Way); 3] = [
        ("view-syncd", |one| one.drain),
        ("plain, all at once", |one| one.at_once),
        ("plain, chunks of 100,000", |one| one.in_chunks),
    ];
    let speeds = ways.map(|(name, way)| {
        let rows_per_second = median(rounds.iter().map(|one| way(one).rows_per_second));
        (name, rows_per_second, median(rounds.iter().map(|one| way(one).postgres_cpu)))
    });
    let row = |(name, rate, cpu): (&str, f64, f64)| vec![name.to_owned(), number(rate.round()), number(cpu)];
    let ratio_to =
        |way: fn(&Round) -> Speed| median(rounds.iter().map(|one| one.drain.rows_per_second / way(one).rows_per_second));
    Part {
        title: "The drain".to_owned(),
        how: HOW.to_owned(),
        machine: Machine::look(),
        figures: vec![
            Figure::new("view-syncd against a plain INSERT of all rows at once", ratio_to(|one| one.at_once), "×")
                .goal(Goal::AtLeast(RATIO_GOAL)),
            Figure::new("view-syncd against a plain INSERT in chunks of 100,000", ratio_to(|one| one.in_chunks), "×")
                .goal(Goal::AtLeast(RATIO_GOAL)),
            Figure::new("view-syncd's memory at its peak in the drain", of(|one| one.peak_mib), "MiB")
                .goal(Goal::AtMost(MEMORY_GOAL_MIB)),
            Figure::new("CPU of view-syncd for a view", of(|one| one.syncd_cpu), "µs"),
            Figure::new("CPU of Redis for a view in the drain", of(|one| one.redis_cpu), "µs"),
        ],
        tables: vec![Table {
            title: format!("{} views of {} posts", number((posts * VIEWERS_PER_POST) as f64), number(posts as f64)),
            columns: ["", "rows/s", "PostgreSQL CPU µs/row"].map(str::to_owned).to_vec(),
            rows: speeds.map(row).to_vec(),
        }],
        charts: vec![Chart::Bars {
            file: "drain.svg".to_owned(),
            title: "From the outbox into PostgreSQL".to_owned(),
            unit: "rows a second".to_owned(),
            bars: speeds.map(|(name, rate, _)| (name.to_owned(), rate)).to_vec(),
        }],
        raw: serde_json::to_value(rounds).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_counted_by_post() {
        let id = Uuid::from_u128;
        let (posts, viewers, counted, views) = columns(&[(id(2), id(9)), (id(1), id(8)), (id(2), id(7))]);
        assert_eq!(posts, [id(1), id(2), id(2)]);
        assert_eq!(viewers, [id(8), id(7), id(9)]);
        assert_eq!((counted, views), (vec![id(1), id(2)], vec![1, 2]));
    }
}
