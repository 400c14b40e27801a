//! Whether a view costs more where there is more of everything.

use serde::Serialize;

use super::setting::{Setting, say};
use crate::{
    load::{Load, Pressure},
    machine::Machine,
    measure::{Measured, measure},
    population::Population,
    report::{Chart, Figure, Part, Table, markdown::number},
    stores,
    workload::{Shape, Size, Views, Workload},
};

const FACTORS: [usize; 3] = [1, 10, 100];
/// What is there of everything that does not grow.
const POSTS: usize = 10_000;
const VIEWERS: usize = 10_000;
const CONNECTIONS: usize = 100;
/// What is there of the one thing that grows, at first.
const FIRST: usize = 1_000;
const FIRST_CONNECTIONS: usize = 16;

const HOW: &str = "One thing grows to ten and a hundred times, and the others stay: 10,000 posts, 10,000 viewers, 100 connections. Posts \
    and viewers begin at 1,000, connections at 16. Single views of uniform posts.";

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Dimension {
    Posts,
    Viewers,
    Connections,
}

#[derive(Debug, Serialize)]
struct Point {
    dimension: Dimension,
    factor: usize,
    views: Views,
    measured: Measured,
}

impl Dimension {
    const ALL: [Self; 3] = [Self::Posts, Self::Viewers, Self::Connections];

    fn name(self) -> &'static str {
        match self {
            Self::Posts => "posts",
            Self::Viewers => "viewers",
            Self::Connections => "connections",
        }
    }

    /// Returns how many posts, viewers and connections there are.
    fn sizes(self, factor: usize) -> [usize; 3] {
        match self {
            Self::Posts => [FIRST * factor, VIEWERS, CONNECTIONS],
            Self::Viewers => [POSTS, FIRST * factor, CONNECTIONS],
            Self::Connections => [POSTS, VIEWERS, FIRST_CONNECTIONS * factor],
        }
    }
}

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Part> {
    let postgres = stores::postgres().await;
    let factors = setting.scale(&FACTORS[..], &FACTORS[..2]);
    let mut points = Vec::new();
    for dimension in Dimension::ALL {
        for factor in factors {
            let [posts, viewers, connections] = dimension.sizes(*factor);
            let population = Population::new(posts, viewers);
            let server = setting.ingest(&postgres, &population).await?;
            let pressure = Pressure { connections, seconds: setting.seconds };
            for views in [Views::New, Views::Repeated] {
                let workload = Workload { size: Size::Single, views, shape: Shape::Uniform };
                let load = Load::new(&population, workload, setting.seconds)?;
                let mut rounds = Vec::new();
                for _ in 0..setting.rounds {
                    rounds.push(measure(&server, &postgres, &population, &load, pressure).await?);
                }
                let measured = Measured::median(&rounds);
                say(format_args!("{factor} × {}, {workload}: {} µs CPU a view", dimension.name(), number(measured.server_cpu)));
                points.push(Point { dimension, factor: *factor, views, measured });
            }
        }
    }
    Ok(part(&points, factors))
}

fn part(points: &[Point], factors: &[usize]) -> Part {
    let of = |dimension: Dimension, views: Views| {
        points.iter().filter(move |point| point.dimension == dimension && point.views == views)
    };
    let rows = points.iter().map(|point| {
        let Measured { requests_per_second, p99, server_cpu, redis_cpu, peak_mib, .. } = point.measured;
        let views = if point.views == Views::New { "new" } else { "repeated" };
        let mut row = vec![format!("{} × {}", point.factor, point.dimension.name()), views.to_owned()];
        row.extend([requests_per_second.round(), p99, server_cpu, redis_cpu, peak_mib].map(number));
        row
    });
    let figures = Dimension::ALL.iter().flat_map(|dimension| {
        let mut costs = of(*dimension, Views::Repeated).map(|point| point.measured.server_cpu);
        let first = costs.next()?;
        let factor = factors.last().copied().unwrap_or(1);
        let what = format!("CPU of a repeated view at {factor} times the {}, against once", dimension.name());
        Some(Figure::new(what, costs.next_back()? / first, "×"))
    });
    let chart = |file: &str, title: &str, y: &str, number_of: fn(&Measured) -> f64| Chart::Lines {
        file: file.to_owned(),
        title: title.to_owned(),
        x: "times as much".to_owned(),
        y: y.to_owned(),
        series: Dimension::ALL
            .iter()
            .map(|dimension| {
                let line = of(*dimension, Views::New).map(|point| (point.factor as f64, number_of(&point.measured)));
                (dimension.name().to_owned(), line.collect())
            })
            .collect(),
    };
    let columns = ["", "views", "req/s", "p99 ms", "CPU µs/view", "Redis µs/view", "peak MiB"];
    Part {
        title: "Growth".to_owned(),
        how: HOW.to_owned(),
        machine: Machine::look(),
        figures: figures.collect(),
        tables: vec![Table {
            title: "view-ingest, where there is more of one thing".to_owned(),
            columns: columns.map(str::to_owned).to_vec(),
            rows: rows.collect(),
        }],
        charts: vec![
            chart("growth-cpu.svg", "CPU of view-ingest for a new view", "µs", |one| one.server_cpu),
            chart("growth-redis.svg", "CPU of Redis for a new view", "µs", |one| one.redis_cpu),
        ],
        raw: serde_json::to_value(points).unwrap_or_default(),
    }
}
