//! A single copy whose socket systemd holds: while it restarts, connections wait there.

use std::{collections::HashSet, net::TcpListener};

use testkit::{load::Load, process::Daemon};

use crate::support::{SECRET, World};

const CLIENTS: usize = 16;
const A_FEW: usize = 20 * CLIENTS;
const RESTARTS: usize = 3;

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
    let load = Load::start(socket.local_addr().unwrap(), SECRET, &["p", "q", "r"], CLIENTS);
    load.goes_on(A_FEW).await;
    for _ in 0..RESTARTS {
        copy.signal("TERM");
        assert!(copy.wait_exit().await.success());
        assert_eq!(copy.lines_with("connections were still open"), Vec::<String>::new());
        copy = start(&world, &socket).await;
        load.goes_on(A_FEW).await;
    }
    let report = load.stop().await;
    assert!(report.failed.is_empty(), "{} failed: {:?}", report.failed.len(), report.failed);
    let recorded: HashSet<_> = world.outbox().await.into_iter().collect();
    assert!(report.acknowledged.is_subset(&recorded), "{} acknowledged, {} recorded", report.acknowledged.len(), recorded.len());
}
