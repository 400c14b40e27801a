//! How long views of other primaries' posts take while one primary is killed and its replica takes its place.

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use testkit::postgres::PostgresServer;
use tokio::time::sleep;
use views_core::ids::PostId;

use crate::{
    client,
    pace::{self, Pace},
    parts::setting::{Setting, VIEWERS, say},
    population::Population,
    report::{Figure, Goal, Table, markdown::number},
    servers::{Kind, Server},
    stats::{Times, median},
    stores::{Nodes, Stores},
    workload::{Ask, Shape, Size, Views, Workload},
};

const POSTS: usize = 2_000;
/// The load on the posts of the primaries that stay, and on those of the one that is killed, over connections of their own:
/// one that waits for an answer sends nothing meanwhile.
const OTHERS: Pace = Pace { connections: 50, per_second: 2_000 };
const ITS_OWN: Pace = Pace { connections: 25, per_second: 1_000 };
/// How long the load has gone on when the primary is killed.
const RUN_UP: Duration = Duration::from_millis(500);
/// What an outage of one primary may cost the views of the others' posts.
const P99_GOAL: f64 = 2.0;

const WORKLOAD: Workload = Workload { size: Size::Single, views: Views::New, shape: Shape::Uniform };

/// What the views of one round waited for their answers, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Round {
    quiet: Waits,
    others: Waits,
    its_own: Waits,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Waits {
    median: f64,
    p99: f64,
    slowest: f64,
}

impl From<&Times> for Waits {
    fn from(times: &Times) -> Self {
        Self { median: times.percentile(50.0), p99: times.percentile(99.0), slowest: times.max() }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct FailedOver {
    rounds: Vec<Round>,
}

/// Requests for the posts of one shard, and for those of all others.
struct Requests<'p> {
    population: &'p Population,
    its_own: Vec<Ask>,
    others: Vec<Ask>,
}

impl Requests<'_> {
    /// Sends both for a while. Returns the times of the others' posts first.
    async fn send(&self, server: &Server, duration: Duration) -> anyhow::Result<(Times, Times)> {
        let request = |asks: &[Ask], number: usize| {
            let Ask { viewer, body } = asks[number % asks.len()];
            client::view(&self.population.viewers[viewer], &self.population.posts[body..=body])
        };
        let others = pace::run(server.address, OTHERS, |number| request(&self.others, number), sleep(duration));
        let its_own = pace::run(server.address, ITS_OWN, |number| request(&self.its_own, number), sleep(duration));
        let (others, its_own) = tokio::join!(others, its_own);
        Ok((others?, its_own?))
    }
}

pub(super) async fn run(setting: &Setting, postgres: &PostgresServer) -> anyhow::Result<FailedOver> {
    let population = Population::new(POSTS, VIEWERS);
    let nodes = Nodes::cluster_with_replicas().await;
    let stores = Stores::on(nodes, postgres, &setting.programs.binaries, &population).await?;
    let server = Server::start_on(stores, Kind::ViewIngest, &setting.programs, postgres, &[]).await?;
    server.touch(&population).await?;
    let cluster = server.stores.nodes.as_cluster().context("it is a cluster")?;
    let duration = setting.duration();
    let views = usize::try_from(duration.as_secs() + 1)? * 2 * 2 * (OTHERS.per_second + ITS_OWN.per_second);
    let asks = WORKLOAD.requests(&population, views * setting.rounds);
    let slot = |ask: &Ask| PostId::parse(&population.posts[ask.body]).map(|post| server.stores.nodes.keys.slot(&post));
    let mut failed_over = FailedOver { rounds: Vec::new() };
    for (round, asks) in asks.chunks(views).enumerate() {
        let victim = cluster.primary_of_key(&server.stores.nodes.keys.views(&PostId::parse(&population.posts[round])?)).await;
        let member = victim.members().await.map_err(anyhow::Error::msg)?.into_iter().find(|member| member.is_myself);
        let member = member.context("a node knows itself")?;
        let (its_own, others) = asks.iter().partition(|ask| slot(ask).is_ok_and(|slot| member.has(slot)));
        let requests = Requests { population: &population, its_own, others };
        let (quiet, _) = requests.send(&server, duration).await?;
        let kill = async {
            sleep(RUN_UP).await;
            cluster.kill(victim).await;
        };
        let (times, ()) = tokio::join!(requests.send(&server, duration), kill);
        let (others, its_own) = times?;
        let round_now = Round { quiet: (&quiet).into(), others: (&others).into(), its_own: (&its_own).into() };
        say(format_args!(
            "round {}: p99 {} ms, of the others with a primary killed {} ms, of its own {} ms",
            round + 1,
            number(round_now.quiet.p99),
            number(round_now.others.p99),
            number(round_now.its_own.p99)
        ));
        failed_over.rounds.push(round_now);
        cluster.restart(victim).await;
        cluster.until_ok().await;
    }
    Ok(failed_over)
}

impl FailedOver {
    pub(super) fn figures(&self) -> Vec<Figure> {
        let ratio = median(self.rounds.iter().map(|round| round.others.p99 / round.quiet.p99));
        let what = "p99 of views of the other primaries' posts while one is killed and replaced, against before";
        vec![Figure::new(what, ratio, "×").goal(Goal::AtMost(P99_GOAL))]
    }

    pub(super) fn table(&self) -> Table {
        let row = |name: &str, of: fn(&Round) -> Waits| {
            let numbers = [|waits: Waits| waits.median, |waits: Waits| waits.p99, |waits: Waits| waits.slowest];
            let numbers = numbers.map(|number| median(self.rounds.iter().map(|round| number(of(round)))));
            [vec![name.to_owned()], numbers.map(number).to_vec()].concat()
        };
        let rows = vec![
            row("before, posts of the other primaries", |round| round.quiet),
            row("from the kill on, posts of the other primaries", |round| round.others),
            row("from the kill on, its own posts", |round| round.its_own),
        ];
        let columns = ["3,000 views/s, one of three primaries killed", "median ms", "p99 ms", "slowest ms"];
        Table { title: "A primary is killed".to_owned(), columns: columns.map(str::to_owned).to_vec(), rows }
    }
}
