//! How long clients wait: a hundred views that arrive together, and a steady load that leaves room.

use tokio::time::{Instant, sleep};

use super::setting::{POSTS, Setting, VIEWERS, say};
use crate::{
    client::{self, Connection},
    machine::Machine,
    pace::{self, Pace},
    population::Population,
    report::{Figure, Goal, Part},
    stats::Times,
    stores,
    workload::{Ask, Shape, Size, Views, Workload},
};

/// As many as the design's origin promises an answer within about ten milliseconds.
const TOGETHER: usize = 100;
const TOGETHER_GOAL_MS: f64 = 10.0;
const STEADY: Pace = Pace { connections: 100, per_second: 5_000 };

const HOW: &str = "A hundred connections are open before; then one view is sent over each of them at once, and the clock runs until the \
    last of the hundred answers is there. All views are new, and nothing else is going on. The steady load sends new views at set \
    times, whether earlier ones have been answered or not, and a view that was sent late counts from when it was due.";

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Part> {
    let population = Population::new(POSTS, VIEWERS);
    let postgres = stores::postgres().await;
    let server = setting.ingest(&postgres, &population).await?;
    let workload = Workload { size: Size::Single, views: Views::New, shape: Shape::Uniform };
    server.prepare(&postgres, &population, workload).await?;
    let repetitions = setting.scale(2_000, 100);
    let steady = setting.duration() * 4;
    let steady_views = STEADY.per_second * usize::try_from(steady.as_secs())? * 2;
    let asks = workload.requests(&population, repetitions * TOGETHER + steady_views);
    let request = |Ask { viewer, body }: Ask| client::view(&population.viewers[viewer], &population.posts[body..=body]);
    let (first, rest) = asks.split_at(repetitions * TOGETHER);

    say(format_args!("{repetitions} times {TOGETHER} views at once"));
    let mut connections = Vec::with_capacity(TOGETHER);
    for _ in 0..TOGETHER {
        connections.push(Connection::open(server.address).await?);
    }
    let mut times = Vec::with_capacity(repetitions);
    for asks in first.chunks(TOGETHER) {
        let requests: Vec<Vec<u8>> = asks.iter().map(|ask| request(*ask)).collect();
        let began = Instant::now();
        for (connection, request) in connections.iter_mut().zip(&requests) {
            connection.send(request).await?;
        }
        for connection in &mut connections {
            connection.receive().await?;
        }
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let together = Times::new(times);
    drop(connections);

    say(format_args!("{} views a second", STEADY.per_second));
    let steady = pace::run(server.address, STEADY, |number| request(rest[number % rest.len()]), sleep(steady)).await?;
    let figure = |what: &str, value: f64| Figure::new(what, value, "ms");
    Ok(Part {
        title: "Latency".to_owned(),
        how: HOW.to_owned(),
        machine: Machine::look(),
        figures: vec![
            figure("100 views at once, all answered: median", together.percentile(50.0)),
            figure("100 views at once, all answered: p99", together.percentile(99.0)).goal(Goal::AtMost(TOGETHER_GOAL_MS)),
            figure(&format!("100 views at once, all answered: the slowest of {}", together.len()), together.max()),
            figure("5,000 views a second over 100 connections: median", steady.percentile(50.0)),
            figure("5,000 views a second over 100 connections: p99", steady.percentile(99.0)),
            figure(&format!("5,000 views a second over 100 connections: the slowest of {}", steady.len()), steady.max()),
        ],
        tables: Vec::new(),
        charts: Vec::new(),
        raw: serde_json::Value::Null,
    })
}
