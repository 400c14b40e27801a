use std::{os::unix::net::UnixDatagram, time::Duration};

use testkit::{SOON, eventually};

use crate::support::World;

/// What systemd has been told so far.
fn messages(socket: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 1_024];
    let mut messages = Vec::new();
    while let Ok(length) = socket.recv(&mut buffer) {
        messages.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
    }
    messages
}

#[tokio::test]
async fn systemd_learns_of_the_start_the_work_and_the_stop() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let watchdog_us = Duration::from_millis(200).as_micros().to_string();
    let daemon = world.daemon().env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", watchdog_us).start();
    let mut told: Vec<String> = Vec::new();
    eventually("READY and three signs of life", SOON, || {
        told.extend(messages(&socket));
        let signs = told.iter().filter(|text| text.contains("WATCHDOG=1")).count();
        std::future::ready(signs >= 3 && told.iter().any(|text| text.contains("READY=1")))
    })
    .await;
    daemon.signal("TERM");
    assert!(daemon.wait_exit().await.success());
    told.extend(messages(&socket));
    for message in ["STOPPING=1", "EXTEND_TIMEOUT_USEC="] {
        assert!(told.iter().any(|text| text.contains(message)), "{message} is missing in {told:?}");
    }
}
