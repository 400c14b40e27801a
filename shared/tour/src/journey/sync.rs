//! An administrator asks for a synchronization.

use super::guide::{Guide, authorization};
use super::people::{POST, SECOND, THIRD};

/// How many posts have been viewed by now.
const VIEWED: usize = 3;

pub(super) async fn ask(guide: &mut Guide) {
    guide.report.headline("An administrator asks for a synchronization");
    let url = format!("http://{}/posts/sync-views", guide.syncd().admin);
    let command = |token: &str| format!("curl -s -X POST {url}{}", authorization(token));
    let answer = guide.step("Nobody else may", &command("VIEWER")).await;
    guide.report.check("a viewer's request for a sync", 403, answer.field("statusCode"));
    let answer = guide.step("The administrator may, and has the answer when it is done", &command("ADMIN")).await;
    guide.report.check("the answer to a sync", "Synchronization completed", answer.field("message"));
    guide.report.check("posts that a sync found", VIEWED, answer.field("syncedPosts"));
    let counts = [guide.count(POST).await, guide.count(SECOND).await, guide.count(THIRD).await];
    guide.report.check("counts in PostgreSQL after the sync", "43 1 1", counts.join(" "));
    let entries = guide.stores.outbox().await;
    guide.report.check("the outbox after the sync", 0, entries);
}
