//! view-syncd moves the view into PostgreSQL.

use super::guide::Guide;
use super::people::{POST, VIEWER_ID};

pub(super) async fn follow(guide: &mut Guide) {
    guide.report.headline("On to PostgreSQL");
    // The checks count cycles, so where nobody watches the interval's own must not come in between.
    let interval = if guide.once { "1h" } else { "10s" };
    guide.start_syncd("1s", interval).await;
    guide.expect_empty_outbox().await;
    guide.step("The ledger knows the viewer for ever", &guide.psql("SELECT * FROM post_views")).await;
    let ledger = guide.stores.sql("SELECT post_id, user_id FROM post_views").await;
    guide.report.check("the ledger", format!("{POST}|{VIEWER_ID}"), ledger);
    let command = guide.psql("SELECT id, title, views_count FROM posts ORDER BY id");
    guide.step("The post has its new count", &command).await;
    let count = guide.count(POST).await;
    guide.report.check("posts.views_count", 42, count);
    let command = guide.redis_cli(&format!("HGETALL {{post:{POST}:views}}:meta"));
    guide.step("Redis knows that PostgreSQL knows", &command).await;
    let counts = guide.meta(&["persisted", "recorded", "acked"]).await;
    guide.report.check("meta after the drain: persisted, recorded, acked", "42 1 1", counts);
    let live = guide.live_count(POST).await;
    guide.report.check("the live count after the drain", 42, live);
}
