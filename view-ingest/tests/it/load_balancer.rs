//! Two copies behind HAProxy, which runs with the project's own sample configuration.

use std::{collections::HashSet, net::SocketAddr};

use testkit::{
    SOON, eventually,
    haproxy::HaProxy,
    http::Client,
    load::{Load, Report},
    ports,
    process::Daemon,
};

use crate::support::{SECRET, World};

const SERVERS: [&str; 2] = ["ingest1", "ingest2"];
const CLIENTS: usize = 16;
/// That of the sample `systemd/view-ingest.env`.
const SHUTDOWN_DELAY: &str = "3s";
/// Enough for each client to have been through several times.
const A_FEW: usize = 20 * CLIENTS;

/// Two copies of the program behind HAProxy, and clients that view through it.
struct Site {
    world: World,
    addresses: [SocketAddr; 2],
    copies: [Daemon; 2],
    proxy: HaProxy,
    load: Load,
}

impl Site {
    async fn under_load() -> Self {
        let world = World::redis_alone().await;
        let addresses = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], ports::free())));
        let copies = [start(&world, addresses[0]).await, start(&world, addresses[1]).await];
        // Nobody asks for a synchronization here.
        let syncd = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let proxy = HaProxy::start(addresses, syncd).await;
        let load = Load::start(proxy.address(), SECRET, &["p", "q", "r"], CLIENTS);
        load.goes_on(A_FEW).await;
        Self { world, addresses, copies, proxy, load }
    }

    /// Starts a copy again that has ended, and waits until HAProxy sends it views.
    async fn start_again(&mut self, place: usize) {
        let ups = self.proxy.changes(SERVERS[place], "UP");
        self.copies[place] = start(&self.world, self.addresses[place]).await;
        self.proxy.wait_for_change(SERVERS[place], "UP", ups + 1).await;
        self.load.goes_on(A_FEW).await;
    }

    /// Ends the load, and demands that Redis has every view that was acknowledged.
    async fn finish(self) -> Report {
        let report = self.load.stop().await;
        let recorded: HashSet<_> = self.world.outbox().await.into_iter().collect();
        let lost: Vec<_> = report.acknowledged.difference(&recorded).collect();
        assert!(lost.is_empty(), "{} of {} acknowledged views are lost: {lost:?}", lost.len(), report.acknowledged.len());
        report
    }
}

async fn start(world: &World, address: SocketAddr) -> Daemon {
    let program =
        world.program().env("VIEW_INGEST_LISTEN", address.to_string()).env("VIEW_INGEST_SHUTDOWN_DELAY", SHUTDOWN_DELAY);
    let daemon = program.start();
    let client = Client::new(daemon.wait_for_listening("public").await);
    eventually("view-ingest is ready", SOON, || async { client.get("/readyz").await.status == 200 }).await;
    daemon
}

#[tokio::test]
async fn a_rolling_restart_fails_no_request() {
    let mut site = Site::under_load().await;
    for place in [0, 1] {
        site.copies[place].signal("TERM");
        assert!(site.copies[place].wait_exit().await.success());
        site.load.goes_on(A_FEW).await;
        site.start_again(place).await;
    }
    let report = site.finish().await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
}

#[tokio::test]
async fn the_death_of_one_costs_at_most_the_requests_in_flight_and_no_acknowledged_view() {
    let mut site = Site::under_load().await;
    site.copies[0].kill9().await;
    site.proxy.wait_for_change(SERVERS[0], "DOWN", 1).await;
    site.load.goes_on(A_FEW).await;
    site.start_again(0).await;
    let report = site.finish().await;
    assert!(report.failed.len() <= CLIENTS, "{} failed: {:?}", report.failed.len(), report.failed);
}
