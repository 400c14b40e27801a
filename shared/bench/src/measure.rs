//! One measurement of one server: the load, and what the processes used meanwhile.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use testkit::postgres::PostgresServer;

use crate::{
    cpu,
    load::{BUSY, Load, Pressure},
    population::Population,
    servers::{Kind, Server},
    stats::median,
    workload::Views,
};

/// Views that were to be new and were not, at most.
const MAX_WRONG_SHARE: f64 = 0.01;

/// What was measured. Times of answers are in milliseconds, CPU is in microseconds a view.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) requests_per_second: f64,
    pub(crate) views_per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    pub(crate) server_cpu: f64,
    pub(crate) redis_cpu: f64,
    pub(crate) peak_mib: f64,
    /// The share of the time in which the load's thread was at work.
    pub(crate) load_busy: f64,
}

/// Prepares a server, sends the load, and takes the difference.
pub(crate) async fn measure(
    server: &Server,
    postgres: &PostgresServer,
    population: &Population,
    load: &Load,
    pressure: Pressure,
) -> anyhow::Result<Measured> {
    let what = || format!("{}, {}, {} connections", server.kind.name(), load.workload, pressure.connections);
    server.prepare(postgres, population, load.workload).await.with_context(|| format!("cannot prepare {}", what()))?;
    let members = members(server, population).await?;
    let (pids, redis) = (server.pids(), server.stores.nodes.pids()?);
    cpu::forget_peak(&pids);
    let (server_before, redis_before) = (cpu::used(&pids)?, cpu::used(&redis)?);
    let answers = load.send(server.address, server.kind.dialect(), pressure).await;
    let answers = answers.with_context(|| format!("{}; its last words:\n{}", what(), server.output()))?;
    let (server_cpu, redis_cpu) = (cpu::used(&pids)? - server_before, cpu::used(&redis)? - redis_before);
    let views = answers.requests * load.workload.views_per_request() as u64;
    if server.kind != Kind::Floor {
        let added = self::members(server, population).await?.saturating_sub(members);
        // At the end, each connection has a request under way that the server takes and the load does not count.
        let under_way = (pressure.connections * load.workload.views_per_request()) as u64;
        check_added(load.workload.views, views, added, under_way).with_context(what)?;
    }
    let per_view = |time: Duration| time.as_secs_f64() * 1e6 / views as f64;
    Ok(Measured {
        requests_per_second: answers.rate(),
        views_per_second: answers.rate() * load.workload.views_per_request() as f64,
        p50: answers.p50 / 1e3,
        p99: answers.p99 / 1e3,
        max: answers.max / 1e3,
        server_cpu: per_view(server_cpu),
        redis_cpu: per_view(redis_cpu),
        peak_mib: cpu::peak_memory(&pids)? as f64 / (1024.0 * 1024.0),
        load_busy: answers.busy,
    })
}

async fn members(server: &Server, population: &Population) -> anyhow::Result<u64> {
    server.stores.members(&population.posts).await
}

/// A server that answers without doing its work would look fast.
fn check_added(wanted: Views, views: u64, added: u64, under_way: u64) -> anyhow::Result<()> {
    let expected = if wanted == Views::New { views } else { 0 };
    let wrong = expected.abs_diff(added).saturating_sub(under_way) as f64 / views as f64;
    ensure!(wrong <= MAX_WRONG_SHARE, "{views} views were answered and {added} stored, where {expected} are new");
    Ok(())
}

impl Measured {
    /// Returns the middle of several rounds, number by number.
    pub(crate) fn median(rounds: &[Self]) -> Self {
        let of = |number: fn(&Self) -> f64| median(rounds.iter().map(number));
        Self {
            requests_per_second: of(|one| one.requests_per_second),
            views_per_second: of(|one| one.views_per_second),
            p50: of(|one| one.p50),
            p99: of(|one| one.p99),
            max: of(|one| one.max),
            server_cpu: of(|one| one.server_cpu),
            redis_cpu: of(|one| one.redis_cpu),
            peak_mib: of(|one| one.peak_mib),
            load_busy: of(|one| one.load_busy),
        }
    }

    /// Returns whether the load may have been what limits the requests a second.
    pub(crate) fn load_limits(&self) -> bool {
        self.load_busy > BUSY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_stores_nothing_is_found_out() {
        assert!(check_added(Views::New, 1_000, 1_000, 0).is_ok());
        assert!(check_added(Views::New, 1_000, 1_016, 16).is_ok());
        assert!(check_added(Views::New, 1_000, 0, 16).is_err());
        assert!(check_added(Views::Repeated, 1_000, 0, 0).is_ok());
        assert!(check_added(Views::Repeated, 1_000, 500, 16).is_err());
    }

    #[test]
    fn the_median_of_rounds_is_taken_number_by_number() {
        let round = |p50, p99| Measured { p50, p99, ..Measured::default() };
        let middle = Measured::median(&[round(1.0, 9.0), round(2.0, 7.0), round(3.0, 8.0)]);
        assert_eq!((middle.p50, middle.p99), (2.0, 8.0));
    }

    #[test]
    fn a_busy_load_is_said() {
        assert!(Measured { load_busy: 0.97, ..Measured::default() }.load_limits());
        assert!(!Measured { load_busy: 0.9, ..Measured::default() }.load_limits());
    }
}
