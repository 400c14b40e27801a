//! A cluster of one's own, and a database.

use fred::types::Value;
use testkit::{
    cluster::{Cluster, Node, slot_of},
    postgres::{self, Database},
    posts::{IdType, PostsTable},
    process::{Daemon, DaemonBuilder},
};
use view_syncd::daemon::synchronizer::Synchronizer;
use views_core::{ids::PostId, keys::Keys, partition::Partition};

use crate::support::{PROGRAM, SECRET, synchronizer};

/// A cluster and a database of one's own.
pub(crate) struct ClusterWorld {
    pub(crate) cluster: Cluster,
    pub(crate) keys: Keys,
    pub(crate) database: Database,
    pub(crate) sql: tokio_postgres::Client,
    pub(crate) posts: PostsTable,
    prefix: String,
}

impl ClusterWorld {
    pub(crate) async fn new() -> Self {
        Self::with_prefix("").await
    }

    pub(crate) async fn with_prefix(prefix: &str) -> Self {
        Self::over(Cluster::start().await, prefix).await
    }

    pub(crate) async fn over(cluster: Cluster, prefix: &str) -> Self {
        let database = postgres::shared().await.database().await;
        let posts = PostsTable::with_ids(IdType::Bigint);
        let sql = database.client().await;
        posts.create(&sql).await;
        let keys = Keys::with_prefix(prefix).unwrap().in_cluster();
        let world = Self { cluster, keys, database, sql, posts, prefix: prefix.to_owned() };
        let migrated = world.program().arg("migrate").start();
        assert!(migrated.wait_exit().await.success(), "{:?}", migrated.output());
        world
    }

    /// Any of the nodes may be away when a program starts.
    fn url(&self) -> String {
        self.cluster.url_of(&self.cluster.nodes().iter().collect::<Vec<_>>())
    }

    /// A command of the program, or the daemon without one.
    pub(crate) fn program(&self) -> DaemonBuilder {
        Daemon::builder(PROGRAM)
            .env("REDIS_URL", self.url())
            .env("REDIS_PREFIX", &self.prefix)
            .env("DATABASE_URL", self.database.url())
            .env("VIEW_SYNCD_ADMIN_LISTEN", "127.0.0.1:0")
            .env("JWT_SECRET", SECRET)
            .env("SYNC_LINGER", "10ms")
    }

    /// Runs a command to its end. Returns its status, what it prints, and what it logs.
    pub(crate) async fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = tokio::process::Command::new(PROGRAM);
        command.args(args).env_clear().env("REDIS_URL", self.url()).env("DATABASE_URL", self.database.url());
        command.env("REDIS_PREFIX", &self.prefix);
        let output = command.output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (printed, logged) = (text(output.stdout), text(output.stderr));
        for text in [&printed, &logged] {
            assert!(!text.contains("panicked") && !text.contains("CROSSSLOT"), "{text}");
        }
        (output.status.code(), printed, logged)
    }

    /// A synchronizer whose steps the test takes itself.
    pub(crate) async fn synchronizer(&self) -> Synchronizer {
        let prefix = format!("--redis-prefix={}", self.prefix);
        synchronizer(&self.url(), &self.database.url(), &[&prefix, "--linger=10ms"]).await
    }

    /// Makes posts, with an author that no test uses as a viewer.
    pub(crate) async fn make_posts(&self, ids: std::ops::RangeInclusive<u32>) -> Vec<String> {
        let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
        for id in &ids {
            self.posts.insert_post(&self.sql, id, "999999").await;
        }
        ids
    }

    pub(crate) fn partition(&self, post: &str) -> Partition {
        self.keys.partition(&id(post))
    }

    /// Does what view-ingest does with viewers of a post that it knows: outbox first, then the set and `recorded`.
    pub(crate) async fn record(&self, post: &str, viewers: &[&str]) {
        self.add_entry(self.partition(post), post, viewers).await;
        self.count(post, viewers).await;
    }

    /// Does the second part of that.
    pub(crate) async fn count(&self, post: &str, viewers: &[&str]) {
        let (set, meta) = (self.keys.views(&id(post)), self.keys.meta(&id(post)));
        self.send(&[&["SADD", &set], viewers].concat()).await;
        self.send(&["EXPIRE", &set, "86400"]).await;
        self.send(&["HINCRBY", &meta, "recorded", &viewers.len().to_string()]).await;
        self.send(&["EXPIRE", &meta, "86400"]).await;
    }

    /// Adds an entry to the outbox of a partition and nothing else.
    pub(crate) async fn add_entry(&self, partition: Partition, post: &str, viewers: &[&str]) -> String {
        let pairs: Vec<&str> = viewers.iter().flat_map(|viewer| [post, viewer]).collect();
        let words = [&["XADD", self.keys.outbox_of(partition), "*"], &pairs[..]].concat();
        self.send(&words).await.into_string().unwrap()
    }

    /// Lets somebody else than view-ingest write the set.
    pub(crate) async fn add_by_hand(&self, post: &str, viewers: &[&str]) {
        self.send(&[&["SADD", &self.keys.views(&id(post))], viewers].concat()).await;
    }

    pub(crate) async fn send(&self, words: &[&str]) -> Value {
        self.cluster.command(words).await
    }

    pub(crate) async fn number(&self, words: &[&str]) -> i64 {
        self.send(words).await.as_i64().unwrap()
    }

    pub(crate) async fn exists(&self, key: &str) -> bool {
        self.number(&["EXISTS", key]).await == 1
    }

    /// `persisted`, `recorded` and `acked`.
    pub(crate) async fn meta(&self, post: &str) -> [i64; 3] {
        let fields = self.send(&["HMGET", &self.keys.meta(&id(post)), "persisted", "recorded", "acked"]).await.into_array();
        [0, 1, 2].map(|place: usize| fields[place].as_i64().unwrap_or(0))
    }

    /// Demands that a post has this count everywhere.
    pub(crate) async fn assert_views(&self, post: &str, views: i64) {
        let (count, rows) = self.posts.views_and_rows(&self.sql, post).await;
        let [persisted, recorded, acked] = self.meta(post).await;
        assert_eq!(
            (count, rows, persisted + recorded - acked),
            (views, views, views),
            "post {post}: {:?}",
            self.meta(post).await
        );
    }

    /// Returns how many rows the ledger has.
    pub(crate) async fn rows(&self) -> i64 {
        self.sql.query_one("select count(*) from post_views", &[]).await.unwrap().get(0)
    }

    /// Returns how many entries all outboxes have.
    pub(crate) async fn entries(&self) -> i64 {
        let mut entries = 0;
        for partition in self.keys.drained_partitions() {
            entries += self.number(&["XLEN", self.keys.outbox_of(partition)]).await;
        }
        entries
    }

    /// Returns the primary that has the set and the hash of a post.
    pub(crate) async fn node_of(&self, post: &str) -> &Node {
        self.cluster.primary_of(self.slot(post)).await
    }

    pub(crate) fn slot(&self, post: &str) -> u16 {
        slot_of(&self.keys.views(&id(post)))
    }

    /// Returns a primary that does not have a slot.
    pub(crate) async fn other_node(&self, slot: u16) -> &Node {
        let owner = self.cluster.primary_of(slot).await;
        self.cluster.primaries().await.into_iter().find(|node| node.id() != owner.id()).unwrap()
    }
}

pub(crate) fn id(post: &str) -> PostId {
    PostId::parse(post).unwrap()
}
