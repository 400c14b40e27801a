//! What an honest client feels of hostile ones: its views beside each kind of neighbour, against the same views alone.

mod honest;
mod neighbours;
mod places;

use std::time::Duration;

use anyhow::Context;
use fred::{interfaces::ClientLike, types::InfoKind};
use testkit::{postgres::PostgresServer, proxy::Proxy};

use self::{
    honest::{FEW_GOAL, Seen, honest, row},
    neighbours::{IDS, Neighbour, PIPELINED},
};
use super::setting::{POSTS, Setting, VIEWERS};
use crate::{
    client::{self, Connection},
    machine::Machine,
    population::Population,
    report::{Figure, Goal, Part, Table},
    servers::{Kind, Server},
    stores,
};

/// How far PostgreSQL is away, each way, where posts are looked up.
const FAR: Duration = Duration::from_millis(10);
/// A first view beside those who make posts up, in milliseconds.
const FIRST_VIEW_GOAL_MS: f64 = 100.0;
/// The same beside very many.
const MANY_GOAL: f64 = 20.0;
/// What a post that is only read may take of Redis, in KiB.
const READ_GOAL_KIB: f64 = 2.0;

const HOW: &str = "One client views over one connection, one view after the other with a pause of 2 ms, alone and beside the neighbour, who \
    has a thread of its own and sends the next request as soon as it has an answer, whatever that is. First views are of posts that \
    nobody has touched, with PostgreSQL 10 ms away each way; the others are new views of one post. Beside those who only take places, each view \
    has a connection of its own. The ratio is that of the medians.";

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Part> {
    let population = Population::new(POSTS, VIEWERS);
    let postgres = stores::postgres().await;
    let mut rows = Vec::new();
    let mut figures = first_views(setting, &postgres, &population, &mut rows).await?;
    figures.extend(known_posts(setting, &postgres, &population, &mut rows).await?);
    figures.extend(places::run(setting, &postgres, &population, &mut rows).await?);
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
        let seen = honest(address, setting, population, |number| (number, 0), Neighbour::MadeUp, connections).await?;
        proxy.delay(Duration::ZERO);
        let what = format!("first views beside {connections} that read {IDS} made-up ids each");
        rows.push(row(&what, &seen));
        let goal = Goal::AtMost(FIRST_VIEW_GOAL_MS);
        figures.push(Figure::new(format!("{what}: p99"), seen.times.percentile(99.0), "ms").goal(goal));
    }
    Ok(figures)
}

/// Returns views of one known post, alone and beside readers of known posts.
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
    let mut seen = async |connections, neighbour| -> anyhow::Result<Seen> {
        let from = first;
        let view = move |number: usize| (0, from + number);
        let seen = honest(server.address, setting, population, view, neighbour, connections).await?;
        first += seen.times.len();
        Ok(seen)
    };
    let alone = seen(0, Neighbour::Known(1)).await?;
    rows.push(row("views of a known post, alone", &alone));
    let mut figures = Vec::new();
    for (connections, neighbour, goal) in [
        (64, Neighbour::Known(1), FEW_GOAL),
        (512, Neighbour::Known(1), MANY_GOAL),
        (8, Neighbour::Known(PIPELINED), FEW_GOAL),
        (64, Neighbour::Rubbish, FEW_GOAL),
        (512, Neighbour::Rubbish, MANY_GOAL),
        (64, Neighbour::Uploads, FEW_GOAL),
    ] {
        let beside = seen(connections, neighbour).await?;
        let how = match neighbour {
            Neighbour::Rubbish => "send queries of 28 KB".to_owned(),
            Neighbour::Uploads => "send bodies of 60 KB without a token".to_owned(),
            Neighbour::Known(at_once) if at_once > 1 => format!("read {IDS} known ids each, {at_once} requests at once"),
            _ => format!("read {IDS} known ids each"),
        };
        let what = format!("views of a known post beside {connections} that {how}");
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
