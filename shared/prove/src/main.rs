//! The proof: view-ingest and view-syncd, two of each, under clients and under everything that can go wrong, and then
//! Jepsen's set check.
//!
//! An acknowledged view must be in the ledger, nothing else may be in the ledger but what was attempted, every count
//! must be the number of its rows, and every live count must be the database's. `deploy/prove` builds the programs with
//! failpoints and runs this.

mod application;
mod auditor;
mod bounds;
mod clients;
mod faults;
mod finish;
mod history;
mod installation;
mod random;
mod redis;
mod report;
mod resharding;
mod schedule;
mod short;
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
use tokio::time::{Instant, sleep, sleep_until};
use views_core::failpoints::{ACK_BEFORE_COMMIT, SET_BEFORE_OUTBOX};

use crate::{
    clients::Times,
    faults::Servers,
    history::History,
    installation::{Ground, Installation, Plan},
    schedule::{Event, Layout, programs, resharding::steps},
    world::World,
};

/// The proof itself failed: nothing is known about the programs.
const EXIT_NO_VERDICT: u8 = 2;
/// How long a client goes on asking after everything is well.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);
const FOUND_OUT_POLL: Duration = Duration::from_millis(50);
/// The first part of a run in which every count has to be true, in hundredths, and at most.
const COUNTS_PERCENT: u32 = 30;
const COUNTS_MOST: Duration = Duration::from_secs(60);

/// Proves that no acknowledged view is lost or counted twice, whatever breaks. Exit status: 0 proven, 1 refuted, 2 no
/// verdict.
#[derive(Debug, Parser)]
#[command(name = "prove")]
struct Args {
    /// The seed of the schedule; a random one if there is none
    #[arg(long)]
    seed: Option<u64>,
    /// How long things break, in minutes; fractions are allowed
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Has the programs make a mistake that must be found, and ends as soon as it is
    #[arg(long, value_parser = views_core::failpoints::MISTAKES)]
    broken: Option<String>,
    /// Where the programs are, built with the feature `failpoints` [default: beside this one]
    #[arg(long)]
    binaries: Option<PathBuf>,
    /// Notes everything that Redis is told, too (with redis-cli)
    #[arg(long)]
    monitor: bool,
    /// On a Redis Cluster of three primaries with a replica each, whose slots move while all else breaks
    #[arg(long)]
    cluster: bool,
    /// Prints the schedule and runs nothing
    #[arg(long)]
    dry_run: bool,
    /// For continuous integration: a fixed seed, 20 seconds, and all mistakes must be found
    #[arg(long, conflicts_with_all = ["seed", "minutes", "broken", "monitor", "dry_run"])]
    short: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.short {
        return short::run(args.binaries.as_deref(), args.layout());
    }
    let seed = args.seed.unwrap_or_else(|| u64::from(u32::from_be_bytes(random_bytes())));
    let duration = Duration::try_from_secs_f64(args.minutes * 60.0).unwrap_or_default();
    let world = Arc::new(World::new(seed, duration));
    println!("seed:       {seed}   (again: deploy/prove --seed {seed} --minutes {})", args.minutes);
    if args.dry_run {
        tell_schedule(&args, seed, duration, &world);
        return ExitCode::SUCCESS;
    }
    let history = Arc::new(History::new(seed));
    let posts = world.posts.iter().enumerate();
    let posts: String =
        posts.map(|(place, post)| format!("post {place}: {} {:?} {:?}\n", post.id, post.nature, post.authors)).collect();
    history.append("posts.txt", &posts);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("no runtime");
    // In a task of its own, so that a panic of the proof leaves its history behind and is not mistaken for a verdict.
    let proof = runtime.block_on(async {
        let (world, history) = (Arc::clone(&world), Arc::clone(&history));
        tokio::spawn(async move {
            let proof = prove(&args, seed, duration, &world, &history);
            if args.broken.is_none() {
                return proof.await;
            }
            tokio::select! {
                holds = proof => holds,
                () = found_out(&history) => {
                    println!("verdict:    REFUTED. The history is in {}", history.folder().display());
                    false
                }
            }
        })
        .await
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

impl Args {
    fn layout(&self) -> Layout {
        if self.cluster { Layout::Cluster } else { Layout::Alone }
    }
}

/// Returns what breaks, and how long every count has to be true at the beginning. A program that makes a mistake is
/// found out by what that mistake is about: by what it loses when it dies, or by what the application does to it.
fn faults_of(args: &Args, seed: u64, duration: Duration, world: &World) -> (Vec<Event>, Duration) {
    let counts_until = match args.broken.as_deref() {
        None => (duration * COUNTS_PERCENT / 100).min(COUNTS_MOST),
        Some(ACK_BEFORE_COMMIT | SET_BEFORE_OUTBOX) => Duration::ZERO,
        Some(_) => return (Vec::new(), duration),
    };
    (schedule::schedule(args.layout(), seed, duration, counts_until, world.kept().len()), counts_until)
}

fn tell_schedule(args: &Args, seed: u64, duration: Duration, world: &World) {
    let (faults, counts_until) = faults_of(args, seed, duration, world);
    let mut lines: Vec<(Duration, String)> = faults.iter().map(|event| (event.at, event.to_string())).collect();
    for lane in application::LANES {
        lines.extend(application::deeds(seed, lane, duration, world).iter().map(|event| (event.at, event.to_string())));
    }
    if args.cluster {
        let steps = steps(seed, duration, counts_until, world);
        lines.extend(steps.iter().map(|event| (event.at, event.step.to_string())));
    }
    lines.sort();
    for (at, line) in lines {
        println!("{:8.3} s  {line}", at.as_secs_f64());
    }
}

async fn prove(args: &Args, seed: u64, duration: Duration, world: &Arc<World>, history: &Arc<History>) -> bool {
    let beside = || std::env::current_exe().expect("a program knows its path").parent().map(PathBuf::from).unwrap_or_default();
    let binaries = args.binaries.clone().unwrap_or_else(beside);
    let ground = Ground::lay(args.layout(), &binaries, world, application::SETUP).await;
    let (events, counts_until) = faults_of(args, seed, duration, world);
    let started = Instant::now();
    let until = started + duration;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let plan = Plan {
        binaries: &binaries,
        seed,
        broken: args.broken.as_deref(),
        ingest_failpoints_from_ms: now_ms + counts_until.as_millis(),
        failpoints_until_ms: now_ms + duration.as_millis(),
    };
    let monitored = if args.monitor { ground.redis.ports() } else { Vec::new() };
    let _monitors: Vec<_> = monitored.into_iter().map(|port| installation::monitor(port, history)).collect();
    let counts_until_ms = history.now_ms() + counts_until.as_millis();
    let installation = Arc::new(Installation::build(ground, &plan, history).await);
    let supervisors = installation.start();
    let times = Times { until, give_up_at: until + GIVE_UP_AFTER, counts_until_ms };
    let clients = clients::start(seed, world, history, &installation.doors(), times);
    let audit = tokio::spawn(auditor::run(Arc::clone(&installation), Arc::clone(world), Arc::clone(history), until));
    let servers = Arc::new(Servers::default());
    let resharding = async {
        if let Some(cluster) = installation.redis.cluster() {
            let steps = steps(seed, duration, counts_until, world);
            resharding::run(steps, started, cluster, &servers.redis, history).await;
        }
    };
    let ((), (), longest_wait) = tokio::join!(
        faults::run(events, started, &servers, &installation, world, history),
        resharding,
        application::run(seed, duration, started, &installation, world, history)
    );
    for program in programs() {
        installation.units[&program].calm_down();
    }
    sleep_until(until).await;
    history.say("nothing breaks any more");
    clients.join_all().await;
    history.say("all clients are done");
    let looks = audit.await.expect("the audit does not end by itself");
    let anew = finish::settle(&installation, world, history).await;
    let found = finish::look(&installation, world, anew).await;
    let mut violations = verify::verify(&history.asked(), &found);
    finish::look_at_authors(&installation, world, history).await;
    for unit in installation.units.values() {
        unit.save_output();
    }
    installation.redis.save_logs(history);
    history.append("postgresql.log", &installation.postgres.log());
    finish::end(&installation, supervisors, history).await;
    violations.extend(history.violations());
    report::print(seed, looks, longest_wait, &found, &violations, history);
    violations.is_empty()
}

/// Waits until something is wrong that programs which make a mistake are to be found out by.
async fn found_out(history: &History) {
    while history.violations().is_empty() {
        sleep(FOUND_OUT_POLL).await;
    }
    for violation in history.violations() {
        println!("{violation}");
    }
}

fn random_bytes() -> [u8; 4] {
    let [first, second, third, fourth, ..] = uuid::Uuid::new_v4().into_bytes();
    [first, second, third, fourth]
}
