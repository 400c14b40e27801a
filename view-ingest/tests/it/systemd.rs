//! A listening socket that systemd hands over.

use testkit::{http::Client, ports, process::Daemon};

use crate::support::{Ingest, PROGRAM, SECRET, World};

#[tokio::test]
async fn a_socket_of_systemd_is_used_instead_of_an_own_one() {
    let world = World::redis_alone().await;
    let port = ports::free();
    // The address that the settings name cannot be listened on, so using it would be an end with an error.
    let settings = [
        ("REDIS_URL", world.server.url()),
        ("JWT_SECRET", SECRET.to_owned()),
        ("VIEW_INGEST_LISTEN", world_address(&world)),
        ("VIEW_INGEST_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
        ("VIEW_INGEST_WORKERS", "2".to_owned()),
    ];
    let activator = Daemon::builder("systemd-socket-activate").arg(format!("--listen=127.0.0.1:{port}"));
    let activator = settings.iter().fold(activator, |activator, (name, value)| activator.arg(format!("--setenv={name}={value}")));
    let daemon = activator.arg(PROGRAM).start();
    daemon.wait_for_line("Listening on").await;

    // The first connection starts the program, and is waiting for it in the socket.
    let address = ([127, 0, 0, 1], port).into();
    let http = Client::new(address);
    assert_eq!(http.get("/livez").await.status, 200);
    let line = daemon.wait_for_line("listener=\"public\"").await;
    assert!(line.contains("from_systemd=true") && line.contains(&format!("address=127.0.0.1:{port}")), "{line}");
    let admin = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_nth_line(2, "Redis connected").await;
    let app = Ingest { daemon, address, http, admin };
    assert_eq!(app.verdict("ann", "p").await, "counted 1");

    app.daemon.signal("TERM");
    assert_eq!(app.daemon.wait_exit().await.code(), Some(0));
}

#[tokio::test]
async fn sockets_for_another_process_are_left_alone() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("LISTEN_FDS", "1"), ("LISTEN_PID", "1")]).await;
    assert_eq!(app.http.get("/livez").await.status, 200);
    assert_eq!(app.daemon.lines_with("from_systemd=false").len(), 1, "{:?}", app.daemon.output());
}

/// An address that is taken: Redis listens there.
fn world_address(world: &World) -> String {
    format!("127.0.0.1:{}", world.server.port())
}
