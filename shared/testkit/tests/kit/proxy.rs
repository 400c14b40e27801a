//! Outages on demand.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use testkit::proxy::Proxy;
use testkit::{SOON, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// A server that echoes, and reports what it has received.
async fn echo() -> (SocketAddr, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    let _ = sender.send(buffer[..length].to_vec());
                    let _ = stream.write_all(&buffer[..length]).await;
                }
            });
        }
    });
    (address, receiver)
}

async fn exchange(stream: &mut TcpStream) -> std::io::Result<[u8; 4]> {
    let mut answer = [0; 4];
    stream.write_all(b"ping").await?;
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn a_broken_network_cuts_and_refuses_until_it_is_restored() {
    let (target, _received) = echo().await;
    let proxy = Proxy::start(target).await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(&exchange(&mut stream).await.unwrap(), b"ping");

    for _ in 0..3 {
        proxy.break_networking().await;
        assert!(exchange(&mut stream).await.is_err());
        assert!(TcpStream::connect(proxy.address()).await.is_err());
        proxy.restore().await;
        stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(&exchange(&mut stream).await.unwrap(), b"ping");
    }
    assert_eq!(proxy.accepted(), 4);
}

#[tokio::test]
async fn nobody_gets_the_port_of_a_broken_network() {
    let (target, _received) = echo().await;
    let proxy = Proxy::start(target).await;
    for _ in 0..3 {
        proxy.break_networking().await;
        // With SO_REUSEADDR, as every server, and without, as a client that the system chooses a port for.
        assert_eq!(TcpListener::bind(proxy.address()).await.unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(TcpSocket::new_v4().unwrap().bind(proxy.address()).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(TcpStream::connect(proxy.address()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        proxy.restore().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(&exchange(&mut stream).await.unwrap(), b"ping");
    }
}

#[tokio::test]
async fn swallowed_replies_leave_the_request_done_and_the_client_in_doubt() {
    let (target, mut received) = echo().await;
    let proxy = Proxy::start(target).await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.swallow_replies();
    stream.write_all(b"ping").await.unwrap();
    assert_eq!(timeout(SOON, received.recv()).await.unwrap().unwrap(), b"ping");
    let mut answer = [0; 4];
    assert!(timeout(Duration::from_millis(100), stream.read_exact(&mut answer)).await.is_err());

    proxy.restore().await;
    assert_eq!(timeout(SOON, stream.read(&mut answer)).await.unwrap().unwrap(), 0, "the connection must be cut");
}

#[tokio::test]
async fn a_frozen_network_loses_nothing() {
    let (target, mut received) = echo().await;
    let proxy = Proxy::start(target).await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.freeze();
    stream.write_all(b"ping").await.unwrap();
    assert!(timeout(Duration::from_millis(100), received.recv()).await.is_err());

    proxy.restore().await;
    let mut answer = [0; 4];
    timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"ping");
}

#[tokio::test]
async fn a_delay_counts_in_each_direction() {
    let (target, _received) = echo().await;
    let proxy = Proxy::start(target).await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.delay(Duration::from_millis(50));
    let start = Instant::now();
    assert_eq!(&exchange(&mut stream).await.unwrap(), b"ping");
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_dropped_proxy_closes_its_port_and_connections() {
    let (target, _received) = echo().await;
    let proxy = Proxy::start(target).await;
    let address = proxy.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(&exchange(&mut stream).await.unwrap(), b"ping");
    drop(proxy);
    eventually("the port is closed", SOON, async || TcpStream::connect(address).await.is_err()).await;
    assert!(exchange(&mut stream).await.is_err());
}

#[tokio::test]
async fn new_connections_can_be_led_elsewhere_while_open_ones_stay() {
    let ((first, mut at_first), (second, mut at_second)) = (echo().await, echo().await);
    let proxy = Proxy::start(first).await;
    let mut old = TcpStream::connect(proxy.address()).await.unwrap();
    exchange(&mut old).await.unwrap();
    proxy.redirect(second.port());
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    exchange(&mut new).await.unwrap();
    exchange(&mut old).await.unwrap();
    assert_eq!((at_first.recv().await.unwrap(), at_first.recv().await.unwrap()), (b"ping".to_vec(), b"ping".to_vec()));
    assert_eq!(at_second.recv().await.unwrap(), b"ping");
    assert!(at_first.try_recv().is_err() && at_second.try_recv().is_err());
}

#[tokio::test]
async fn answers_can_be_disguised() {
    let (target, mut received) = echo().await;
    let proxy = Proxy::start(target).await;
    proxy.disguise("in", "on");
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(&exchange(&mut stream).await.unwrap(), b"pong");
    assert_eq!(received.recv().await.unwrap(), b"ping");
    proxy.restore().await;
    assert_eq!(&exchange(&mut stream).await.unwrap(), b"ping");
}

#[tokio::test]
async fn a_session_of_postgresql_has_no_options_behind_a_proxy_that_drops_them() {
    let database = testkit::postgres::shared().await.database().await;
    let port: u16 = database.url().rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap();
    let proxy = Proxy::to_port(port).await;
    let url = database.url().replace(&format!(":{port}/"), &format!(":{}/", proxy.port()));
    let mut config: tokio_postgres::Config = url.parse().unwrap();
    config.options("-c statement_timeout=7s").application_name("kept");
    for expected in ["7s", "0"] {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let settings =
            "select current_setting('statement_timeout'), current_setting('application_name'), current_database()::text";
        let row = client.query_one(settings, &[]).await.unwrap();
        assert_eq!([0, 1, 2].map(|place| row.get::<usize, &str>(place)), [expected, "kept", database.name()]);
        proxy.drop_options();
    }
}
