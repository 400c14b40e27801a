//! A steady load at a set rate. Unlike a load that waits for its answers, it does not slow down with the server and
//! hide that.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::{client::Connection, stats::Times};

/// How many requests a second, over how many connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) connections: usize,
    pub(crate) per_second: usize,
}

/// Sends requests until `until` is over, and gives the answers' times in milliseconds. A request that its connection
/// could not send in time, for want of the answer before, has waited since it was due.
pub(crate) async fn run(
    address: SocketAddr,
    pace: Pace,
    request: impl Fn(usize) -> Vec<u8>,
    until: impl Future<Output = ()>,
) -> anyhow::Result<Times> {
    let period = Duration::from_secs_f64(pace.connections as f64 / pace.per_second as f64);
    let start = Instant::now() + Duration::from_millis(100);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let clients = join_all((0..pace.connections).map(|place| {
        let (request, stopped) = (&request, stopped.clone());
        async move {
            let mut connection = Connection::open(address).await?;
            let offset = period.mul_f64(place as f64 / pace.connections as f64);
            let mut clock = interval_at(start + offset, period);
            clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut times = Vec::new();
            let mut free_since = Instant::now();
            for round in 0.. {
                let due = clock.tick().await;
                if *stopped.borrow() {
                    break;
                }
                let request = request(round * pace.connections + place);
                // The timer itself is a millisecond late at times, which is nobody's fault who is measured here.
                let since = if free_since > due { due } else { Instant::now() };
                connection.ask(&request).await?;
                free_since = Instant::now();
                times.push((free_since - since).as_secs_f64() * 1e3);
            }
            anyhow::Ok(times)
        }
    }));
    let timer = async {
        until.await;
        // The clients live as long as this.
        let _ = stop.send(true);
    };
    let (times, ()) = tokio::join!(clients, timer);
    Ok(Times::new(times.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat()))
}
