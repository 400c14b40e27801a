//! What an honest client feels of hostile ones: its views beside each kind of neighbour, against the same views alone.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context;
use fred::{interfaces::ClientLike, types::InfoKind};
use futures_util::future::join_all;
use testkit::{postgres::PostgresServer, proxy::Proxy};

use super::setting::{POSTS, Setting, VIEWERS, say};
use crate::{
    client::{self, Connection},
    machine::Machine,
    population::Population,
    report::{Figure, Goal, Part, Table, markdown},
    servers::{Kind, Server},
    stats::Times,
    stores,
};

/// Posts in a neighbour's request.
const IDS: usize = 100;
/// Requests that a neighbour sends at once who does not wait for answers.
const PIPELINED: usize = 16;
/// How far PostgreSQL is away, each way, where posts are looked up.
const FAR: Duration = Duration::from_millis(10);
/// The honest client's pause between two views.
const PAUSE: Duration = Duration::from_millis(2);
/// A first view beside those who make posts up, in milliseconds.
const FIRST_VIEW_GOAL_MS: f64 = 100.0;
/// How often a view of a known post may take what it takes alone.
const FEW_GOAL: f64 = 5.0;
const MANY_GOAL: f64 = 20.0;
/// What a post that is only read may take of Redis, in KiB.
const READ_GOAL_KIB: f64 = 2.0;

const HOW: &str = "One client views over one connection, one view after the other with a pause of 2 ms, alone and beside the neighbour, who \
    has a thread of its own and sends the next request as soon as it has an answer, whatever that is. First views are of posts that \
    nobody has touched, with PostgreSQL 10 ms away each way; the others are new views of one post. The ratio is that of the medians.";

/// Who else sends requests.
#[derive(Debug, Clone, Copy)]
enum Neighbour {
    /// Reads made-up ids.
    MadeUp,
    /// Reads ids that Redis knows.
    Known,
}

/// Neighbours at work.
struct Neighbours {
    is_over: Arc<AtomicBool>,
    good: Arc<AtomicUsize>,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// What the honest client has seen.
struct Seen {
    times: Times,
    /// What the neighbours had answered with a 200, a second.
    good: f64,
}

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Part> {
    let population = Population::new(POSTS, VIEWERS);
    let postgres = stores::postgres().await;
    let mut rows = Vec::new();
    let mut figures = first_views(setting, &postgres, &population, &mut rows).await?;
    figures.extend(known_posts(setting, &postgres, &population, &mut rows).await?);
    figures.push(memory_of_reads(setting, &postgres, &population).await?);
    let columns = ["neighbour", "median, ms", "p99, ms", "neighbour's answers/s"].map(str::to_owned).into();
    Ok(Part {
        title: "Fairness".to_owned(),
        how: HOW.to_owned(),
        machine: Machine::look(),
        figures,
        tables: vec![Table { title: "The honest client's views".to_owned(), columns, rows }],
        charts: Vec::new(),
        raw: serde_json::Value::Null,
    })
}

/// First views, alone and beside readers of made-up ids.
async fn first_views(
    setting: &Setting,
    postgres: &PostgresServer,
    population: &Population,
    rows: &mut Vec<Vec<String>>,
) -> anyhow::Result<Vec<Figure>> {
    let proxy = Proxy::to_port(postgres.port()).await;
    let mut figures = Vec::new();
    // Posts that nobody has touched are not left over from one measurement to the next.
    for connections in [0, 64, 256] {
        let server = Server::start(Kind::ViewIngest, &setting.programs, postgres, population).await?;
        let url = server.stores.database.url().replace(&format!(":{}", postgres.port()), &format!(":{}", proxy.port()));
        let far = server.stores.ingest(&setting.programs.binaries).env("DATABASE_URL", url).start();
        let address = far.wait_for_listening("public").await;
        far.wait_for_line("view-ingest started").await;
        proxy.delay(FAR);
        let seen = honest(address, setting, population, |number| (number, 0), Neighbour::MadeUp, connections, 1).await?;
        proxy.delay(Duration::ZERO);
        let what = format!("first views beside {connections} that read {IDS} made-up ids each");
        rows.push(row(&what, &seen));
        let goal = Goal::AtMost(FIRST_VIEW_GOAL_MS);
        figures.push(Figure::new(format!("{what}: p99"), seen.times.percentile(99.0), "ms").goal(goal));
    }
    Ok(figures)
}

/// Views of one known post, alone and beside readers of known posts.
async fn known_posts(
    setting: &Setting,
    postgres: &PostgresServer,
    population: &Population,
    rows: &mut Vec<Vec<String>>,
) -> anyhow::Result<Vec<Figure>> {
    let server = setting.ingest(postgres, population).await?;
    let mut connection = Connection::open(server.address).await?;
    for posts in population.posts.chunks(IDS) {
        connection.ask(&client::read(posts)).await?;
    }
    let mut first = 0;
    let mut seen = async |connections, pipelined| -> anyhow::Result<Seen> {
        let from = first;
        let view = move |number: usize| (0, from + number);
        let seen = honest(server.address, setting, population, view, Neighbour::Known, connections, pipelined).await?;
        first += seen.times.len();
        Ok(seen)
    };
    let alone = seen(0, 1).await?;
    rows.push(row("views of a known post, alone", &alone));
    let mut figures = Vec::new();
    for (connections, pipelined, goal) in [(64, 1, FEW_GOAL), (512, 1, MANY_GOAL), (8, PIPELINED, FEW_GOAL)] {
        let beside = seen(connections, pipelined).await?;
        let how = if pipelined > 1 { format!(", {pipelined} requests at once") } else { String::new() };
        let what = format!("views of a known post beside {connections} that read {IDS} known ids each{how}");
        rows.push(row(&what, &beside));
        let ratio = beside.times.percentile(50.0) / alone.times.percentile(50.0);
        figures.push(Figure::new(what, ratio, "times the median alone").goal(Goal::AtMost(goal)));
    }
    Ok(figures)
}

/// What a post takes of Redis that is only read, with five hundred viewers in the ledger.
async fn memory_of_reads(setting: &Setting, postgres: &PostgresServer, population: &Population) -> anyhow::Result<Figure> {
    let server = setting.ingest(postgres, population).await?;
    let posts = &population.posts[..2_000];
    let viewers: Vec<String> = population.viewers[..500].iter().map(|viewer| viewer.id.clone()).collect();
    let fill = "insert into post_views (post_id, user_id) select post::uuid, viewer::uuid from unnest($1::text[]) post, unnest($2::text[]) viewer";
    server.stores.sql.execute(fill, &[&posts, &viewers]).await?;
    let before = used_memory(&server).await?;
    let mut connection = Connection::open(server.address).await?;
    for posts in posts.chunks(IDS) {
        connection.ask(&client::read(posts)).await?;
    }
    let used = used_memory(&server).await?.saturating_sub(before);
    let value = used as f64 / posts.len() as f64 / 1024.0;
    Ok(Figure::new("Redis's memory for a post that is only read", value, "KiB").goal(Goal::AtMost(READ_GOAL_KIB)))
}

async fn used_memory(server: &Server) -> anyhow::Result<u64> {
    let info: String = server.stores.redis.info(Some(InfoKind::Memory)).await?;
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).context("Redis does not tell its memory")?;
    Ok(used.trim().parse()?)
}

/// Views one post after the other while neighbours are at work. `view` gives the place of the post and of the viewer of each view.
async fn honest(
    address: SocketAddr,
    setting: &Setting,
    population: &Population,
    view: impl Fn(usize) -> (usize, usize),
    neighbour: Neighbour,
    connections: usize,
    pipelined: usize,
) -> anyhow::Result<Seen> {
    say(format_args!("{connections} neighbours: {neighbour:?}"));
    let neighbours = Neighbours::start(address, neighbour, population, connections, pipelined);
    let mut connection = Connection::open(address).await?;
    let duration = setting.duration();
    let began = Instant::now();
    let (mut times, mut number) = (Vec::new(), 0);
    while began.elapsed() < duration {
        let (post, viewer) = view(number);
        number += 1;
        let (post, viewer) = (post % population.posts.len(), &population.viewers[viewer % population.viewers.len()]);
        let request = client::view(viewer, &population.posts[post..=post]);
        let sent = Instant::now();
        connection.ask(&request).await?;
        times.push(sent.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(PAUSE).await;
    }
    let good = neighbours.end()? as f64 / began.elapsed().as_secs_f64();
    Ok(Seen { times: Times::new(times), good })
}

fn row(what: &str, seen: &Seen) -> Vec<String> {
    let times = &seen.times;
    let numbers = [times.percentile(50.0), times.percentile(99.0), seen.good];
    std::iter::once(what.to_owned()).chain(numbers.map(markdown::number)).collect()
}

impl Neighbours {
    fn start(address: SocketAddr, neighbour: Neighbour, population: &Population, connections: usize, pipelined: usize) -> Self {
        let (is_over, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let known: Vec<Vec<u8>> = population.posts.chunks(IDS).map(client::read).collect();
        let thread = std::thread::spawn({
            let (is_over, good) = (Arc::clone(&is_over), Arc::clone(&good));
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let one = |place: usize| {
                    let (is_over, good, known) = (&is_over, &good, &known);
                    async move {
                        let mut connection = Connection::open(address).await?;
                        let mut round = place;
                        while !is_over.load(Relaxed) {
                            round += 1;
                            let request = match neighbour {
                                Neighbour::Known => known[round % known.len()].repeat(pipelined),
                                Neighbour::MadeUp => made_up(place, round),
                            };
                            connection.send(&request).await?;
                            good.fetch_add(connection.receive_any(pipelined).await?, Relaxed);
                        }
                        Ok(())
                    }
                };
                let results = runtime.block_on(join_all((0..connections).map(one)));
                results.into_iter().collect()
            }
        });
        Self { is_over, good, thread }
    }

    /// How many answers were a 200.
    fn end(self) -> anyhow::Result<usize> {
        self.is_over.store(true, Relaxed);
        match self.thread.join() {
            Ok(result) => result.map(|()| self.good.load(Relaxed)),
            Err(_) => anyhow::bail!("the neighbours have panicked"),
        }
    }
}

fn made_up(place: usize, round: usize) -> Vec<u8> {
    let id = |number: usize| format!("{place:08x}-{:04x}-4000-8000-{round:012x}", number % 0x1_0000);
    let posts: Vec<String> = (0..IDS).map(id).collect();
    client::read(&posts)
}
