//! Installations that share one database of Redis: each with a prefix of its own, and a PostgreSQL database of its own.

use std::collections::HashMap;

use fred::{
    clients::Client as Redis,
    interfaces::{ClientLike, EventInterface, KeysInterface, PubsubInterface, SetsInterface, StreamsInterface},
};
use serde_json::json;
use testkit::{
    SOON, eventually,
    http::Client,
    postgres::Database,
    posts::{PostsTable, ledger_viewers},
    process::Daemon,
    redis::RedisServer,
    tokens,
};
use views_core::{ids::PostId, keys::Keys};

use crate::{
    site,
    support::{PROGRAM, SECRET},
};

/// Both programs, and a database.
struct Installation {
    keys: Keys,
    syncd: Daemon,
    _ingest: Daemon,
    client: Client,
    posts: PostsTable,
    sql: tokio_postgres::Client,
    _database: Database,
}

impl Installation {
    async fn start(redis: &RedisServer, prefix: &str) -> Self {
        let url = redis.url();
        let (database, sql, posts) = site::database(&url).await;
        let syncd = site::view_syncd(&url, &database).env("REDIS_PREFIX", prefix).env("SYNC_LINGER", "10ms").start();
        syncd.wait_for_line("Sync completed").await;
        let ingest = site::view_ingest(&url).env("DATABASE_URL", database.url()).env("REDIS_PREFIX", prefix).start();
        let client = Client::new(ingest.wait_for_listening("public").await);
        let keys = Keys::with_prefix(prefix).unwrap();
        Self { keys, syncd, _ingest: ingest, client, posts, sql, _database: database }
    }

    async fn post(&self, id: &str) {
        self.posts.insert_post(&self.sql, id, "999999").await;
    }

    async fn view(&self, post: &str, viewer: &str) {
        let token = tokens::hs256(SECRET, viewer);
        let answer = self.client.post_json("/posts/view", Some(&token), &json!({ "postId": post })).await;
        assert_eq!(answer.json()["status"], "counted", "{answer:?}");
    }

    /// The live count, that of PostgreSQL, and the viewers in the ledger.
    async fn known(&self, post: &str) -> (i64, i64, Vec<String>) {
        let live = self.client.get(&format!("/posts/{post}/views")).await.json()["viewsCount"].as_i64().unwrap();
        (live, self.posts.views_count(&self.sql, post).await, ledger_viewers(&self.sql, post).await)
    }

    async fn outbox_is_empty(&self, redis: &Redis) {
        let empty = async || redis.xlen::<i64, _>(self.keys.outbox()).await.unwrap() == 0;
        eventually("the outbox is empty", SOON, empty).await;
    }

    /// Has everything in Redis compared with PostgreSQL, and demands how many posts are found there.
    async fn scan(&self, found: usize) {
        let before = self.syncd.lines_with("Sync completed").len();
        self.syncd.signal("HUP");
        self.syncd.wait_for_nth_line(before + 1, "Sync completed").await;
        let lines = self.syncd.lines_with("posts with views in Redis");
        assert!(lines.last().unwrap().contains(&format!("Found {found} posts")), "{lines:?}");
    }

    fn post_keys(&self, posts: &[&str]) -> Vec<String> {
        let posts = posts.iter().map(|post| PostId::parse(post).unwrap());
        posts.flat_map(|post| [self.keys.views(&post), self.keys.meta(&post)]).collect()
    }
}

#[tokio::test]
async fn two_installations_in_one_redis_do_not_touch_each_other() {
    let server = RedisServer::start().await;
    let redis = server.client().await;
    let subscriber = server.client().await;
    let mut messages = subscriber.message_rx();
    let () = subscriber.subscribe(vec!["views:updates", "copy:views:updates"]).await.unwrap();
    let plain = Installation::start(&server, "").await;
    let copy = Installation::start(&server, "copy:").await;
    // One post both have, and each has another one that the other knows nothing of.
    for (installation, own) in [(&plain, "8"), (&copy, "9")] {
        installation.post("7").await;
        installation.post(own).await;
    }
    for (installation, post, viewer) in
        [(&plain, "7", "1"), (&plain, "7", "2"), (&copy, "7", "2"), (&plain, "8", "3"), (&copy, "9", "4")]
    {
        installation.view(post, viewer).await;
    }
    for installation in [&plain, &copy] {
        installation.outbox_is_empty(&redis).await;
        // A scan removes what it takes for the keys of posts that do not exist.
        installation.scan(2).await;
        installation.scan(2).await;
    }
    let viewers = |viewers: &[&str]| viewers.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(plain.known("7").await, (2, 2, viewers(&["1", "2"])));
    assert_eq!(plain.known("8").await, (1, 1, viewers(&["3"])));
    assert_eq!(copy.known("7").await, (1, 1, viewers(&["2"])));
    assert_eq!(copy.known("9").await, (1, 1, viewers(&["4"])));

    for (installation, posts) in [(&plain, ["7", "8"]), (&copy, ["7", "9"])] {
        for key in installation.post_keys(&posts) {
            assert_eq!(redis.exists::<i64, _>(&key).await.unwrap(), 1, "{key}");
        }
        assert_eq!(redis.exists::<i64, _>(installation.keys.dead()).await.unwrap(), 0);
        let warnings = installation.syncd.lines_with("passed over");
        assert!(warnings.is_empty(), "{warnings:?}");
    }
    // Of what begins with no prefix there is nothing of the copy's.
    assert_eq!(redis.exists::<i64, _>(plain.post_keys(&["9"])).await.unwrap(), 0);

    // Two views of one post may be told one after the other: the last word counts.
    let mut told = HashMap::new();
    let expected =
        [("views:updates", "7", 2), ("views:updates", "8", 1), ("copy:views:updates", "7", 1), ("copy:views:updates", "9", 1)];
    let expected: HashMap<_, i64> =
        expected.into_iter().map(|(channel, post, count)| ((channel.into(), post.into()), count)).collect();
    while told != expected {
        let message = tokio::time::timeout(SOON, messages.recv()).await.unwrap_or_else(|_| panic!("{told:?}")).unwrap();
        let update: serde_json::Value = serde_json::from_str(&message.value.as_string().unwrap()).unwrap();
        let post = update["postId"].as_str().unwrap().to_owned();
        told.insert((message.channel.to_string(), post), update["viewsCount"].as_i64().unwrap());
    }
    subscriber.quit().await.unwrap();
}

#[tokio::test]
async fn dead_letters_and_foreign_keys_keep_behind_their_prefix() {
    let server = RedisServer::start().await;
    let redis = server.client().await;
    let copy = Installation::start(&server, "copy:").await;
    copy.post("7").await;
    let _: String = redis.xadd("copy:views:outbox", false, None, "*", vec![("7", "not a viewer")]).await.unwrap();
    let _: String = redis.xadd("views:outbox", false, None, "*", vec![("7", "5")]).await.unwrap();
    for key in ["post:8:views", "copy:post:8:views"] {
        let () = redis.sadd(key, "1").await.unwrap();
    }
    copy.outbox_is_empty(&redis).await;
    copy.scan(1).await;
    // The viewer, and the member of a post that does not exist.
    assert_eq!(redis.xlen::<i64, _>("copy:views:dead").await.unwrap(), 2);
    assert_eq!(redis.exists::<i64, _>("views:dead").await.unwrap(), 0);
    assert_eq!(redis.xlen::<i64, _>("views:outbox").await.unwrap(), 1);
    // The post does not exist: what this installation has of it goes, and what others have stays.
    assert_eq!(redis.exists::<i64, _>("copy:post:8:views").await.unwrap(), 0);
    assert_eq!(redis.exists::<i64, _>("post:8:views").await.unwrap(), 1);
}

#[tokio::test]
async fn a_prefix_with_a_brace_is_refused_by_every_command() {
    for command in ["", "sync", "migrate"] {
        let program = Daemon::builder(PROGRAM).env("DATABASE_URL", "postgres://u@h/d").env("JWT_SECRET", SECRET);
        let program = if command.is_empty() { program } else { program.arg(command) };
        let daemon = program.args(["--redis-prefix", "{shop}:"]).start();
        assert_eq!(daemon.wait_exit().await.code(), Some(64));
        daemon.wait_for_line("--redis-prefix: must be at most 64 characters of").await;
    }
}
