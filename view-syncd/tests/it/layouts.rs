//! Layouts of tables that applications have: each is migrated, and both programs store views in it, through Redis and
//! past it.

mod cases;

use futures_util::{StreamExt, stream};
use serde_json::json;
use testkit::{
    SOON, eventually,
    http::Client,
    postgres::{self, Database},
    process::{Daemon, DaemonBuilder, sibling_binary},
    redis::RedisServer,
    tokens,
};
use views_core::keys::Keys;

use self::cases::{LAYOUTS, Layout};
use crate::support::{PROGRAM, SECRET, ready};

/// How many layouts are tried side by side.
const AT_ONCE: usize = 4;

/// A database of one's own, and a share of a Redis.
struct Stage {
    layout: Layout,
    database: Database,
    sql: tokio_postgres::Client,
    redis: fred::clients::Client,
    redis_url: String,
    keys: Keys,
}

impl Stage {
    async fn new(server: &RedisServer, layout: Layout) -> Self {
        let database = postgres::shared().await.database().await;
        let sql = database.client().await;
        sql.batch_execute(layout.setup).await.unwrap_or_else(|error| panic!("{error:?} in {}", layout.setup));
        let keys = Keys::with_prefix(&format!("{}:", database.name())).unwrap();
        Self { layout, database, sql, redis: server.client().await, redis_url: server.url(), keys }
    }

    fn with_settings(&self, builder: DaemonBuilder) -> DaemonBuilder {
        let builder = builder
            .env("REDIS_URL", &self.redis_url)
            .env("REDIS_PREFIX", self.keys.prefix())
            .env("DATABASE_URL", self.database.url())
            .env("JWT_SECRET", SECRET);
        self.layout.settings.iter().fold(builder, |builder, (name, value)| builder.env(name, value))
    }

    fn syncd(&self) -> DaemonBuilder {
        self.with_settings(Daemon::builder(PROGRAM)).env("VIEW_SYNCD_ADMIN_LISTEN", "127.0.0.1:0").env("SYNC_LINGER", "10ms")
    }

    fn ingest(&self) -> DaemonBuilder {
        self.with_settings(Daemon::builder(sibling_binary("view-ingest")))
            .env("VIEW_INGEST_LISTEN", "127.0.0.1:0")
            .env("VIEW_INGEST_ADMIN_LISTEN", "127.0.0.1:0")
            .env("VIEW_INGEST_WORKERS", "1")
    }

    async fn migrate(&self) -> Daemon {
        let migrate = self.syncd().arg("migrate").args(self.layout.flags).start();
        let status = migrate.wait_exit().await;
        assert_eq!(status.code(), Some(0), "{}: {:?}", self.layout.setup, migrate.output());
        migrate
    }

    /// The verdict on a view, with the count.
    async fn verdict(&self, client: &Client, viewer: &str) -> String {
        let token = tokens::hs256(SECRET, viewer);
        let body = client.post_json("/posts/view", Some(&token), &json!({ "postId": self.layout.post })).await.json();
        format!("{} {}", body["status"].as_str().unwrap_or_else(|| panic!("{}: {body}", self.layout.setup)), body["viewsCount"])
    }

    /// Demands that the post has so many new views in PostgreSQL, and none that is not in the ledger.
    async fn assert_stored(&self, views: i64) {
        let statement = format!("select ({}), (select count(*) from {})", self.layout.count, self.layout.ledger);
        let row = self.sql.query_one(&statement, &[]).await.unwrap();
        let found = (row.get::<_, Option<i64>>(0).unwrap_or(0), row.get::<_, i64>(1));
        assert_eq!(found, (self.layout.before + views, views), "{}", self.layout.setup);
    }
}

/// Has the post viewed through Redis, past it, and through it again.
async fn try_layout(server: &RedisServer, layout: Layout) {
    let stage = Stage::new(server, layout).await;
    let Layout { setup, says, author, viewers, before, .. } = stage.layout;
    let migrated = stage.migrate().await.output().join("\n");
    for words in says {
        assert!(migrated.contains(words), "{words} is missing in {migrated}");
    }
    let again = stage.migrate().await;
    assert_eq!(again.lines_with("the ledger is there already").len(), 1, "{:?}", again.output());
    let base = "select base from {}_base where post_id::text = $1";
    let base = stage.sql.query_one(&base.replace("{}", stage.layout.ledger), &[&stage.layout.post]).await.unwrap();
    assert_eq!(base.get::<_, i64>(0), before, "{setup}");

    let syncd = stage.syncd().start();
    syncd.wait_for_line("Sync completed").await;
    let (_ingest, client) = ready(stage.ingest()).await;
    let own = if author.is_some() { "own" } else { "counted" };
    let mut views = 0;
    if let Some(author) = author {
        assert_eq!(stage.verdict(&client, author).await, format!("{own} {before}"), "{setup}");
    }
    for viewer in &viewers[..2] {
        views += 1;
        assert_eq!(stage.verdict(&client, viewer).await, format!("counted {}", before + views), "{setup}");
        assert_eq!(stage.verdict(&client, viewer).await, format!("duplicate {}", before + views), "{setup}");
    }
    let outbox = stage.keys.outbox();
    let is_empty = async || fred::interfaces::StreamsInterface::xlen::<i64, _>(&stage.redis, outbox).await.unwrap() == 0;
    eventually("the outbox is empty", SOON, is_empty).await;
    stage.assert_stored(views).await;

    // Past Redis, to which nobody listens.
    let nowhere = format!("redis://127.0.0.1:{}", testkit::ports::free());
    let (_bypass, past) = ready(stage.ingest().env("REDIS_URL", nowhere)).await;
    assert_eq!(stage.verdict(&past, viewers[0]).await, format!("duplicate {}", before + views), "{setup}");
    if let Some(author) = author {
        assert_eq!(stage.verdict(&past, author).await, format!("{own} {}", before + views), "{setup}");
    }
    views += 1;
    assert_eq!(stage.verdict(&past, viewers[2]).await, format!("counted {}", before + views), "{setup}");
    stage.assert_stored(views).await;
    let token = tokens::hs256(SECRET, viewers[0]);
    let unknown = past.post_json("/posts/view", Some(&token), &json!({ "postId": "9999" })).await;
    assert!([400, 404].contains(&unknown.status), "{setup}: {}", unknown.body);

    syncd.signal("HUP");
    let cycle = syncd.wait_for_nth_line(2, "Sync completed").await;
    assert!(cycle.contains("1 successful, 0 errors"), "{setup}: {cycle}");
    let count = client.get(&format!("/posts/{}/views", stage.layout.post)).await.json();
    assert_eq!(count["viewsCount"], json!(before + views), "{setup}");
    syncd.signal("TERM");
    assert!(syncd.wait_exit().await.success(), "{:?}", syncd.output());
    assert_eq!(syncd.lines_with(" ERROR ").len(), 0, "{:?}", syncd.output());
}

#[tokio::test]
async fn views_are_stored_in_the_tables_that_applications_have() {
    let server = RedisServer::start().await;
    stream::iter(LAYOUTS).for_each_concurrent(AT_ONCE, |layout| try_layout(&server, layout)).await;
}
