//! Both services at work, and an upgrade of the package meanwhile: no request fails, and no view is lost.

use std::collections::HashSet;
use std::net::TcpListener;
use std::time::Duration;

use testkit::posts::{IdType, PostsTable};
use testkit::process::Daemon;
use testkit::traffic::{Traffic, View};
use testkit::within;

use super::service::Service;
use super::system::System;
use super::unit::Unit;
use crate::daemons;
use crate::report::Report;
use crate::stores::{Stores, random_word};

const POSTS: [&str; 3] = ["p", "q", "r"];
const CLIENTS: usize = 8;
/// Enough for each client to have been through several times.
const A_FEW: usize = 20 * CLIENTS;
const DRAINED: Duration = Duration::from_secs(30);
/// Runs a command of view-syncd as an operator does: as the services' user, who may read the settings.
const MIGRATE: &str = "set -a; . /etc/view-counter/view-syncd.env; exec view-syncd migrate";

pub(super) async fn check(report: &mut Report, system: &System, stores: &Stores, package: &str) {
    let was_good = report.is_good();
    let secret = random_word();
    configure(system, stores, &secret);
    let posts = PostsTable::with_ids(IdType::Text);
    let client = stores.database.client().await;
    posts.create(&client).await;
    for post in POSTS {
        posts.insert_post(&client, post, None).await;
    }
    let migrate = ["setpriv", "--reuid=view-counter", "--regid=view-counter", "--clear-groups", "sh", "-c", MIGRATE];
    report.holds("view-syncd migrate, as the services' user", system.succeeds(&migrate).await);

    // systemd would listen where the unit says; here, other programs may have that port.
    let listen = Unit::of(system, "view-ingest.socket").value("ListenStream").to_owned();
    report.check("the socket", "127.0.0.1:3001", &listen);
    let socket = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let (syncd, ingest) = start(report, system, &socket).await;
    let traffic = Traffic::start(socket.local_addr().expect("it listens"), &secret, POSTS.map(str::to_owned), CLIENTS);
    traffic.goes_on(A_FEW).await;
    report.holds("dpkg --install of a later version", system.succeeds(&["dpkg", "--install", package]).await);
    let settings = system.text("/etc/view-counter/view-ingest.env").unwrap_or_default();
    report.check("the settings are as they were", true, settings.contains(&secret));
    report.check("their rights", "root view-counter 640", system.rights("/etc/view-counter/view-ingest.env").await);
    let asked: Vec<_> = system.asked_of_systemctl().into_iter().filter(|asked| asked.contains("start ")).collect();
    let expected = "try-restart view-syncd.service; try-restart view-ingest.service";
    report.check("what the upgrade restarts", expected, asked.join("; "));
    traffic.goes_on(A_FEW).await;

    // What systemd does when it is asked for that.
    report.check("exit status of view-syncd", 0, daemons::stop(&syncd).await);
    report.check("exit status of view-ingest", 0, daemons::stop(&ingest).await);
    let (syncd, ingest) = start(report, system, &socket).await;
    traffic.goes_on(A_FEW).await;

    let views = traffic.stop().await;
    let drained = within(DRAINED, async || stores.outbox().await == "0").await;
    report.holds("the outbox empties", drained);
    report.check("exit status of view-ingest", 0, daemons::stop(&ingest).await);
    report.check("exit status of view-syncd", 0, daemons::stop(&syncd).await);
    let failed: Vec<&View> = views.iter().filter(|view| !view.is_acknowledged()).collect();
    report.check("views that failed", "[]", format!("{failed:?}"));
    let rows = stores.sql("SELECT post_id, user_id FROM post_views").await;
    let stored: HashSet<&str> = rows.lines().collect();
    let lost = views.iter().filter(|view| !stored.contains(format!("{}|{}", view.post, view.viewer).as_str())).count();
    report.check("views that are lost", 0, lost);
    report.check("what all counts are together", views.len(), stores.sql("SELECT sum(views_count) FROM posts").await);
    if was_good && !report.is_good() {
        let daemons = [("view-syncd", syncd), ("view-ingest", ingest)];
        report.show_logs(daemons.map(|(name, daemon)| (name.to_owned(), daemon.output().join("\n"))));
    }
}

/// Writes into the settings what an operator does.
fn configure(system: &System, stores: &Stores, secret: &str) {
    for service in ["view-ingest", "view-syncd"] {
        let path = format!("/etc/view-counter/{service}.env");
        let database = stores.database.url();
        let redis = stores.redis.url();
        let settings = [
            ("JWT_SECRET", secret),
            ("DATABASE_URL", database.as_str()),
            ("REDIS_URL", redis.as_str()),
            ("VIEW_INGEST_ADMIN_LISTEN", daemons::ANY_PORT),
            ("VIEW_SYNCD_ADMIN_LISTEN", daemons::ANY_PORT),
        ];
        let text = system.text(&path).expect("the package brings it");
        let is_other = |line: &&str| {
            let name = line.trim_start_matches('#').split('=').next().unwrap_or_default();
            !name.starts_with("REDIS_") && settings.iter().all(|(own, _)| *own != name)
        };
        let others = text.lines().filter(is_other).map(|line| format!("{line}\n"));
        let own = settings.iter().map(|(name, value)| format!("{name}={value}\n"));
        std::fs::write(system.path(&path), others.chain(own).collect::<String>()).expect("the copy can be written to");
    }
}

/// Starts both as their units say.
async fn start(report: &mut Report, system: &System, socket: &TcpListener) -> (Daemon, Daemon) {
    let services = ["view-syncd", "view-ingest"].map(|name| Service::of(system, name));
    let [syncd, ingest] = &services;
    let daemons = [syncd.start(system, None), ingest.start(system, Some(socket))];
    daemons[0].wait_for_line("listener=\"admin\"").await;
    let line = daemons[1].wait_for_line("listener=\"public\"").await;
    report.check("view-ingest has systemd's socket", true, line.contains("from_systemd=true"));
    for (service, daemon) in services.iter().zip(&daemons) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap_or_default();
        let user = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()).unwrap_or_default();
        report.check(&format!("whom {} runs as", service.program()), system.user(service.user()).await, user);
        report.check("it is the installed program", true, system.runs_installed(daemon.pid(), service.program()));
    }
    let [syncd, ingest] = daemons;
    (syncd, ingest)
}
