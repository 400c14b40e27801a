//! The operators' listener among clients that take places and give nothing back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::StatusCode;
use prometheus_client::registry::Registry;
use testkit::{SOON, http::Client};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use views_service::{
    admin::{self, Admin, RouteAnswer},
    readiness::Readiness,
    respond,
};

/// A probe that waits for longer than this takes the process for dead.
const AT_ONCE: Duration = Duration::from_secs(2);
/// More than a listener has places for, and fewer than the system lets wait in its queue.
const MANY: usize = 200;
const LIVEZ: &str = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";

/// A listener with a route `/wait` that answers when the sender says so, and another one with a large answer.
async fn listener() -> (SocketAddr, watch::Sender<bool>) {
    let listener = admin::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (release, released) = watch::channel(false);
    let large = Bytes::from(vec![b' '; 16 << 20]);
    let route: admin::Route = Box::new(move |request| {
        let (large, mut released) = (large.clone(), released.clone());
        match request.uri().path() {
            "/large" => Some(RouteAnswer::Now(respond::json(StatusCode::OK, large))),
            "/wait" => Some(RouteAnswer::Later(Box::pin(async move {
                released.wait_for(|released| *released).await.unwrap();
                admin::live()
            }))),
            _ => None,
        }
    });
    let readiness = Arc::new(Readiness::new(|| None));
    readiness.started();
    tokio::spawn(admin::serve(listener, Arc::new(Admin { readiness, registry: Registry::default(), route: Some(route) })));
    (address, release)
}

async fn connect(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Reads a good answer, which comes at once.
async fn read_answer(stream: &mut TcpStream) {
    let mut answer = String::new();
    let mut buffer = [0; 256];
    while !answer.ends_with(r#"{"status":"ok"}"#) {
        let length = timeout(AT_ONCE, stream.read(&mut buffer)).await.expect("an answer at once").unwrap();
        assert!(length > 0, "closed after {answer:?}");
        answer += &String::from_utf8_lossy(&buffer[..length]);
    }
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

async fn ask(stream: &mut TcpStream) {
    stream.write_all(LIVEZ.as_bytes()).await.unwrap();
    read_answer(stream).await;
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_))
}

/// Demands that probes on new connections are answered at once.
async fn assert_lives(address: SocketAddr) {
    let probes = ["/livez", "/metrics", "/readyz"].map(|path| async move {
        let answer = timeout(AT_ONCE, Client::without_keep_alive(address).get(path)).await;
        assert_eq!(answer.unwrap_or_else(|_| panic!("no answer to {path} within {AT_ONCE:?}")).status, 200, "{path}");
    });
    join_all(probes).await;
}

#[tokio::test]
async fn silent_connections_keep_no_probe_out_and_are_closed_in_the_end() {
    let (address, _) = listener().await;
    let mut silent = join_all((0..MANY).map(|_| connect(address, ""))).await;
    assert_lives(address).await;
    silent.extend(join_all((0..MANY).map(|_| connect(address, "GET /livez HTTP/1.1\r\nhost"))).await);
    assert_lives(address).await;
    for mut stream in silent {
        assert!(timeout(SOON, is_closed(&mut stream)).await.unwrap());
    }
}

#[tokio::test]
async fn connections_that_were_used_and_are_kept_keep_no_probe_out_and_are_closed_in_the_end() {
    let (address, _) = listener().await;
    let mut idle = Vec::new();
    for _ in 0..MANY {
        let mut stream = connect(address, "").await;
        ask(&mut stream).await;
        idle.push(stream);
    }
    assert_lives(address).await;
    for mut stream in idle {
        assert!(timeout(SOON, is_closed(&mut stream)).await.unwrap());
    }
}

#[tokio::test]
async fn clients_that_take_no_answers_keep_no_probe_out() {
    let (address, _) = listener().await;
    let greedy = (0..MANY).map(|_| async {
        let mut stream = connect(address, "GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
        // Some have to give way to others of them before that.
        let _ = timeout(AT_ONCE, stream.read(&mut [0; 15])).await;
        stream
    });
    let _greedy = join_all(greedy).await;
    assert_lives(address).await;
}

#[tokio::test]
async fn the_connection_that_has_asked_for_nothing_for_the_longest_time_gives_way() {
    let (address, _) = listener().await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        let mut stream = connect(address, "").await;
        ask(&mut stream).await;
        streams.push(stream);
    }
    let [first, second, rest @ ..] = streams.as_mut_slice() else { panic!("there are 64") };
    // Each had time to ask.
    sleep(Duration::from_millis(1_100)).await;
    ask(first).await;
    let mut new = connect(address, "").await;
    ask(&mut new).await;
    assert!(timeout(AT_ONCE, is_closed(second)).await.expect("the second gives way"));
    for stream in std::iter::once(first).chain(rest) {
        ask(stream).await;
    }
}

#[tokio::test]
async fn who_waits_for_an_answer_takes_no_place_and_gives_none_up() {
    let (address, release) = listener().await;
    let mut waiting = join_all((0..MANY).map(|_| connect(address, "GET /wait HTTP/1.1\r\nhost: x\r\n\r\n"))).await;
    assert_lives(address).await;
    let _silent = join_all((0..MANY).map(|_| connect(address, ""))).await;
    assert_lives(address).await;
    release.send(true).unwrap();
    join_all(waiting.iter_mut().map(read_answer)).await;
}
