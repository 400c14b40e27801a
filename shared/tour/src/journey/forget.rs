//! Redis loses everything, and the ledger knows the viewer all the same.

use super::guide::Guide;
use super::people::POST;

pub(super) async fn everything(guide: &mut Guide) {
    guide.report.headline("Redis loses everything");
    guide.step("Every key is deleted", &guide.redis_cli("FLUSHALL")).await;
    let answer = guide.step("The viewer comes back, and is known", &guide.view_command("VIEWER", POST)).await;
    guide.check_answer("a view after FLUSHALL", &answer, "duplicate", 43);
    let count = guide.count(POST).await;
    guide.report.check("posts.views_count after FLUSHALL", 43, count);
}
