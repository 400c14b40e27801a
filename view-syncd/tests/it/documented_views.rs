//! The views that the documents show, as they are written there: each is the posts table of both programs.

use serde_json::json;
use testkit::{
    SOON, eventually,
    grants::DOCUMENT,
    http::{Client, Response},
    postgres::{self, Database},
    process::{Daemon, DaemonBuilder, sibling_binary},
    redis::RedisServer,
    tokens,
};

use crate::support::{PROGRAM, SECRET, ready};

/// The document's statements below a comment.
fn statements(comment: &str) -> &'static str {
    let mut blocks = DOCUMENT.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.find(|block| block.starts_with(&format!("-- {comment}\n"))).unwrap_or_else(|| panic!("no {comment}"))
}

/// A database, and both programs with a role of least rights.
struct Stage {
    database: Database,
    sql: tokio_postgres::Client,
    redis: RedisServer,
    settings: Vec<(&'static str, &'static str)>,
    role: String,
}

impl Stage {
    async fn new(setup: &str, settings: &[(&'static str, &'static str)]) -> Self {
        let database = postgres::shared().await.database().await;
        let (sql, redis) = (database.client().await, RedisServer::start().await);
        let role = format!("views_{}", database.name());
        sql.batch_execute(&format!("create role {role} login; {setup}")).await.unwrap();
        Self { database, sql, redis, settings: settings.to_vec(), role }
    }

    fn program(&self, builder: DaemonBuilder, database_url: &str) -> DaemonBuilder {
        let builder = builder
            .env("REDIS_URL", self.redis.url())
            .env("DATABASE_URL", database_url)
            .env("JWT_SECRET", SECRET)
            .env("SYNC_LINGER", "10ms")
            .env("VIEW_SYNCD_ADMIN_LISTEN", "127.0.0.1:0")
            .env("VIEW_INGEST_LISTEN", "127.0.0.1:0")
            .env("VIEW_INGEST_ADMIN_LISTEN", "127.0.0.1:0");
        self.settings.iter().fold(builder, |builder, (name, value)| builder.env(name, value))
    }

    async fn migrate(&self) -> Daemon {
        let migrate = self.program(Daemon::builder(PROGRAM), &self.database.url()).arg("migrate").start();
        assert!(migrate.wait_exit().await.success(), "{:?}", migrate.output());
        migrate
    }

    /// Both programs, with the rights on the view and the ledger that the documents grant on posts.
    async fn start(&self, view: &str, ledger: &str) -> (Daemon, Daemon, Client) {
        let grants = statements("after it, for view-ingest and view-syncd")
            .replace("public.posts", view)
            .replace("public.post_views", ledger)
            .replace(" TO views;", &format!(" TO {};", self.role));
        self.sql.batch_execute(&grants).await.unwrap();
        let url = self.database.url().replace("postgres://postgres@", &format!("postgres://{}@", self.role));
        let syncd = self.program(Daemon::builder(PROGRAM), &url).start();
        syncd.wait_for_line("Sync completed").await;
        let (ingest, client) = ready(self.program(Daemon::builder(sibling_binary("view-ingest")), &url)).await;
        (syncd, ingest, client)
    }

    /// Waits until a query of the counts and rows gives these.
    async fn stored(&self, query: &str, expected: [i64; 2]) {
        let is_stored = async || {
            let row = self.sql.query_one(query, &[]).await.unwrap();
            [row.get::<_, i64>(0), row.get::<_, i64>(1)] == expected
        };
        eventually(query, SOON, is_stored).await;
    }
}

async fn view(client: &Client, post: &str, viewer: &str) -> Response {
    client.post_json("/posts/view", Some(&tokens::hs256(SECRET, viewer)), &json!({ "postId": post })).await
}

async fn verdict(client: &Client, post: &str, viewer: &str) -> String {
    let body = view(client, post, viewer).await.json();
    format!("{} {}", body["status"].as_str().unwrap_or_else(|| panic!("{body}")), body["viewsCount"])
}

#[tokio::test]
async fn authors_are_joined_and_drafts_and_deleted_posts_hidden_by_a_view() {
    let tables = "create table channels (id bigint primary key, owner_id bigint); insert into channels values (5, 1);
        create table videos (id bigint primary key, channel_id bigint references channels, views integer not null default 0,
          deleted_at timestamptz, published_at timestamptz);
        insert into videos values (7, 5, 40, null, now()), (8, 5, 0, null, null), (9, 5, 0, now(), now());";
    let setup = format!("{tables} {}", statements("a view as the posts table"));
    let stage = Stage::new(&setup, &[("POSTS_TABLE", "viewable_videos"), ("LEDGER_TABLE", "video_views")]).await;
    let migrated = stage.migrate().await;
    assert_eq!(migrated.lines_with("has no foreign key to the posts").len(), 1, "{:?}", migrated.output());
    stage.sql.batch_execute(statements("the views of a video that is removed for good go with it")).await.unwrap();
    let again = stage.migrate().await;
    assert_eq!(again.lines_with("has no foreign key to the posts").len(), 0, "{:?}", again.output());

    let (syncd, _ingest, client) = stage.start("viewable_videos", "video_views").await;
    assert_eq!(verdict(&client, "7", "1").await, "own 40");
    assert_eq!(verdict(&client, "7", "2").await, "counted 41");
    assert_eq!(verdict(&client, "7", "2").await, "duplicate 41");
    for hidden in ["8", "9"] {
        assert_eq!(view(&client, hidden, "2").await.status, 404, "{hidden}");
    }
    let both = "select (select views from videos where id = 7)::int8, (select count(*) from video_views)";
    stage.stored(both, [41, 1]).await;

    // Hidden and shown again, it has its views.
    stage.sql.batch_execute("update videos set deleted_at = now() where id = 7").await.unwrap();
    syncd.signal("HUP");
    syncd.wait_for_nth_line(2, "Sync completed").await;
    eventually("it is hidden", SOON, async || view(&client, "7", "3").await.status == 404).await;
    stage.sql.batch_execute("update videos set deleted_at = null where id = 7").await.unwrap();
    eventually("it is shown", SOON, async || view(&client, "7", "2").await.status == 200).await;
    assert_eq!(verdict(&client, "7", "2").await, "duplicate 41");
    assert_eq!(verdict(&client, "7", "3").await, "counted 42");
    stage.stored(both, [42, 2]).await;

    // Somebody writes an old count back.
    stage.sql.batch_execute("update videos set views = 3 where id = 7").await.unwrap();
    let recount = stage.program(Daemon::builder(PROGRAM), &stage.database.url()).arg("recount").start();
    assert!(recount.wait_exit().await.success(), "{:?}", recount.output());
    stage.stored(both, [42, 2]).await;
    stage.sql.batch_execute("delete from videos where id = 7").await.unwrap();
    stage
        .stored("select (select count(*) from video_views), (select count(*) from video_views_base where post_id = 7)", [0, 0])
        .await;
    assert_eq!(syncd.lines_with(" ERROR ").len(), 0, "{:?}", syncd.output());
}

#[tokio::test]
async fn ids_that_are_not_taken_are_mapped_by_a_view() {
    let tables = "create table articles (slug text primary key, author_id text, views_count bigint not null default 0);
        insert into articles values ('über.uns', 'ann', 3), ('other', 'ann', 0);";
    let setup = format!("{tables} {}", statements("a view that maps ids"));
    let stage = Stage::new(&setup, &[("POSTS_TABLE", "viewable_articles")]).await;
    stage.migrate().await;
    let (_syncd, _ingest, client) = stage.start("viewable_articles", "post_views").await;
    assert_eq!(view(&client, "über.uns", "bob").await.status, 400);
    let id: String = stage.sql.query_one("select md5('über.uns')::uuid::text", &[]).await.unwrap().get(0);
    assert_eq!(verdict(&client, &id, "ann").await, "own 3");
    assert_eq!(verdict(&client, &id, "bob").await, "counted 4");
    let both = "select (select views_count from articles where slug = 'über.uns'), (select count(*) from post_views)";
    stage.stored(both, [4, 1]).await;
    let plan = format!("explain select views_count from viewable_articles where id = '{id}'");
    stage.sql.batch_execute("set enable_seqscan = off").await.unwrap();
    let plan: Vec<String> = stage.sql.query(&plan, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(plan[0].contains("Index Scan"), "{plan:?}");
}
