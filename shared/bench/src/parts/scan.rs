//! What the scan costs that compares every post in Redis with PostgreSQL, and whether clients feel it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use fred::{
    interfaces::ClientLike,
    types::{CustomCommand, Value},
};
use tokio::time::sleep;

use super::setting::{Setting, say};
use crate::{
    client, cpu,
    machine::Machine,
    pace::{self, Pace},
    population::Population,
    report::{Figure, Goal, Part, Table, markdown::number},
    stats::median,
    stores::{self, Stores, syncd_until_synced},
    synced,
};

/// Repeated views, at a rate that leaves the machine room.
const PACE: Pace = Pace { connections: 50, per_second: 2_000 };
/// Posts that clients view meanwhile.
const VIEWED_POSTS: usize = 10_000;
/// Commands that take Redis longer than this are noted, in microseconds.
const SLOW_US: &str = "500";
const P99_GOAL: f64 = 2.0;

const HOW: &str = "Every post has been viewed once: a set with one viewer and a hash in Redis, a row and a count in PostgreSQL, as view-ingest \
    and view-syncd leave them behind, but written straight into the stores, which takes seconds where they would take minutes. \
    view-syncd's first cycle finds nothing to change; the costs are its, with nobody else at work. Then clients send repeated views at a \
    steady rate, without a scan and for as long as one takes, in turn. A command's time is the clock's: it includes what Redis waits for \
    a processor, of which this machine has few.";

/// What one scan without clients cost.
struct Cost {
    seconds: f64,
    syncd: Duration,
    redis: Duration,
    postgres: Duration,
    /// The longest of each of the commands that were slow.
    slow: Vec<(String, Duration)>,
}

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Part> {
    let population = Population::new(setting.scale(1_000_000, 20_000), 1);
    let posts = population.posts.len() as f64;
    let postgres = stores::postgres().await;
    say(format_args!("{} posts", number(posts)));
    let server = setting.ingest(&postgres, &population).await?;
    synced::fill(&server.stores, &population).await?;
    say("a scan without clients");
    let postgres_cpu = || cpu::used(&cpu::family(postgres.pid().context("PostgreSQL has ended")?)?);
    let redis = server.stores.nodes.pids()?;
    watch_slow_commands(&server.stores).await?;
    let before = (cpu::used(&redis)?, postgres_cpu()?);
    let began = Instant::now();
    let daemon = server.stores.syncd(&setting.programs.binaries).env("SYNC_INTERVAL", "24h").start();
    syncd_until_synced(&daemon, 1).await;
    let syncd = [daemon.pid()];
    let cost = Cost {
        seconds: began.elapsed().as_secs_f64(),
        syncd: cpu::used(&syncd)?,
        redis: cpu::used(&redis)? - before.0,
        postgres: postgres_cpu()?.saturating_sub(before.1),
        slow: slow_commands(&server.stores).await?,
    };
    let first = daemon.lines_with("Sync completed").join("\n");
    let expected = format!("Sync completed: {} successful, 0 errors", population.posts.len());
    ensure!(first.contains(&expected), "not every post is in order from the start: {first}");
    ensure!(server.stores.stored().await? == population.posts.len() as u64, "the scan has changed PostgreSQL");
    let peak_mib = cpu::peak_memory(&syncd)? as f64 / (1024.0 * 1024.0);

    let viewed = &population.posts[..VIEWED_POSTS.min(population.posts.len())];
    let request = |number: usize| {
        let place = number % viewed.len();
        client::view(&population.viewers[0], &viewed[place..=place])
    };
    let (mut quiet, mut scanned) = (Vec::new(), Vec::new());
    for round in 0..setting.rounds {
        let times = pace::run(server.address, PACE, request, sleep(setting.duration() * 2)).await?;
        quiet.push(times.percentile(99.0));
        daemon.signal("HUP");
        let times = pace::run(server.address, PACE, request, syncd_until_synced(&daemon, 2 + round)).await?;
        scanned.push(times.percentile(99.0));
        say(format_args!("p99 of view-ingest: {} ms, with the scan {} ms", number(quiet[round]), number(scanned[round])));
    }
    let slower = median(scanned.iter().zip(&quiet).map(|(scanned, quiet)| scanned / quiet));
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / posts;
    let longest = cost.slow.iter().map(|(_, time)| time.as_secs_f64() * 1e3).fold(0.0, f64::max);
    let row = |name: &str, time: Duration| vec![name.to_owned(), number(micros(time)), number(time.as_secs_f64())];
    let slow = cost.slow.iter().map(|(name, time)| vec![name.clone(), number(time.as_secs_f64() * 1e3)]);
    Ok(Part {
        title: "The scan".to_owned(),
        how: HOW.to_owned(),
        machine: Machine::look(),
        figures: vec![
            Figure::new("p99 of view-ingest while the scan runs, against without", slower, "×").goal(Goal::AtMost(P99_GOAL)),
            Figure::new("p99 of view-ingest without the scan", median(quiet), "ms"),
            Figure::new("p99 of view-ingest with the scan", median(scanned), "ms"),
            Figure::new(format!("a scan of {} posts", number(posts)), cost.seconds, "s"),
            Figure::new("CPU of view-syncd for a post in the scan", micros(cost.syncd), "µs"),
            Figure::new("CPU of Redis for a post in the scan", micros(cost.redis), "µs"),
            Figure::new("CPU of PostgreSQL for a post in the scan", micros(cost.postgres), "µs"),
            Figure::new("the longest command of the scan (0: none over 0.5 ms)", longest, "ms"),
            Figure::new("view-syncd's memory at its peak in the scan", peak_mib, "MiB"),
        ],
        tables: vec![
            Table {
                title: "CPU of one scan".to_owned(),
                columns: ["process", "µs a post", "s"].map(str::to_owned).to_vec(),
                rows: vec![row("view-syncd", cost.syncd), row("Redis", cost.redis), row("PostgreSQL", cost.postgres)],
            },
            Table {
                title: "The longest of each command that took Redis more than 0.5 ms".to_owned(),
                columns: ["command", "ms"].map(str::to_owned).to_vec(),
                rows: slow.collect(),
            },
        ],
        charts: Vec::new(),
        raw: serde_json::Value::Null,
    })
}

async fn watch_slow_commands(stores: &Stores) -> anyhow::Result<()> {
    for words in [["SET", "slowlog-log-slower-than", SLOW_US], ["SET", "slowlog-max-len", "100000"]] {
        let () = stores.redis.custom(CustomCommand::new_static("CONFIG", None::<u16>, false), words.to_vec()).await?;
    }
    let () = stores.redis.custom(CustomCommand::new_static("SLOWLOG", None::<u16>, false), vec!["RESET"]).await?;
    Ok(())
}

async fn slow_commands(stores: &Stores) -> anyhow::Result<Vec<(String, Duration)>> {
    let log: Vec<Value> =
        stores.redis.custom(CustomCommand::new_static("SLOWLOG", None::<u16>, false), vec!["GET", "-1"]).await?;
    let mut longest: HashMap<String, Duration> = HashMap::new();
    for entry in log {
        // Number, time, microseconds, the words of the command, and who sent it.
        let entry: Vec<Value> = entry.convert()?;
        let (Some(micros), Some(Value::Array(words))) = (entry.get(2).and_then(Value::as_u64), entry.get(3)) else { continue };
        let name = words.first().and_then(Value::as_string).unwrap_or_default().to_uppercase();
        let time = longest.entry(name).or_default();
        *time = (*time).max(Duration::from_micros(micros));
    }
    let mut longest: Vec<_> = longest.into_iter().collect();
    longest.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    Ok(longest)
}
