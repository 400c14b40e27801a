//! Whether both daemons are well after everything, and the views where they belong.

use std::time::Duration;

use testkit::http::Client;
use testkit::within;

use super::target::Target;
use crate::daemons::is_ready;

/// How long the views may take to arrive in PostgreSQL.
const DRAINED: Duration = Duration::from_secs(30);
const DIFFERENT_COUNTS: &str = "SELECT count(*) FROM posts \
    WHERE views_count <> (SELECT count(*) FROM post_views WHERE post_id = posts.id)";

pub(super) async fn check(target: &mut Target) {
    target.report.headline("Are both well, and are the views where they belong?");
    let daemons =
        [("view-ingest", &target.ingest.daemon, target.ingest.admin), ("view-syncd", &target.syncd.daemon, target.syncd.admin)];
    for (name, daemon, admin) in daemons {
        // It was started once, so one that runs is the process that was started.
        target.report.check(&format!("{name} is still the same process"), true, daemon.is_running());
        target.report.check(&format!("{name} is ready"), true, is_ready(admin).await);
    }
    let errors = metric(target, "view_ingest_http_responses_total{class=\"5xx\"}").await;
    target.report.check("answers of view-ingest with 5xx", 0, errors);
    let panics = target.log_lines().iter().filter(|line| line.contains("panicked")).count();
    target.report.check("panics in the logs", 0, panics);
    let emptied = within(DRAINED, async || target.stores.outbox().await == "0").await;
    target.report.holds("the outbox empties", emptied);
    let dead = target.stores.redis(&["XLEN", "views:dead"]).await;
    target.report.check("dead pairs", 0, dead);
    let counted = metric(target, "view_ingest_views_total{status=\"counted\"}").await;
    let stored = target.stores.sql("SELECT count(*) FROM post_views").await;
    target.report.say(format!("{counted} views were counted, and {stored} are in the ledger"));
    target.report.check("whether views were counted at all", true, counted.parse::<u64>().is_ok_and(|counted| counted > 0));
    target.report.check("rows of the ledger", counted, stored);
    let different = target.stores.sql(DIFFERENT_COUNTS).await;
    target.report.check("posts whose count is not that of the ledger", 0, different);
}

/// Returns one of view-ingest's metrics, as it is written; nothing where there is none.
async fn metric(target: &Target, name: &str) -> String {
    let metrics = Client::new(target.ingest.admin).get("/metrics").await.body;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_default().to_owned()
}
