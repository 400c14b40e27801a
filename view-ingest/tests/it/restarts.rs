//! A single copy whose socket systemd holds: while it restarts, connections wait there.

use std::{collections::HashSet, net::TcpListener};

use testkit::{
    process::Daemon,
    traffic::{Traffic, View},
};

use crate::support::{SECRET, World};

pub(crate) const CLIENTS: usize = 16;
/// Enough for each client to have been through several times.
pub(crate) const A_FEW: usize = 20 * CLIENTS;
pub(crate) const POSTS: [&str; 3] = ["p", "q", "r"];
const RESTARTS: usize = 3;

/// Ends the traffic, demands that Redis has every view that was acknowledged, and gives those that were not.
pub(crate) async fn failures(world: &World, traffic: Traffic) -> Vec<View> {
    let views = traffic.stop().await;
    let recorded: HashSet<_> = world.outbox().await.into_iter().collect();
    let (acknowledged, failures): (Vec<View>, Vec<View>) = views.into_iter().partition(View::is_acknowledged);
    let lost = acknowledged.iter().filter(|view| !recorded.contains(&(view.post.clone(), view.viewer.to_string())));
    let lost: Vec<&View> = lost.collect();
    assert!(lost.is_empty(), "{} of {} acknowledged views are lost: {lost:?}", lost.len(), acknowledged.len());
    failures
}

/// Starts the program with the socket, as systemd does, and waits until it uses it.
async fn start(world: &World, socket: &TcpListener) -> Daemon {
    let daemon = world.program().socket(socket).start();
    let line = daemon.wait_for_line("listener=\"public\"").await;
    assert!(line.contains("from_systemd=true"), "{line}");
    daemon
}

#[tokio::test]
async fn restarts_of_a_single_copy_with_a_socket_of_systemd_fail_no_request() {
    let world = World::redis_alone().await;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut copy = start(&world, &socket).await;
    let traffic = Traffic::start(socket.local_addr().unwrap(), SECRET, POSTS.map(str::to_owned), CLIENTS);
    traffic.goes_on(A_FEW).await;
    for _ in 0..RESTARTS {
        copy.signal("TERM");
        assert!(copy.wait_exit().await.success());
        assert_eq!(copy.lines_with("connections were still open"), Vec::<String>::new());
        copy = start(&world, &socket).await;
        traffic.goes_on(A_FEW).await;
    }
    let failures = failures(&world, traffic).await;
    assert!(failures.is_empty(), "{} failed: {failures:?}", failures.len());
}
