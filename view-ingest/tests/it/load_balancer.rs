//! Two copies behind HAProxy and behind nginx, which run with the project's own sample configurations.

use std::net::SocketAddr;

use testkit::{
    SOON, eventually,
    http::Client,
    load_balancer::{Kind, LoadBalancer},
    ports,
    process::Daemon,
    traffic::{Traffic, View},
};

use crate::{
    restarts::{A_FEW, CLIENTS, POSTS, failures},
    support::{SECRET, World},
};

/// That of the sample `systemd/view-ingest.env`.
const SHUTDOWN_DELAY: &str = "3s";

/// Two copies of the program behind a load balancer, and clients that view through it.
struct Site {
    world: World,
    addresses: [SocketAddr; 2],
    copies: [Daemon; 2],
    proxy: LoadBalancer,
    traffic: Traffic,
}

impl Site {
    async fn under_load(kind: Kind) -> Self {
        let world = World::redis_alone().await;
        let addresses = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], ports::free())));
        let copies = [start(&world, addresses[0]).await, start(&world, addresses[1]).await];
        // Nobody asks for a synchronization here.
        let syncd = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let proxy = LoadBalancer::start(kind, addresses, syncd).await;
        let traffic = Traffic::start(proxy.address(), SECRET, POSTS.map(str::to_owned), CLIENTS);
        traffic.goes_on(A_FEW).await;
        Self { world, addresses, copies, proxy, traffic }
    }

    /// Starts a copy again that has ended, and waits until it is sent views.
    async fn start_again(&mut self, place: usize) {
        self.copies[place] = start(&self.world, self.addresses[place]).await;
        self.proxy.wait_until_served_by(place).await;
        self.traffic.goes_on(A_FEW).await;
    }

    /// Ends the traffic, demands that Redis has every view that was acknowledged, and gives those that were not.
    async fn failures(self) -> Vec<View> {
        failures(&self.world, self.traffic).await
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
    let restart = async |kind| {
        let mut site = Site::under_load(kind).await;
        for place in [0, 1] {
            site.copies[place].signal("TERM");
            assert!(site.copies[place].wait_exit().await.success());
            site.traffic.goes_on(A_FEW).await;
            site.start_again(place).await;
        }
        let failures = site.failures().await;
        assert!(failures.is_empty(), "{kind:?}: {} failed: {failures:?}", failures.len());
    };
    let [one, other] = Kind::ALL.map(restart);
    tokio::join!(one, other);
}

#[tokio::test]
async fn the_death_of_one_costs_at_most_the_requests_in_flight_and_no_acknowledged_view() {
    let die = async |kind| {
        let mut site = Site::under_load(kind).await;
        site.copies[0].kill9().await;
        site.traffic.goes_on(A_FEW).await;
        site.start_again(0).await;
        let failures = site.failures().await;
        assert!(failures.len() <= CLIENTS, "{kind:?}: {} failed: {failures:?}", failures.len());
    };
    let [one, other] = Kind::ALL.map(die);
    tokio::join!(one, other);
}

/// nginx cannot count them.
#[tokio::test]
async fn requests_that_are_refused_have_a_limit_by_address_whatever_token_they_have() {
    let site = Site::under_load(Kind::HaProxy).await;
    let client = Client::new(site.proxy.address());
    let refused = || async {
        let junk = [("authorization", "x"), ("content-type", "application/json")];
        client.request("POST", "/posts/view", &junk, "{}").await.status == 429
    };
    eventually("the limit is met", SOON, refused).await;
    let sync = client.request("POST", "/posts/sync-views", &[("authorization", "x")], "").await;
    assert_eq!(sync.status, 429, "there is one for all of them");
}
