//! What a view costs Redis, and in which commands.

use fred::{
    interfaces::ClientLike,
    types::{CustomCommand, InfoKind},
};

use super::setting::{POSTS, Setting, VIEWERS, say};
use crate::{
    load::{Load, Pressure},
    machine::Machine,
    measure::{Measured, measure},
    population::Population,
    report::{Figure, Goal, Part, Table, markdown::number},
    stores,
    workload::{Shape, Size, Views, Workload},
};

const CONNECTIONS: [usize; 3] = [16, 100, 256];
const USUAL_CONNECTIONS: usize = 100;
const NEW_GOAL_US: f64 = 12.0;
const REPEATED_GOAL_US: f64 = 4.0;

const HOW: &str = "The CPU time of the process of Redis, all of its threads, divided by the views; single views of uniform posts, which \
    share the fewest commands with one another. The append-only file is on (`everysec`). The commands are from `INFO commandstats`, \
    whose times are without reading, writing and the file.";

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Part> {
    let population = Population::new(POSTS, VIEWERS);
    let postgres = stores::postgres().await;
    let server = setting.ingest(&postgres, &population).await?;
    let redis = &server.stores.redis;
    let (mut figures, mut tables) = (Vec::new(), Vec::new());
    let mut rows = Vec::new();
    for (word, views, goal) in [("new", Views::New, NEW_GOAL_US), ("repeated", Views::Repeated, REPEATED_GOAL_US)] {
        let workload = Workload { size: Size::Single, views, shape: Shape::Uniform };
        let load = Load::new(&population, workload, setting.seconds)?;
        for connections in CONNECTIONS {
            let pressure = Pressure { connections, seconds: setting.seconds };
            let mut rounds = Vec::new();
            for _ in 0..setting.rounds {
                rounds.push(measure(&server, &postgres, &population, &load, pressure).await?);
            }
            let middle = Measured::median(&rounds);
            say(format_args!("{word} views, {connections} connections: {} µs a view", number(middle.redis_cpu)));
            let views = number(middle.views_per_second.round());
            rows.push(vec![word.to_owned(), connections.to_string(), views, number(middle.redis_cpu)]);
            if connections == USUAL_CONNECTIONS {
                let figure =
                    Figure::new(format!("CPU of Redis for a {word} view, {connections} connections"), middle.redis_cpu, "µs");
                figures.push(figure.goal(Goal::AtMost(goal)));
            }
        }
        server.prepare(&postgres, &population, workload).await?;
        let () = redis.custom(CustomCommand::new_static("CONFIG", None::<u16>, false), vec!["RESETSTAT"]).await?;
        let pressure = Pressure { connections: USUAL_CONNECTIONS, seconds: setting.seconds };
        let answers = load.send(server.address, server.kind.dialect(), pressure).await?;
        let stats = server.stores.info(InfoKind::CommandStats).await?;
        tables.push(Table {
            title: format!("Commands of a {word} view, {USUAL_CONNECTIONS} connections"),
            columns: ["command", "calls a view", "µs a call", "µs a view"].map(str::to_owned).to_vec(),
            rows: commands(&stats)
                .map(|(name, calls, microseconds)| {
                    let (per_call, per_view) = (microseconds / calls, microseconds / answers.requests as f64);
                    vec![name.to_owned(), number(calls / answers.requests as f64), number(per_call), number(per_view)]
                })
                .collect(),
        });
    }
    let columns = ["views", "connections", "views/s", "Redis µs/view"].map(str::to_owned).to_vec();
    tables.insert(0, Table { title: "CPU of Redis by connections".to_owned(), columns, rows });
    Ok(Part {
        title: "What a view costs Redis".to_owned(),
        how: HOW.to_owned(),
        machine: Machine::look(),
        figures,
        tables,
        charts: Vec::new(),
        raw: serde_json::Value::Null,
    })
}

/// Name, calls and microseconds of each command in `INFO commandstats`, but those of the measurement itself.
fn commands(stats: &str) -> impl Iterator<Item = (&str, f64, f64)> {
    stats.lines().filter_map(|line| {
        let (name, fields) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        let field =
            |name: &str| fields.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('=')?.trim().parse().ok());
        let own = ["info", "config", "ping"].iter().any(|own| name.starts_with(own));
        (!own).then_some((name, field("calls")?, field("usec")?))
    })
}

#[cfg(test)]
mod tests {
    use super::commands;

    #[test]
    fn commands_are_read_with_their_calls_and_times() {
        let stats = "# Commandstats\r\ncmdstat_sadd:calls=10,usec=25,usec_per_call=2.50,rejected_calls=0,failed_calls=0\r\n\
            cmdstat_config|resetstat:calls=1,usec=80,usec_per_call=80.00,rejected_calls=0,failed_calls=0\r\n";
        assert_eq!(commands(stats).collect::<Vec<_>>(), [("sadd", 10.0, 25.0)]);
    }
}
