//! What one address may do: one that floods, from which somebody views as well, and its neighbours. Each part has an
//! address of its own, all of which are this machine's. Of IPv6 there is one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde_json::json;
use testkit::http::Client;
use testkit::load_balancer::{Kind, LoadBalancer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use super::subject::{Subject, holds};
use crate::shell::field;

const FLOODING: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
const ANOTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4));
const CONNECTING: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5));
/// Far more than the limit, so that the address is past it for some seconds more.
const FLOOD: usize = 2_000;
/// Connections that are opened, and how many of them stay.
const OPENED: usize = 210;
const LEFT: usize = 200;
/// When nothing has been closed for so long, nothing more will be.
const QUIET: Duration = Duration::from_secs(1);
const REFUSAL: &str = r#"{"statusCode":429,"message":"Слишком много запросов, повторите позже","error":"Too Many Requests"}"#;

pub(super) async fn check(subject: &mut Subject, kind: Kind, proxy: &LoadBalancer, token: &str, post: &str) {
    let report = &mut subject.report;
    let path = format!("/posts/{post}/views");
    let statuses = flood(FLOODING, proxy.address(), &path).await;
    report.check("anonymous requests of one address, up to the limit and past it", "{200, 429}", statuses);

    let flooding = Client::from_address(FLOODING, proxy.address());
    let refusal = flooding.get(&path).await;
    let is_refused = refusal.status == 429 && refusal.header("retry-after") == "10";
    report.holds("the refusal says when to try again", holds(is_refused, || format!("{refusal:?}")));
    report.check("the refusal has the API's form", REFUSAL, refusal.body.trim_end());
    let authorization = format!("Bearer {token}");
    let answer = flooding.request("GET", &path, &[("authorization", &authorization)], "").await;
    report.check("a token is no way around for a read", 429, answer.status);
    let answer = flooding.request("POST", "/posts/view", &[], "").await;
    report.check("a POST without a token is anonymous", 429, answer.status);
    let answer = flooding.post_json("/posts/view", Some(token), &json!({ "postId": post })).await;
    report.check("a view from an address that is past the limit", "duplicate", field(&answer.json(), "status"));
    let answer = Client::from_address(ANOTHER, proxy.address()).get(&path).await;
    report.check("an anonymous request from another address", 200, answer.status);
    report.check("how many connections of one address stay", LEFT, connections_left(proxy.address(), beginning(kind)).await);
    if let Some(address) = proxy.address_v6() {
        let statuses = flood(IpAddr::V6(Ipv6Addr::LOCALHOST), address, &path).await;
        report.check("an address of IPv6 has the same limit", "{200, 429}", statuses);
    }
}

/// Reads from an address of this machine, and returns which statuses came.
async fn flood(local: IpAddr, server: SocketAddr, path: &str) -> String {
    let client = Client::from_address(local, server);
    let mut statuses = BTreeSet::new();
    for _ in 0..FLOOD {
        statuses.insert(client.try_request("GET", path, &[], "").await.map_or(0, |answer| answer.status));
    }
    format!("{statuses:?}")
}

/// Returns what a connection has to say to be counted.
fn beginning(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::HaProxy => b"",
        // It counts connections with a request, of which the body may be on its way.
        Kind::Nginx => b"POST /posts/view HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n",
    }
}

/// Opens connections from an address, and returns how many of them the other side has left open.
async fn connections_left(server: SocketAddr, beginning: &[u8]) -> usize {
    let mut open = Vec::new();
    for _ in 0..OPENED {
        let socket = TcpSocket::new_v4().expect("there is room for another socket");
        socket.bind(SocketAddr::new(CONNECTING, 0)).expect("the address is this machine's");
        // One that is closed before it could be used counts as closed.
        let Ok(mut stream) = socket.connect(server).await else { continue };
        if stream.write_all(beginning).await.is_ok() {
            open.push(stream);
        }
    }
    loop {
        let before = open.len();
        sleep(QUIET).await;
        open.retain(is_open);
        if open.len() == before {
            return before;
        }
    }
}

/// Nobody has asked for anything in full, so whatever can be read is an end.
fn is_open(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}
