//! Both programs beside a replicated Redis and a database, as they run in production.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use fred::{
    clients::Client as Redis,
    interfaces::{ClientLike, StreamsInterface},
    types::{ClusterHash, CustomCommand, Value},
};
use testkit::{
    SOON, eventually,
    http::Client,
    postgres::{self, Database},
    posts::{IdType, PostsTable, ledger_count},
    process::{Daemon, DaemonBuilder, sibling_binary},
    redis::RedisServer,
    sentinel::{FAILOVER_DEADLINE, ReplicatedRedis},
};
use views_core::keys::Keys;

use crate::support::{PROGRAM, SECRET};

/// More than one, whatever the machine has: each has a connection to Redis of its own.
pub(crate) const INGEST_WORKERS: usize = 2;

/// A view: a post and a viewer.
pub(crate) type Pair = (String, u64);

/// A view-ingest and a view-syncd that know Redis by its sentinels.
pub(crate) struct Site {
    pub(crate) redis: ReplicatedRedis,
    /// Where view-ingest takes views.
    pub(crate) address: SocketAddr,
    pub(crate) ingest: Daemon,
    pub(crate) syncd: Daemon,
    operators: Client,
    sql: tokio_postgres::Client,
    posts: PostsTable,
    _database: Database,
}

impl Site {
    /// Starts everything, and waits until both programs are connected.
    pub(crate) async fn start(redis: ReplicatedRedis) -> Self {
        let url = redis.url();
        Self::start_at(redis, &url).await
    }

    /// The same with another URL than the one that names all sentinels.
    pub(crate) async fn start_at(redis: ReplicatedRedis, url: &str) -> Self {
        let (database, sql, posts) = database(url).await;
        let syncd = view_syncd(url, &database).env("SYNC_LINGER", "100ms").start();
        let ingest = view_ingest(url).env("DATABASE_URL", database.url()).start();
        let address = ingest.wait_for_listening("public").await;
        let operators = Client::new(ingest.wait_for_listening("admin").await);
        let site = Self { redis, address, ingest, syncd, operators, sql, posts, _database: database };
        site.syncd.wait_for_line("Sync completed").await;
        let (daemon, ready) = (&site.ingest, Client::new(address));
        eventually("view-ingest is ready", SOON, async || ready.get("/readyz").await.status == 200).await;
        daemon.wait_for_nth_line(INGEST_WORKERS, "Redis connected").await;
        site
    }

    /// A post with an author that no test uses as a viewer.
    pub(crate) async fn post(&self, id: &str) {
        self.posts.insert_post(&self.sql, id, "999999999").await;
    }

    /// Waits until both programs work with the primary again: view-syncd is ready, and no part of view-ingest writes
    /// past Redis. Views have to go on meanwhile, for only who is asked looks.
    pub(crate) async fn works_with_redis(&self) {
        let recording = self.redis.primary().await.client().await;
        let before: i64 = entries_added(&recording).await;
        let recorded =
            async || entries_added(&recording).await > before && self.metric("view_ingest_recorders_in_fallback").await == 0.0;
        eventually("view-ingest writes to the primary alone", FAILOVER_DEADLINE, recorded).await;
        let syncd = Client::new(self.syncd.wait_for_listening("admin").await);
        eventually("view-syncd is ready", FAILOVER_DEADLINE, async || syncd.get("/readyz").await.status == 200).await;
    }

    /// Waits until view-ingest has found that Redis takes no views.
    pub(crate) async fn writes_past_redis(&self) {
        let past = async || self.metric("view_ingest_recorders_in_fallback").await > 0.0;
        eventually("view-ingest writes to PostgreSQL", SOON, past).await;
    }

    /// Waits until the outbox is empty, and two scans have been made.
    pub(crate) async fn settles(&self) {
        let outbox = self.redis.primary().await.client().await;
        for _ in 0..2 {
            let before = self.syncd.lines_with("Sync completed").len();
            self.syncd.signal("HUP");
            self.syncd.wait_for_nth_line(before + 1, "Sync completed").await;
        }
        eventually("the outbox is empty", SOON, async || outbox.xlen::<i64, _>(Keys::default().outbox()).await.unwrap() == 0)
            .await;
    }

    /// Everything in the ledger.
    pub(crate) async fn ledger(&self) -> HashSet<Pair> {
        let rows = self.sql.query("select post_id::text, user_id from post_views", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), u64::try_from(row.get::<_, i64>(1)).unwrap())).collect()
    }

    /// Demands that a post's count is the same in its row, in the ledger and in what view-ingest tells.
    pub(crate) async fn counts_agree(&self, post: &str) {
        let stored = self.posts.views_count(&self.sql, post).await;
        assert_eq!(stored, ledger_count(&self.sql, post).await, "the count of post {post} disagrees with the ledger");
        let live = Client::new(self.address).get(&format!("/posts/{post}/views")).await.json();
        assert_eq!(live["viewsCount"], stored, "the live count of post {post} disagrees with the stored one");
    }

    /// A number that view-ingest tells its operators.
    async fn metric(&self, name: &str) -> f64 {
        let metrics = self.operators.get("/metrics").await.body;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).parse().unwrap()
    }
}

/// A database with a posts table and a ledger.
pub(crate) async fn database(redis_url: &str) -> (Database, tokio_postgres::Client, PostsTable) {
    let database = postgres::shared().await.database().await;
    let posts = PostsTable::with_ids(IdType::Bigint);
    let sql = database.client().await;
    posts.create(&sql).await;
    let migrated = view_syncd(redis_url, &database).arg("migrate").start();
    assert!(migrated.wait_exit().await.success(), "{:?}", migrated.output());
    (database, sql, posts)
}

/// Has a server close all connections of a kind: `normal` clients', or those of a `replica`.
pub(crate) async fn disconnect(server: &RedisServer, kind: &str) {
    let kill = CustomCommand::new_static("CLIENT", ClusterHash::FirstKey, false);
    let _: i64 = server.client().await.custom(kill, vec!["KILL", "TYPE", kind]).await.unwrap();
}

/// A view-syncd, or one of its commands.
pub(crate) fn view_syncd(url: &str, database: &Database) -> DaemonBuilder {
    Daemon::builder(PROGRAM)
        .env("REDIS_URL", url)
        .env("DATABASE_URL", database.url())
        .env("JWT_SECRET", SECRET)
        .env("VIEW_SYNCD_ADMIN_LISTEN", "127.0.0.1:0")
}

/// A view-ingest without a database.
pub(crate) fn view_ingest(url: &str) -> DaemonBuilder {
    Daemon::builder(sibling_binary("view-ingest"))
        .env("REDIS_URL", url)
        .env("JWT_SECRET", SECRET)
        .env("VIEW_INGEST_LISTEN", "127.0.0.1:0")
        .env("VIEW_INGEST_ADMIN_LISTEN", "127.0.0.1:0")
        .env("VIEW_INGEST_WORKERS", INGEST_WORKERS.to_string())
}

/// How many entries the outbox has ever been given.
async fn entries_added(redis: &Redis) -> i64 {
    let facts: HashMap<String, Value> = redis.xinfo_stream(Keys::default().outbox(), false, None).await.unwrap_or_default();
    facts.get("entries-added").and_then(Value::as_i64).unwrap_or(0)
}
