//! HAProxy for real: two view-ingest servers and view-syncd behind the sample configuration, and one of the servers
//! goes away.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;
use testkit::haproxy::{self, HaProxy};
use testkit::http::Client;
use testkit::{SOON, within};
use tokio::process::Command;

use super::limits;
use super::subject::{Subject, holds};
use crate::daemons::{self, ANY_PORT, Ingest, Syncd, program};
use crate::repository;
use crate::shell::{field, succeeds};
use crate::stores::Stores;

const SAMPLE: &str = "deploy/haproxy.cfg";
const POST: &str = "550e8400-e29b-41d4-a716-446655440000";
const VIEWER: &str = "b0000000-0000-4000-8000-000000000001";
const ADMIN: &str = "b0000000-0000-4000-8000-000000000002";
/// An address of this machine that no other part of the check uses.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Requests while a server goes away.
const REQUESTS: usize = 100;

pub(super) async fn check(subject: &mut Subject, stores: &Stores, role_url: &str) {
    subject.report.headline(SAMPLE);
    check_syntax(subject).await;
    let environment = stores.environment(role_url);
    let [first, second] = [(); 2].map(|()| program(&subject.binaries, "view-ingest", &environment));
    let ingest1 = Ingest::start(first, ANY_PORT, ANY_PORT).await;
    let ingest2 = Ingest::start(second, ANY_PORT, ANY_PORT).await;
    let syncd = Syncd::start(program(&subject.binaries, "view-syncd", &environment), ANY_PORT).await;
    let proxy = HaProxy::start([ingest1.public, ingest2.public], syncd.admin).await;
    let count = format!("/posts/{POST}/views");
    let answers = within(SOON, async || daemons::status(proxy.address(), "GET", &count, &[]).await == 200).await;
    subject.report.holds("HAProxy has servers to ask", answers);

    let client = Client::new(proxy.address());
    let (viewer, admin) = (stores.token(VIEWER), stores.admin_token(ADMIN));
    let answer = client.post_json("/posts/view", Some(&viewer), &json!({ "postId": POST })).await;
    subject.report.check("a view through HAProxy", "counted", field(&answer.json(), "status"));
    let answer = client.request("POST", "/posts/sync-views", &[("authorization", &format!("Bearer {admin}"))], "").await;
    subject.report.check("a synchronization through HAProxy", "Synchronization completed", field(&answer.json(), "message"));
    let answer = client.get("/posts/sync-views").await;
    subject.report.check("view-syncd says itself that only POST will do", 405, answer.status);
    subject.report.check("no metrics through HAProxy", 404, client.get("/metrics").await.status);

    limits::check(subject, &proxy, &viewer, POST).await;

    // Each request asks the next server in turn, so both are needed until HAProxy has noticed.
    ingest1.daemon.signal("TERM");
    let client = Client::from_address(ADDRESS, proxy.address());
    let mut statuses = BTreeMap::new();
    for _ in 0..REQUESTS {
        let status = client.try_request("GET", &count, &[], "").await.map_or(0, |answer| answer.status);
        *statuses.entry(status).or_insert(0) += 1;
    }
    subject.report.check("answers while one of two servers goes away", "{200: 100}", format!("{statuses:?}"));
    subject.report.check("exit status of view-ingest", 0, daemons::end_of(&ingest1.daemon).await);
    if !subject.report.is_good() {
        let daemons = [("view-ingest 1", &ingest1.daemon), ("view-ingest 2", &ingest2.daemon), ("view-syncd", &syncd.daemon)];
        subject.report.show_logs(daemons.map(|(name, daemon)| (name.to_owned(), daemon.output().join("\n"))));
        subject.report.show_logs([("HAProxy".to_owned(), proxy.log())]);
    }
}

/// Whether HAProxy accepts the sample, also with what stands there for a proxy in front, which has to be right when it
/// is needed.
async fn check_syntax(subject: &mut Subject) {
    let accepted = succeeds(Command::new(haproxy::program()).args(["-c", "-f"]).arg(repository::path(SAMPLE))).await;
    subject.report.holds("haproxy -c", accepted);
    let networks = subject.folder.write("cdn.lst", "192.0.2.0/24\n");
    let behind = behind_a_proxy(&repository::text(SAMPLE)).replace("/etc/haproxy/cdn.lst", &networks.display().to_string());
    let lines = behind.lines().filter(|line| is_setting(line) && line.contains("from_cdn")).count();
    subject.report.check("the lines for a proxy in front", 2, lines);
    subject.report.holds("the sample names its port", holds(behind.contains("bind :::8080 v4v6"), || "it does not".to_owned()));
    let file = subject.folder.write("haproxy-behind-cdn.cfg", behind);
    let accepted = succeeds(Command::new(haproxy::program()).args(["-c", "-f"]).arg(file)).await;
    subject.report.holds("haproxy -c behind a proxy", accepted);
}

/// Returns the sample with the lines for a proxy in front, and for IPv6.
fn behind_a_proxy(sample: &str) -> String {
    let uncommented = ["acl from_cdn", "http-request set-src"]
        .iter()
        .fold(sample.to_owned(), |text, setting| text.replace(&format!("    #{setting} "), &format!("    {setting} ")));
    uncommented.replace("bind :8080", "bind :::8080 v4v6")
}

fn is_setting(line: &str) -> bool {
    line.starts_with("    ") && !line.trim_start().starts_with('#')
}
