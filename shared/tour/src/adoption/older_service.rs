//! The service that counted before: it reads an array, appends, writes it back, and sets a set in Redis.

use tokio_postgres::Client;

use crate::stores::Stores;

/// It, while it is switched on.
pub(super) struct OlderService<'a> {
    stores: &'a Stores,
    sql: &'a Client,
    post: &'static str,
}

impl<'a> OlderService<'a> {
    pub(super) fn new(stores: &'a Stores, sql: &'a Client, post: &'static str) -> Self {
        Self { stores, sql, post }
    }

    /// Takes views, and adds the viewers to the set unless Redis is away for it.
    pub(super) async fn take(&self, viewers: &[&str], has_redis: bool) {
        for viewer in viewers {
            if has_redis {
                self.stores.redis(&["SADD", &format!("post:{}:views", self.post), viewer]).await;
            }
            let row = self.sql.query_one(r#"SELECT views FROM "Post" WHERE id = $1"#, &[&self.post]).await;
            let mut all: Vec<Option<String>> = row.expect("the post is there").get(0);
            all.push(Some((*viewer).to_owned()));
            let written = self.sql.execute(r#"UPDATE "Post" SET views = $2 WHERE id = $1"#, &[&self.post, &all]).await;
            written.expect("the array can be written back");
        }
    }
}
