//! What connections cost on which nothing happens.

use futures_util::future::try_join_all;
use tokio::time::sleep;

use super::setting::{POSTS, Setting, VIEWERS, say};
use crate::{
    client::{self, Connection},
    cpu,
    machine::Machine,
    pace::{self, Pace},
    population::Population,
    report::{Figure, Part, markdown::number},
    servers::{Kind, Server},
    stats::median,
    stores,
    workload::{Shape, Size, Views, Workload},
};

const PACE: Pace = Pace { connections: 100, per_second: 5_000 };
/// What the programs need of the limit of open files beside the idle connections.
const OTHER_FILES: u64 = 1_000;
/// Connections that are opened at once.
const CHUNK: usize = 500;
/// Longer than the measurement.
const IDLE_TIMEOUT: (&str, &str) = ("VIEW_INGEST_IDLE_TIMEOUT", "1h");
const ALIVE: &[u8] = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";

const HOW: &str = "Each idle connection has asked once and is kept alive. The memory is what the process of view-ingest holds more than \
    before; the kernel's buffers are not in it. Meanwhile, a hundred other connections send new views at a steady rate, before the \
    idle ones were opened and while they are.";

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Part> {
    let population = Population::new(POSTS, VIEWERS);
    let postgres = stores::postgres().await;
    let server = Server::start_with(Kind::ViewIngest, &setting.programs, &postgres, &population, &[IDLE_TIMEOUT]).await?;
    let workload = Workload { size: Size::Single, views: Views::New, shape: Shape::Uniform };
    server.prepare(&postgres, &population, workload).await?;
    let wanted: usize = setting.scale(10_000, 1_000);
    let (allowed, _) = rlimit::Resource::NOFILE.get()?;
    let number_of_idle = wanted.min(usize::try_from(allowed.saturating_sub(OTHER_FILES))?);
    let mut how = HOW.to_owned();
    if number_of_idle < wanted {
        how +=
            &format!(" The machine allows {allowed} open files, so there are {number_of_idle} connections instead of {wanted}.");
        say(format_args!("the machine allows {allowed} open files: {number_of_idle} connections instead of {wanted}"));
    }
    let seconds = setting.duration() * 2;
    let asks = workload.requests(&population, PACE.per_second * usize::try_from(seconds.as_secs() + 1)? * setting.rounds * 2);
    let mut sent = 0;
    let mut p99 = async |rounds: usize| -> anyhow::Result<f64> {
        let mut found = Vec::new();
        for _ in 0..rounds {
            let first = sent;
            let request = |number: usize| {
                let ask = asks[(first + number) % asks.len()];
                client::view(&population.viewers[ask.viewer], &population.posts[ask.body..=ask.body])
            };
            let times = pace::run(server.address, PACE, request, sleep(seconds)).await?;
            sent += times.len();
            found.push(times.percentile(99.0));
        }
        Ok(median(found))
    };
    let alone = p99(setting.rounds).await?;
    let before = cpu::memory(&server.pids())?;
    say(format_args!("opening {number_of_idle} connections"));
    let mut idle = Vec::with_capacity(number_of_idle);
    while idle.len() < number_of_idle {
        let chunk = CHUNK.min(number_of_idle - idle.len());
        let open = async |_| -> anyhow::Result<Connection> {
            let mut connection = Connection::open(server.address).await?;
            connection.ask(ALIVE).await?;
            Ok(connection)
        };
        idle.extend(try_join_all((0..chunk).map(open)).await?);
    }
    let memory = cpu::memory(&server.pids())?.saturating_sub(before);
    let beside = p99(setting.rounds).await?;
    // None of them was closed meanwhile.
    for connection in &mut idle {
        connection.ask(ALIVE).await?;
    }
    let idle = number(idle.len() as f64);
    Ok(Part {
        title: "Many connections".to_owned(),
        how,
        machine: Machine::look(),
        figures: vec![
            Figure::new("view-ingest's memory for an idle connection", memory as f64 / number_of_idle as f64 / 1024.0, "KiB"),
            Figure::new("p99 of 5,000 views a second, no idle connections", alone, "ms"),
            Figure::new(format!("p99 of 5,000 views a second, {idle} idle connections"), beside, "ms"),
        ],
        tables: Vec::new(),
        charts: Vec::new(),
        raw: serde_json::Value::Null,
    })
}
