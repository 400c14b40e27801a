//! What an honest client feels of connections that do nothing but take places.

use std::time::Instant;

use testkit::postgres::PostgresServer;

use super::{
    super::setting::{Setting, say},
    honest::{FEW_GOAL, PAUSE, Seen, row},
    neighbours::{IDS, Neighbour, Neighbours, SLOWLY},
};
use crate::{
    client::{self, Connection},
    population::Population,
    report::{Figure, Goal},
    servers::{Kind, Server},
    stats::Times,
};

/// How many connections view-ingest keeps, and how many neighbours want a place.
const PLACES: usize = 200;

/// Returns views of one known post, each over a connection of its own, alone and beside as many others as there are places.
pub(super) async fn run(
    setting: &Setting,
    postgres: &PostgresServer,
    population: &Population,
    rows: &mut Vec<Vec<String>>,
) -> anyhow::Result<Vec<Figure>> {
    let limit = [("VIEW_INGEST_MAX_CONNECTIONS", &*PLACES.to_string())];
    let server = Server::start_with(Kind::ViewIngest, &setting.programs, postgres, population, &limit).await?;
    Connection::open(server.address).await?.ask(&client::view(&population.visitor, &population.posts[..IDS])).await?;
    let mut viewers = population.viewers.iter().cycle();
    let mut views = async |neighbours: Option<&Neighbours>| {
        if let Some(neighbours) = neighbours {
            neighbours.sit(PLACES).await;
        }
        let (mut times, mut refused, began) = (Vec::new(), 0, Instant::now());
        while began.elapsed() < setting.duration() {
            let request = viewers.next().map(|viewer| client::view(viewer, &population.posts[..1])).unwrap_or_default();
            let sent = Instant::now();
            let answer = async { Connection::open(server.address).await?.ask(&request).await };
            match answer.await {
                Ok(()) => times.push(sent.elapsed().as_secs_f64() * 1e3),
                Err(_) => refused += 1,
            }
            tokio::time::sleep(PAUSE).await;
        }
        (Seen { times: Times::new(times), good: 0.0 }, refused)
    };
    let (alone, _) = views(None).await;
    rows.push(row("views over new connections, alone", &alone));
    let mut figures = Vec::new();
    for (neighbour, how) in [
        (Neighbour::Silent, "are silent".to_owned()),
        (Neighbour::HalfHead, "have sent half a head".to_owned()),
        (Neighbour::SlowReader, format!("take {SLOWLY} bytes a second")),
    ] {
        say(format_args!("{PLACES} neighbours: {neighbour:?}"));
        let neighbours = Neighbours::start(server.address, neighbour, population, PLACES);
        let (seen, refused) = views(Some(&neighbours)).await;
        neighbours.end()?;
        let what = format!("views over new connections beside {PLACES} that {how}, with {PLACES} places");
        rows.push(row(&what, &seen));
        let answered = 100.0 * seen.times.len() as f64 / (seen.times.len() + refused) as f64;
        let ratio = seen.times.percentile(50.0) / alone.times.percentile(50.0);
        figures.push(Figure::new(format!("{what}: answered"), answered, "%").goal(Goal::AtLeast(100.0)));
        figures.push(Figure::new(what, ratio, "times the median alone").goal(Goal::AtMost(FEW_GOAL)));
    }
    Ok(figures)
}
