//! The honest client: its views one after the other, and what it has seen.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    super::setting::{Setting, say},
    neighbours::{Neighbour, Neighbours},
};
use crate::{
    client::{self, Connection},
    population::Population,
    report::markdown,
    stats::Times,
};

/// The honest client's pause between two views.
pub(super) const PAUSE: Duration = Duration::from_millis(2);
/// How often a view of a known post may take what it takes alone.
pub(super) const FEW_GOAL: f64 = 5.0;

/// What the honest client has seen.
pub(super) struct Seen {
    pub(super) times: Times,
    /// What the neighbours had answered with a 200, a second.
    pub(super) good: f64,
}

/// Views one post after the other while neighbours are at work. `view` gives the place of the post and of the viewer of
/// each view.
pub(super) async fn honest(
    address: SocketAddr,
    setting: &Setting,
    population: &Population,
    view: impl Fn(usize) -> (usize, usize),
    neighbour: Neighbour,
    connections: usize,
) -> anyhow::Result<Seen> {
    say(format_args!("{connections} neighbours: {neighbour:?}"));
    let neighbours = Neighbours::start(address, neighbour, population, connections);
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

/// Returns a row of the table: the median, the 99th percentile, and what the neighbours had answered.
pub(super) fn row(what: &str, seen: &Seen) -> Vec<String> {
    let times = &seen.times;
    let numbers = [times.percentile(50.0), times.percentile(99.0), seen.good];
    std::iter::once(what.to_owned()).chain(numbers.map(markdown::number)).collect()
}
