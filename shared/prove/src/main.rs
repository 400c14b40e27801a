//! The proof: view-ingest and view-syncd, two of each, under clients and under everything that can go wrong, and then Jepsen's set check.
//!
//! An acknowledged view must be in the ledger, nothing else may be in the ledger but what was attempted, every count must be the number of
//! its rows, and every live count must be the database's. `deploy/prove` builds the programs with failpoints and runs this.

mod auditor;
mod clients;
mod cluster;
mod faults;
mod finish;
mod history;
mod random;
mod report;
mod schedule;
mod unit;
mod verify;
mod world;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use tokio::time::{Instant, sleep_until};

use crate::{
    cluster::{Cluster, Ground, Plan},
    history::History,
    schedule::programs,
    world::World,
};

/// The proof itself failed: nothing is known about the programs.
const EXIT_NO_VERDICT: u8 = 2;
/// How long a client goes on asking after everything is well.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// Proves that no acknowledged view is lost or counted twice, whatever breaks. Exit status: 0 proven, 1 refuted, 2 no verdict.
#[derive(Debug, Parser)]
#[command(name = "prove")]
struct Args {
    /// The seed of the schedule; a random one if there is none
    #[arg(long)]
    seed: Option<u64>,
    /// How long things break, in minutes; fractions are allowed
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Has the programs make a mistake that must be found: ack-before-commit or set-before-outbox
    #[arg(long, value_parser = [shared::failpoints::ACK_BEFORE_COMMIT, shared::failpoints::SET_BEFORE_OUTBOX])]
    broken: Option<String>,
    /// Where the programs are, built with the feature `failpoints` [default: beside this one]
    #[arg(long)]
    binaries: Option<PathBuf>,
    /// Prints the schedule and runs nothing
    #[arg(long)]
    dry_run: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| u64::from(u32::from_be_bytes(random_bytes())));
    let duration = Duration::try_from_secs_f64(args.minutes * 60.0).unwrap_or_default();
    let world = Arc::new(World::new(seed, duration));
    println!("seed:       {seed}   (again: deploy/prove --seed {seed} --minutes {})", args.minutes);
    if args.dry_run {
        for event in schedule::schedule(seed, duration, world.posts.len()) {
            println!("{:8.3} s  {event}", event.at.as_secs_f64());
        }
        return ExitCode::SUCCESS;
    }
    let history = Arc::new(History::new(seed));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("no runtime");
    // In a task of its own, so that a panic of the proof leaves its history behind and is not mistaken for a verdict.
    let proof = runtime.block_on(async {
        let (world, history) = (Arc::clone(&world), Arc::clone(&history));
        tokio::spawn(async move { prove(&args, seed, duration, &world, &history).await }).await
    });
    history.flush();
    match proof {
        Ok(true) => {
            history.remove();
            ExitCode::SUCCESS
        }
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("verdict:    none, the proof itself failed: {error}. The history is in {}", history.folder().display());
            ExitCode::from(EXIT_NO_VERDICT)
        }
    }
}

async fn prove(args: &Args, seed: u64, duration: Duration, world: &Arc<World>, history: &Arc<History>) -> bool {
    let beside = || std::env::current_exe().expect("a program knows its path").parent().map(PathBuf::from).unwrap_or_default();
    let binaries = args.binaries.clone().unwrap_or_else(beside);
    let ground = Ground::lay(&binaries, world).await;
    let events = schedule::schedule(seed, duration, world.posts.len());
    let started = Instant::now();
    let until = started + duration;
    let failpoints_until_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() + duration.as_millis();
    let plan = Plan { binaries: &binaries, seed, broken: args.broken.as_deref(), failpoints_until_ms };
    let cluster = Arc::new(Cluster::build(ground, &plan, history).await);
    let supervisors = cluster.start();
    let clients = clients::start(seed, world, history, &cluster.doors(), until, until + GIVE_UP_AFTER);
    let audit = tokio::spawn(auditor::run(Arc::clone(&cluster), Arc::clone(world), Arc::clone(history), until));
    faults::run(events, started, &cluster, world, history).await;
    for program in programs() {
        cluster.units[&program].calm_down();
    }
    sleep_until(until).await;
    history.say("nothing breaks any more");
    clients.join_all().await;
    history.say("all clients are done");
    let looks = audit.await.expect("the audit does not end by itself");
    finish::settle(&cluster, history).await;
    let found = finish::look(&cluster, world).await;
    let mut violations = verify::verify(&history.asked(), &found);
    for unit in cluster.units.values() {
        unit.save_output();
    }
    history.append("redis.log", &cluster.redis.log());
    history.append("postgresql.log", &cluster.postgres.log());
    finish::end(&cluster, supervisors, history).await;
    violations.extend(history.violations());
    report::print(seed, looks, &found, &violations, history);
    violations.is_empty()
}

fn random_bytes() -> [u8; 4] {
    let [first, second, third, fourth, ..] = uuid::Uuid::new_v4().into_bytes();
    [first, second, third, fourth]
}
