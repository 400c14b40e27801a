//! The view is in Redis, and not yet in PostgreSQL.

use super::guide::Guide;
use super::people::{AUTHOR_ID, POST, VIEWER_ID};

/// A day, less what the steps before may have taken.
const TTL_SECONDS: std::ops::RangeInclusive<i64> = 86_001..=86_400;

pub(super) async fn look(guide: &mut Guide) {
    guide.report.headline("Where it is now: in Redis, and not yet in PostgreSQL");
    let command = guide.redis_cli(&format!("SMEMBERS post:{POST}:views"));
    let viewers = guide.step("Who viewed the post in the last 24 hours", &command).await;
    guide.report.check("the set of viewers", VIEWER_ID, viewers.text());
    let command = guide.redis_cli(&format!("HGETALL {{post:{POST}:views}}:meta"));
    guide.step("Its counts: the live count is persisted + recorded - acked", &command).await;
    let author = guide.meta(&["author"]).await;
    guide.report.check("meta: author", AUTHOR_ID, author);
    let counts = guide.meta(&["persisted", "recorded", "acked"]).await;
    guide.report.check("meta: persisted, recorded, acked", "41 1 0", counts);
    let ttl: i64 = guide.stores.redis(&["TTL", &format!("post:{POST}:views")]).await.parse().unwrap_or_default();
    let outcome = if TTL_SECONDS.contains(&ttl) { Ok(()) } else { Err(format!("it expires in {ttl} s")) };
    guide.report.holds("the set expires after a day", outcome);
    guide.step("The outbox: what PostgreSQL has yet to learn", &guide.redis_cli("XRANGE views:outbox - +")).await;
    let entries = guide.stores.outbox().await;
    guide.report.check("entries in the outbox", 1, entries);
    let rows = guide.stores.sql("SELECT count(*) FROM post_views").await;
    guide.report.check("rows in the ledger", 0, rows);
}
