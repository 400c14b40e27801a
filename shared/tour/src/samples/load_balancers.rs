//! HAProxy and nginx for real: two view-ingest servers and view-syncd behind each sample configuration, and one of the
//! servers goes away.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use serde_json::json;
use testkit::http::Client;
use testkit::load_balancer::{Kind, LoadBalancer};
use testkit::{SOON, within};
use tokio::process::Command;

use super::limits;
use super::subject::Subject;
use crate::daemons::{self, ANY_PORT, Ingest, Syncd, program};
use crate::repository;
use crate::shell::{Environment, field, succeeds};
use crate::stores::Stores;

const POST: &str = "550e8400-e29b-41d4-a716-446655440000";
const ADMIN: &str = "b0000000-0000-4000-8000-000000000002";
/// An address of this machine that no other part of the check uses.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Requests while a server goes away.
const REQUESTS: usize = 100;

pub(super) async fn check(subject: &mut Subject, stores: &Stores, role_url: &str) {
    let environment = stores.environment(role_url);
    let syncd = Syncd::start(program(&subject.binaries, "view-syncd", &environment), ANY_PORT).await;
    let stays = ingest(&subject.binaries, &environment).await;
    for (kind, viewer) in Kind::ALL.into_iter().zip(["b1", "b2"]) {
        subject.report.headline(kind.sample());
        check_syntax(subject, kind).await;
        let goes = ingest(&subject.binaries, &environment).await;
        let proxy = LoadBalancer::start(kind, [goes.public, stays.public], syncd.admin).await;
        let count = format!("/posts/{POST}/views");
        let answers = within(SOON, async || daemons::status(proxy.address(), "GET", &count, &[]).await == 200).await;
        subject.report.holds("it has servers to ask", answers);
        let viewer = stores.token(&format!("{viewer}000000-0000-4000-8000-000000000001"));
        check_routes(subject, &proxy, &viewer, &stores.admin_token(ADMIN)).await;
        limits::check(subject, kind, &proxy, &viewer, POST).await;

        // Each request asks the next server in turn, so both are needed until it has been noticed.
        goes.daemon.signal("TERM");
        let client = Client::from_address(ADDRESS, proxy.address());
        let mut statuses = BTreeMap::new();
        for _ in 0..REQUESTS {
            let status = client.try_request("GET", &count, &[], "").await.map_or(0, |answer| answer.status);
            *statuses.entry(status).or_insert(0) += 1;
        }
        subject.report.check("answers while one of two servers goes away", "{200: 100}", format!("{statuses:?}"));
        subject.report.check("exit status of view-ingest", 0, daemons::end_of(&goes.daemon).await);
        if !subject.report.is_good() {
            let daemons = [("view-ingest 1", &goes.daemon), ("view-ingest 2", &stays.daemon), ("view-syncd", &syncd.daemon)];
            subject.report.show_logs(daemons.map(|(name, daemon)| (name.to_owned(), daemon.output().join("\n"))));
            subject.report.show_logs([(format!("{kind:?}"), proxy.log())]);
        }
    }
}

async fn ingest(binaries: &Path, environment: &Environment) -> Ingest {
    Ingest::start(program(binaries, "view-ingest", environment), ANY_PORT, ANY_PORT).await
}

async fn check_routes(subject: &mut Subject, proxy: &LoadBalancer, viewer: &str, admin: &str) {
    let client = Client::new(proxy.address());
    let answer = client.post_json("/posts/view", Some(viewer), &json!({ "postId": POST })).await;
    subject.report.check("a view", "counted", field(&answer.json(), "status"));
    let answer = client.request("POST", "/posts/sync-views", &[("authorization", &format!("Bearer {admin}"))], "").await;
    subject.report.check("a synchronization", "Synchronization completed", field(&answer.json(), "message"));
    let answer = client.get("/posts/sync-views").await;
    subject.report.check("view-syncd says itself that only POST will do", 405, answer.status);
    subject.report.check("no metrics", 404, client.get("/metrics").await.status);
}

/// Whether the sample is accepted, also with what stands there for a proxy in front, which has to be right when it is
/// needed, and for IPv6.
async fn check_syntax(subject: &mut Subject, kind: Kind) {
    let sample = repository::text(kind.sample());
    let behind = match kind {
        Kind::HaProxy => {
            let networks = subject.folder.write("cdn.lst", "192.0.2.0/24\n");
            let behind =
                uncommented(&sample, &["acl from_cdn", "http-request set-src"]).replace("bind :8080", "bind :::8080 v4v6");
            behind.replace("/etc/haproxy/cdn.lst", &networks.display().to_string())
        }
        Kind::Nginx => {
            let behind = uncommented(&sample, &["set_real_ip_from", "real_ip_header"]);
            behind.replace("listen 8080;", "listen 8080; listen [::]:8080;")
        }
    };
    let lines = behind.lines().filter(|line| !sample.lines().any(|other| other == *line)).count();
    subject.report.check("the lines for a proxy in front, and the port", 3, lines);
    for (what, text) in [("the sample is accepted", sample), ("the sample is accepted, behind a proxy", behind)] {
        let accepted = succeeds(&mut Command::from(kind.check(&text, &subject.folder))).await;
        subject.report.holds(what, accepted);
    }
}

/// Returns a sample with settings that are comments in it.
fn uncommented(sample: &str, settings: &[&str]) -> String {
    settings.iter().fold(sample.to_owned(), |text, setting| text.replace(&format!("    #{setting} "), &format!("    {setting} ")))
}
