//! Both daemons stop. With a long linger nothing but the last drain can move what is in the outbox.

use tokio::process::Command;

use super::guide::Guide;
use super::people::SECOND;
use crate::daemons;
use crate::repository;
use crate::shell::succeeds;

/// The health check of the container image.
const HEALTHCHECK: &str = "deploy/docker/healthcheck";

pub(super) async fn look(guide: &mut Guide) {
    guide.report.headline("Stopping");
    let status = daemons::stop(&guide.syncd().daemon).await;
    guide.report.check("exit status of view-syncd", 0, status);
    guide.start_syncd("1h", "1h").await;
    let command = guide.view_command("FRIEND", SECOND);
    let answer = guide.step("One more view, while view-syncd waits for an hour to gather more", &command).await;
    guide.check_answer("the last view", &answer, "counted", 2);
    let entries = guide.stores.outbox().await;
    guide.report.check("entries in the outbox before SIGTERM", 1, entries);
    let healthy = succeeds(Command::new(repository::path(HEALTHCHECK)).arg(guide.syncd().admin.port().to_string())).await;
    guide.report.holds("the health check of the container image", healthy);
    let command = format!("kill -TERM {}", guide.syncd().daemon.pid());
    guide.step("SIGTERM: view-syncd flushes before it goes", &command).await;
    let status = daemons::end_of(&guide.syncd().daemon).await;
    guide.report.check("exit status of view-syncd after a flush", 0, status);
    let entries = guide.stores.outbox().await;
    guide.report.check("the outbox after SIGTERM", 0, entries);
    let rows = guide.stores.sql(&format!("SELECT count(*) FROM post_views WHERE post_id = '{SECOND}'")).await;
    guide.report.check("the ledger after SIGTERM", 2, rows);
    let count = guide.count(SECOND).await;
    guide.report.check("posts.views_count after SIGTERM", 2, count);
    let live = guide.live_count(SECOND).await;
    guide.report.check("the live count after SIGTERM", 2, live);
    let status = daemons::stop(&guide.ingest().daemon).await;
    guide.report.check("exit status of view-ingest", 0, status);
}
