//! view-ingest beside the floor and its peers, in turn, round after round.

use std::collections::HashMap;

use serde::Serialize;

use super::setting::{POSTS, Setting, VIEWERS, say};
use crate::{
    load::{Load, Pressure},
    machine::Machine,
    measure::{Measured, measure},
    population::Population,
    report::{Chart, Figure, Goal, Part, Table, markdown::number},
    servers::{Kind, Server},
    stats::median,
    stores,
    workload::{Shape, Size, Views, Workload},
};

const CONNECTIONS: [usize; 3] = [16, 100, 256];
/// Where servers are compared in one number.
const USUAL_CONNECTIONS: usize = 100;
/// Views per CPU second in batches of 100, against single ones.
const BATCH_GOAL: f64 = 10.0;
/// The connections at which the goals are looked at, with skewed posts.
const GOAL_CONNECTIONS: [usize; 2] = [100, 256];
/// CPU of a view, against an empty handler.
const CPU_GOAL: f64 = 1.5;
/// Requests a second, against a server that puts a member into a set and does no more.
const RATE_GOAL: f64 = 1.0;

const HOW: &str = "All servers run on this machine together with the load (`wrk -t1`), each with a Redis of its own \
    (`appendonly yes`, `appendfsync everysec`), and are measured in turn; the order rotates from round to round, and every number \
    is the median of the rounds. Before each measurement Redis is emptied, the outbox with it, and the server is made to know \
    the posts and, for repeated views, the viewers; view-syncd does not run meanwhile. 10,000 posts; 20,000 viewers, each with an \
    own token. Skewed: by Zipf's law, exponent 1. Afterwards the sets in Redis must hold what was answered, and every answer \
    must have been good. CPU is what the server's own processes used, without Redis; ✱ marks a load whose thread was busy for more \
    than 95 % of the time, so that the server could perhaps do more. Ratios to the floor are taken within each round.";

type Key = (Workload, usize);
type Rounds = HashMap<(Workload, usize, Kind), Vec<Measured>>;

#[derive(Serialize)]
struct Raw<'a> {
    #[serde(flatten)]
    workload: Workload,
    connections: usize,
    server: Kind,
    rounds: &'a [Measured],
}

fn single(views: Views, shape: Shape) -> Workload {
    Workload { size: Size::Single, views, shape }
}

fn batch(views: Views) -> Workload {
    Workload { size: Size::Batch, views, shape: Shape::Uniform }
}

/// What servers are compared by.
fn usual(views: Views) -> Key {
    (single(views, Shape::Uniform), USUAL_CONNECTIONS)
}

/// What is measured of a server.
fn keys(kind: Kind, quick: bool) -> Vec<Key> {
    let mut keys = vec![usual(Views::New), usual(Views::Repeated)];
    // NestJS answers a few hundred requests a second, and only its worth is to be seen.
    if kind != Kind::Nest && !quick {
        for shape in [Shape::Uniform, Shape::Skewed] {
            for views in [Views::New, Views::Repeated] {
                keys.extend(CONNECTIONS.map(|connections| (single(views, shape), connections)));
            }
        }
    }
    // Nobody else takes batches.
    if kind == Kind::ViewIngest {
        let connections: &[usize] = if quick { &CONNECTIONS[..1] } else { &CONNECTIONS[..2] };
        for views in [Views::New, Views::Repeated] {
            keys.extend(connections.iter().map(|connections| (batch(views), *connections)));
        }
    }
    keys
}

/// Everything that is measured of anybody, each once.
fn all_keys(kinds: &[Kind], quick: bool) -> Vec<Key> {
    let mut order = Vec::new();
    for key in kinds.iter().flat_map(|kind| keys(*kind, quick)) {
        if !order.contains(&key) {
            order.push(key);
        }
    }
    // The same posts and viewers need to be written down only once for several numbers of connections.
    order.sort_by_key(|(workload, connections)| (workload.to_string(), *connections));
    order
}

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Part> {
    let population = Population::new(POSTS, VIEWERS);
    let postgres = stores::postgres().await;
    let mut servers = Vec::new();
    for kind in &setting.kinds {
        say(format_args!("starting {}", kind.name()));
        servers.push(Server::start(*kind, &setting.programs, &postgres, &population).await?);
    }
    let order = all_keys(&setting.kinds, setting.quick);
    let mut rounds = Rounds::new();
    for (place, (workload, connections)) in order.iter().enumerate() {
        let load = Load::new(&population, *workload, setting.seconds)?;
        let pressure = Pressure { connections: *connections, seconds: setting.seconds };
        for round in 0..setting.rounds {
            for turn in 0..servers.len() {
                let server = &servers[(turn + round + place) % servers.len()];
                if !keys(server.kind, setting.quick).contains(&(*workload, *connections)) {
                    continue;
                }
                let measured = measure(server, &postgres, &population, &load, pressure).await?;
                say(format_args!(
                    "{workload}, {connections} connections, round {}: {:<12} {:>8} req/s, {:>6} µs CPU a view, p99 {} ms",
                    round + 1,
                    server.kind.name(),
                    number(measured.requests_per_second.round()),
                    number(measured.server_cpu),
                    number(measured.p99)
                ));
                rounds.entry((*workload, *connections, server.kind)).or_default().push(measured);
            }
        }
    }
    Ok(part(setting, &order, &rounds))
}

fn part(setting: &Setting, order: &[Key], rounds: &Rounds) -> Part {
    let mut tables = vec![summary(&setting.kinds, rounds)];
    tables.extend(order.iter().map(|key| table(*key, &setting.kinds, rounds)));
    let raw: Vec<Raw<'_>> = order
        .iter()
        .flat_map(|(workload, connections)| setting.kinds.iter().map(move |kind| (*workload, *connections, *kind)))
        .filter_map(|key| Some(Raw { workload: key.0, connections: key.1, server: key.2, rounds: rounds.get(&key)? }))
        .collect();
    Part {
        title: "Requests".to_owned(),
        how: HOW.to_owned(),
        machine: Machine::look(),
        figures: figures(rounds),
        tables,
        charts: charts(&setting.kinds, rounds),
        raw: serde_json::to_value(raw).unwrap_or_default(),
    }
}

fn middle(rounds: &Rounds, (workload, connections): Key, kind: Kind) -> Option<Measured> {
    rounds.get(&(workload, connections, kind)).map(|rounds| Measured::median(rounds))
}

/// Returns a number of a server against the floor's of the same round; the median of the rounds.
fn against_floor(rounds: &Rounds, key: Key, kind: Kind, of: fn(&Measured) -> f64) -> Option<f64> {
    ratio(rounds, key, kind, Kind::Floor, of)
}

/// Returns a number of view-ingest against another server's.
fn against(rounds: &Rounds, key: Key, other: Kind, of: fn(&Measured) -> f64) -> Option<f64> {
    ratio(rounds, key, Kind::ViewIngest, other, of)
}

fn ratio(rounds: &Rounds, (workload, connections): Key, one: Kind, other: Kind, of: fn(&Measured) -> f64) -> Option<f64> {
    let one = rounds.get(&(workload, connections, one))?;
    let other = rounds.get(&(workload, connections, other))?;
    Some(median(one.iter().zip(other).map(|(one, other)| of(one) / of(other))))
}

/// Everybody in one table.
fn summary(kinds: &[Kind], rounds: &Rounds) -> Table {
    let columns = [
        "server",
        "req/s, new",
        "req/s, repeated",
        "p99 ms, new",
        "CPU µs, new",
        "CPU µs, repeated",
        "× floor, repeated",
        "Redis µs, new",
        "what it does",
    ];
    let rows = kinds.iter().filter_map(|kind| {
        let new = middle(rounds, usual(Views::New), *kind)?;
        let repeated = middle(rounds, usual(Views::Repeated), *kind)?;
        let ratio = against_floor(rounds, usual(Views::Repeated), *kind, |one| one.server_cpu);
        Some(vec![
            kind.name().to_owned(),
            number(new.requests_per_second.round()),
            number(repeated.requests_per_second.round()),
            number(new.p99),
            number(new.server_cpu),
            number(repeated.server_cpu),
            ratio.map(number).unwrap_or_default(),
            if *kind == Kind::Floor { String::new() } else { number(new.redis_cpu) },
            kind.does().to_owned(),
        ])
    });
    Table {
        title: format!("Single views, uniform posts, {USUAL_CONNECTIONS} connections; CPU for each view"),
        columns: columns.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

/// Everything that was measured of one workload.
fn table(key: Key, kinds: &[Kind], rounds: &Rounds) -> Table {
    let (workload, connections) = key;
    let columns = [
        "server",
        "req/s",
        "× floor",
        "views/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "CPU µs/view",
        "× floor",
        "Redis µs/view",
        "peak MiB",
        "load busy",
    ];
    let rows = kinds.iter().filter_map(|kind| {
        let of = middle(rounds, key, *kind)?;
        let ratio = |number_of| against_floor(rounds, key, *kind, number_of).map(number).unwrap_or_default();
        let mark = if of.load_limits() { " ✱" } else { "" };
        Some(vec![
            kind.name().to_owned(),
            number(of.requests_per_second.round()),
            ratio(|one| one.requests_per_second),
            number(of.views_per_second.round()),
            number(of.p50),
            number(of.p99),
            number(of.max),
            number(of.server_cpu),
            ratio(|one| one.server_cpu),
            number(of.redis_cpu),
            number(of.peak_mib),
            format!("{:.0} %{mark}", of.load_busy * 100.0),
        ])
    });
    let title = format!("{workload}, {connections} connections");
    Table { title, columns: columns.map(str::to_owned).to_vec(), rows: rows.collect() }
}

fn figures(rounds: &Rounds) -> Vec<Figure> {
    let mut figures = goals(rounds);
    for (word, views) in [("new", Views::New), ("repeated", Views::Repeated)] {
        if let Some(ratio) = against_floor(rounds, usual(views), Kind::ViewIngest, |one| one.server_cpu) {
            figures.push(Figure::new(format!("CPU of view-ingest for a {word} view, against an empty handler"), ratio, "×"));
        }
        let singles = middle(rounds, usual(views), Kind::ViewIngest);
        let batches = middle(rounds, (batch(views), CONNECTIONS[0]), Kind::ViewIngest);
        if let (Some(singles), Some(batches)) = (singles, batches) {
            let per_second = |measured: &Measured| 1e6 / measured.server_cpu;
            figures.push(Figure::new(format!("{word} views per CPU second of view-ingest, single"), per_second(&singles), ""));
            figures.push(Figure::new(
                format!("{word} views per CPU second of view-ingest, batches of 100"),
                per_second(&batches),
                "",
            ));
            let ratio = per_second(&batches) / per_second(&singles);
            let figure = Figure::new(format!("{word} views per CPU second, batches against single"), ratio, "×");
            figures.push(figure.goal(Goal::AtLeast(BATCH_GOAL)));
        }
    }
    figures
}

/// What single views of skewed posts are held against.
fn goals(rounds: &Rounds) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (word, views) in [("new", Views::New), ("repeated", Views::Repeated)] {
        for connections in GOAL_CONNECTIONS {
            let key = (single(views, Shape::Skewed), connections);
            let where_ = format!("{word} views, skewed posts, {connections} connections");
            if let Some(ratio) = against(rounds, key, Kind::Floor, |one| one.server_cpu) {
                figures.push(
                    Figure::new(format!("CPU against an empty handler, {where_}"), ratio, "×").goal(Goal::AtMost(CPU_GOAL)),
                );
            }
            if let Some(ratio) = against(rounds, key, Kind::Webdis, |one| one.requests_per_second) {
                figures.push(
                    Figure::new(format!("requests a second against webdis, {where_}"), ratio, "×").goal(Goal::AtLeast(RATE_GOAL)),
                );
            }
        }
    }
    figures
}

fn charts(kinds: &[Kind], rounds: &Rounds) -> Vec<Chart> {
    let mut charts = Vec::new();
    for (word, views) in [("new", Views::New), ("repeated", Views::Repeated)] {
        let bars =
            kinds.iter().filter_map(|kind| Some((kind.name().to_owned(), middle(rounds, usual(views), *kind)?.server_cpu)));
        charts.push(Chart::Bars {
            file: format!("cpu-{word}.svg"),
            title: format!("CPU of the server for a {word} view, {USUAL_CONNECTIONS} connections"),
            unit: "µs".to_owned(),
            bars: bars.collect(),
        });
    }
    let by_connections = |of: fn(&Measured) -> f64| -> Vec<(String, Vec<(f64, f64)>)> {
        let series = kinds.iter().map(|kind| {
            let points = CONNECTIONS
                .iter()
                .filter_map(|number| Some((*number as f64, of(&middle(rounds, (usual(Views::New).0, *number), *kind)?))));
            (kind.name().to_owned(), points.collect::<Vec<_>>())
        });
        series.filter(|(_, points)| points.len() > 1).collect()
    };
    for (file, title, y, series) in [
        ("rate.svg", "New views, one a request", "requests a second", by_connections(|one| one.requests_per_second)),
        ("p99.svg", "New views: what 99 of 100 answers do not exceed", "ms", by_connections(|one| one.p99)),
    ] {
        if !series.is_empty() {
            let (file, title, y) = (file.to_owned(), title.to_owned(), y.to_owned());
            charts.push(Chart::Lines { file, title, x: "connections".to_owned(), y, series });
        }
    }
    charts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_to_the_floor_are_taken_round_by_round() {
        let round = |server_cpu| Measured { server_cpu, ..Measured::default() };
        let (workload, connections) = usual(Views::New);
        let rounds = Rounds::from([
            ((workload, connections, Kind::ViewIngest), vec![round(20.0), round(60.0), round(30.0)]),
            ((workload, connections, Kind::Floor), vec![round(10.0), round(20.0), round(10.0)]),
        ]);
        assert_eq!(against_floor(&rounds, usual(Views::New), Kind::ViewIngest, |one| one.server_cpu), Some(3.0));
    }

    #[test]
    fn everything_is_measured_once_and_nest_only_where_servers_are_compared() {
        let all = all_keys(&Kind::ALL, false);
        assert_eq!(all.len(), 4 * 3 + 2 * 2);
        assert!(all.iter().all(|key| all.iter().filter(|other| *other == key).count() == 1));
        assert_eq!(keys(Kind::Nest, false), [usual(Views::New), usual(Views::Repeated)]);
    }
}
