//! Two kinds of posts in one schema and one Redis: a ledger and a prefix each, and nothing in common.

use serde_json::json;
use testkit::{
    SOON, eventually,
    http::Client,
    postgres::{self, Database},
    process::{Daemon, DaemonBuilder, sibling_binary},
    redis::RedisServer,
    tokens,
};

use crate::support::{PROGRAM, SECRET, ready};

const TABLES: &str = "create table articles (id bigint primary key, author_id bigint, views_count bigint not null default 0);
    create table videos (id bigint primary key, author_id bigint);
    insert into articles values (7, 1, 5), (8, 1, 0); insert into videos values (7, 2), (9, 2)";
const ARTICLES: [(&str, &str); 3] =
    [("POSTS_TABLE", "articles"), ("LEDGER_TABLE", "article_views"), ("REDIS_PREFIX", "articles:")];
const VIDEOS: [(&str, &str); 4] = [
    ("POSTS_TABLE", "videos"),
    ("LEDGER_TABLE", "public.video_views"),
    ("COUNT_TABLE", "video_counts"),
    ("REDIS_PREFIX", "videos:"),
];

fn with(builder: DaemonBuilder, redis: &RedisServer, database: &Database, kind: &[(&str, &str)]) -> DaemonBuilder {
    let builder = builder
        .env("REDIS_URL", redis.url())
        .env("DATABASE_URL", database.url())
        .env("JWT_SECRET", SECRET)
        .env("SYNC_LINGER", "10ms")
        .env("VIEW_SYNCD_ADMIN_LISTEN", "127.0.0.1:0")
        .env("VIEW_INGEST_LISTEN", "127.0.0.1:0")
        .env("VIEW_INGEST_ADMIN_LISTEN", "127.0.0.1:0");
    kind.iter().fold(builder, |builder, (name, value)| builder.env(name, value))
}

async fn verdict(client: &Client, post: &str, viewer: &str) -> String {
    let answer = client.post_json("/posts/view", Some(&tokens::hs256(SECRET, viewer)), &json!({ "postId": post })).await;
    let body = answer.json();
    format!("{} {} {}", answer.status, body["status"].as_str().unwrap_or_default(), body["viewsCount"])
}

#[tokio::test]
async fn two_kinds_of_posts_stand_side_by_side() {
    let redis = RedisServer::start().await;
    let database = postgres::shared().await.database().await;
    let sql = database.client().await;
    sql.batch_execute(TABLES).await.unwrap();
    let program = |kind: &[(&str, &str)]| with(Daemon::builder(PROGRAM), &redis, &database, kind);
    let mut daemons = Vec::new();
    for kind in [&ARTICLES[..], &VIDEOS[..]] {
        let migrated = program(kind).arg("migrate").start();
        assert!(migrated.wait_exit().await.success(), "{:?}", migrated.output());
        let daemon = program(kind).start();
        // Each leads, as they share no ledger.
        daemon.wait_for_line("Sync completed").await;
        daemons.push(daemon);
    }
    let ingest = |kind: &[(&str, &str)]| ready(with(Daemon::builder(sibling_binary("view-ingest")), &redis, &database, kind));
    let ((_articles, articles), (_videos, videos)) = tokio::join!(ingest(&ARTICLES), ingest(&VIDEOS));
    assert_eq!(verdict(&articles, "7", "1").await, "200 own 5");
    assert_eq!(verdict(&articles, "7", "2").await, "200 counted 6");
    assert_eq!(verdict(&articles, "7", "3").await, "200 counted 7");
    assert_eq!(verdict(&videos, "7", "1").await, "200 counted 1");
    assert_eq!(verdict(&videos, "7", "1").await, "200 duplicate 1");
    assert_eq!(verdict(&videos, "7", "2").await, "200 own 1");
    assert_eq!(verdict(&articles, "9", "3").await, "404  null");
    assert_eq!(verdict(&videos, "8", "3").await, "404  null");
    let counts = "select (select views_count from articles where id = 7), (select count(*) from article_views),
        (select views from video_counts where post_id = 7), (select count(*) from video_views)";
    let stored = async || {
        let row = sql.query_one(counts, &[]).await.unwrap();
        [0, 1, 2, 3].map(|column| row.get::<_, Option<i64>>(column).unwrap_or(0)) == [7, 2, 1, 1]
    };
    eventually("all are stored", SOON, stored).await;
    for (kind, changed) in [(&ARTICLES[..], "posts 2 · changed 0 · locked 0"), (&VIDEOS[..], "posts 2 · changed 0 · locked 0")]
    {
        let recount = program(kind).arg("recount").start();
        assert!(recount.wait_exit().await.success(), "{:?}", recount.output());
        assert_eq!(recount.lines_with(changed).len(), 1, "{:?}", recount.output());
    }

    // A ledger is what keys in Redis belong to.
    let mistaken = program(&VIDEOS).env("REDIS_PREFIX", "articles:").start();
    assert_eq!(mistaken.wait_exit().await.code(), Some(78), "{:?}", mistaken.output());
    assert_eq!(mistaken.lines_with("public.articles/public.article_views").len(), 1, "{:?}", mistaken.output());
    let other_ledger = program(&ARTICLES).env("LEDGER_TABLE", "other_views");
    let migrated = program(&ARTICLES).env("LEDGER_TABLE", "other_views").arg("migrate").start();
    assert!(migrated.wait_exit().await.success());
    assert_eq!(other_ledger.start().wait_exit().await.code(), Some(78));
    for daemon in daemons {
        daemon.signal("TERM");
        assert!(daemon.wait_exit().await.success(), "{:?}", daemon.output());
        assert_eq!(daemon.lines_with(" ERROR ").len(), 0, "{:?}", daemon.output());
    }
}
