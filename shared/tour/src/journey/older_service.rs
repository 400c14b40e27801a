//! An older service adds a viewer to the set and to nothing else, and view-syncd finds it.

use testkit::within;

use super::guide::{DRAINED, Guide};
use super::people::{FRIEND_ID, POST};

pub(super) async fn imitate(guide: &mut Guide) {
    guide.report.headline("Somebody else writes to Redis");
    let command = guide.redis_cli(&format!("SADD post:{POST}:views {FRIEND_ID}"));
    guide.step("An older service adds a viewer to the set, and to nothing else", &command).await;
    let command = format!("kill -HUP {}", guide.syncd().daemon.pid());
    guide.step("SIGHUP: view-syncd looks at once", &command).await;
    let rows = format!("SELECT count(*) FROM post_views WHERE post_id = '{POST}'");
    // What is found if it does not come is told by the check below.
    let _ = within(DRAINED, async || guide.stores.sql(&rows).await == "2").await;
    let came = guide.wait_for_cycles(2).await;
    guide.report.holds("the cycle after SIGHUP", came);
    let command = guide.psql(&format!("SELECT user_id FROM post_views WHERE post_id = '{POST}' ORDER BY user_id"));
    guide.step("It has found the viewer", &command).await;
    let rows = guide.stores.sql(&rows).await;
    guide.report.check("rows in the ledger after SIGHUP", 2, rows);
    let count = guide.count(POST).await;
    guide.report.check("posts.views_count after SIGHUP", 43, count);
    let command = format!("curl -s {}", guide.url(&format!("/posts/{POST}/views")));
    let answer = guide.step("Anyone may read the count", &command).await;
    guide.report.check("the live count after SIGHUP", 43, answer.field("viewsCount"));
}
