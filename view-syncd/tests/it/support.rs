//! What most of these tests need: both stores, a posts table with a ledger, and what view-ingest would do.

use std::{ffi::OsString, sync::Arc};

use fred::{
    clients::Client as Redis,
    interfaces::{ClientLike, HashesInterface, KeysInterface, SetsInterface, StreamsInterface},
    types::{InfoKind, Value},
};
use prometheus_client::registry::Registry;
use testkit::{
    SOON, eventually,
    http::Client,
    postgres::{self, Database},
    posts::{IdType, PostsTable},
    process::{Daemon, DaemonBuilder, sibling_binary},
    redis::RedisServer,
};
use tokio_util::sync::CancellationToken;
use view_syncd::{
    cli::{self, Command},
    context::{Context, startup},
    daemon::synchronizer::Synchronizer,
    drain::{Drained, Urgency},
    metrics::Metrics,
};
use views_core::{ids::PostId, keys::Keys};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_view-syncd");
/// The secret of all tokens.
pub(crate) use testkit::tokens::SECRET;

/// Two stores of one's own.
pub(crate) struct World {
    pub(crate) server: Arc<RedisServer>,
    pub(crate) redis: Redis,
    pub(crate) keys: Keys,
    pub(crate) database: Database,
    pub(crate) sql: tokio_postgres::Client,
    pub(crate) posts: PostsTable,
}

impl World {
    /// With numbers as ids, which are short and easy to tell apart, and a ledger.
    pub(crate) async fn new() -> Self {
        Self::with_redis(RedisServer::start().await).await
    }

    pub(crate) async fn with_redis(server: RedisServer) -> Self {
        let database = postgres::shared().await.database().await;
        Self::with_stores(server, database, PostsTable::with_ids(IdType::Bigint)).await
    }

    pub(crate) async fn with_stores(server: impl Into<Arc<RedisServer>>, database: Database, posts: PostsTable) -> Self {
        posts.create(&database.client().await).await;
        Self::over(server, database, posts).await
    }

    /// With a posts table that is there.
    pub(crate) async fn over(server: impl Into<Arc<RedisServer>>, database: Database, posts: PostsTable) -> Self {
        let server = server.into();
        let (redis, sql) = (server.client().await, database.client().await);
        let world = Self { redis, keys: Keys::default(), server, database, sql, posts };
        let migrated = world.command("migrate").start();
        assert!(migrated.wait_exit().await.success(), "{:?}", migrated.output());
        world
    }

    /// A post with an author that no test uses as a viewer.
    pub(crate) async fn post(&self, id: &str) {
        self.posts.insert_post(&self.sql, id, "999999").await;
    }

    /// Runs a command to its end. Returns its status, what it prints, and what it logs.
    pub(crate) async fn run(&self, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
        let mut command = tokio::process::Command::new(PROGRAM);
        command.args(args).env_clear().env("REDIS_URL", self.server.url()).env("DATABASE_URL", self.database.url());
        command.env("POSTS_TABLE", &self.posts.table).envs(env.iter().copied());
        let output = command.output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (printed, logged) = (text(output.stdout), text(output.stderr));
        assert!(!logged.contains("panicked"), "{logged}");
        (output.status.code(), printed, logged)
    }

    /// A command of the program, or the daemon without one.
    pub(crate) fn program(&self) -> DaemonBuilder {
        Daemon::builder(PROGRAM)
            .env("REDIS_URL", self.server.url())
            .env("DATABASE_URL", self.database.url())
            .env("VIEW_SYNCD_ADMIN_LISTEN", "127.0.0.1:0")
            .env("POSTS_TABLE", &self.posts.table)
            .env("POST_ID_COLUMN", &self.posts.id_column)
            .env("AUTHOR_COLUMN", &self.posts.author_column)
            .env("COUNT_COLUMN", &self.posts.count_column)
    }

    pub(crate) fn command(&self, command: &str) -> DaemonBuilder {
        self.program().arg(command)
    }

    pub(crate) fn daemon(&self) -> DaemonBuilder {
        self.program().env("JWT_SECRET", SECRET)
    }

    /// view-ingest beside these stores.
    pub(crate) fn ingest_program(&self) -> DaemonBuilder {
        Daemon::builder(sibling_binary("view-ingest"))
            .env("REDIS_URL", self.server.url())
            .env("DATABASE_URL", self.database.url())
            .env("POSTS_TABLE", &self.posts.table)
            .env("POST_ID_COLUMN", &self.posts.id_column)
            .env("AUTHOR_COLUMN", &self.posts.author_column)
            .env("COUNT_COLUMN", &self.posts.count_column)
            .env("JWT_SECRET", SECRET)
            .env("VIEW_INGEST_LISTEN", "127.0.0.1:0")
            .env("VIEW_INGEST_ADMIN_LISTEN", "127.0.0.1:0")
    }

    /// view-ingest, started and ready, and a client of it.
    pub(crate) async fn ingest(&self) -> (Daemon, Client) {
        ready(self.ingest_program()).await
    }

    /// The daemon, started and done with its first cycle, with a linger that never ends by itself.
    pub(crate) async fn patient_daemon(&self) -> Daemon {
        let daemon = self.daemon().env("SYNC_LINGER", "1h").start();
        daemon.wait_for_line("Sync completed").await;
        daemon
    }

    /// A synchronizer whose steps the test takes itself.
    pub(crate) async fn synchronizer(&self, flags: &[&str]) -> Synchronizer {
        let posts = ["--posts-table", &self.posts.table, "--author-column", &self.posts.author_column];
        synchronizer(&self.server.url(), &self.database.url(), &[&posts, flags].concat()).await
    }

    /// Does what view-ingest does with viewers of a post that it knows: outbox first, then the set and `recorded`.
    pub(crate) async fn record(&self, post: &str, viewers: &[&str]) {
        let fields: Vec<(&str, &str)> = viewers.iter().map(|viewer| (post, *viewer)).collect();
        self.add_entry(fields).await;
        let id = PostId::parse(post).unwrap();
        let () = self.redis.sadd(self.keys.views(&id), viewers.to_vec()).await.unwrap();
        let () = self.redis.expire(self.keys.views(&id), 86_400, None).await.unwrap();
        let () = self.redis.hincrby(self.keys.meta(&id), "recorded", viewers.len() as i64).await.unwrap();
        let () = self.redis.expire(self.keys.meta(&id), 86_400, None).await.unwrap();
    }

    /// Adds an entry to the outbox and nothing else.
    pub(crate) async fn add_entry(&self, fields: Vec<(&str, &str)>) -> String {
        self.redis.xadd(self.keys.outbox(), false, None, "*", fields).await.unwrap()
    }

    /// Lets somebody else than view-ingest write the set.
    pub(crate) async fn add_by_hand(&self, post: &str, viewers: &[&str]) {
        let () = self.redis.sadd(self.keys.views(&PostId::parse(post).unwrap()), viewers.to_vec()).await.unwrap();
    }

    /// The count that view-ingest would answer with.
    pub(crate) async fn live(&self, post: &str) -> i64 {
        let [persisted, recorded, acked] = self.meta(post).await;
        persisted + recorded - acked
    }

    /// `persisted`, `recorded` and `acked`.
    pub(crate) async fn meta(&self, post: &str) -> [i64; 3] {
        let meta = self.keys.meta(&PostId::parse(post).unwrap());
        let fields: Vec<Value> = self.redis.hmget(meta, vec!["persisted", "recorded", "acked"]).await.unwrap();
        [0, 1, 2].map(|place: usize| fields[place].as_i64().unwrap_or(0))
    }

    /// Which entries have pairs that `recorded` does not count, and how many.
    pub(crate) async fn repeated(&self, post: &str) -> String {
        let meta = self.keys.meta(&PostId::parse(post).unwrap());
        self.redis.hget::<Option<String>, _, _>(meta, "repeated").await.unwrap().unwrap_or_default()
    }

    pub(crate) async fn author(&self, post: &str) -> Option<String> {
        self.redis.hget(self.keys.meta(&PostId::parse(post).unwrap()), "author").await.unwrap()
    }

    /// Whether it is noted that PostgreSQL has fewer views of a post than it had.
    pub(crate) async fn has_fallen(&self, post: &str) -> bool {
        let meta = self.keys.meta(&PostId::parse(post).unwrap());
        self.redis.hget::<Option<i64>, _, _>(meta, "fallen").await.unwrap().is_some_and(|falls| falls > 0)
    }

    /// The count in PostgreSQL, which must agree with the ledger.
    pub(crate) async fn stored(&self, post: &str) -> i64 {
        let (count, rows) = self.posts.views_and_rows(&self.sql, post).await;
        assert_eq!(count, rows, "the count of post {post} disagrees with the ledger");
        count
    }

    /// Demands that a post has this count everywhere.
    pub(crate) async fn assert_views(&self, post: &str, views: i64) {
        assert_eq!((self.stored(post).await, self.live(post).await), (views, views), "post {post}: {:?}", self.meta(post).await);
    }

    pub(crate) async fn outbox_length(&self) -> i64 {
        self.redis.xlen(self.keys.outbox()).await.unwrap()
    }

    /// Post, viewer and reason of each dead pair.
    pub(crate) async fn dead(&self) -> Vec<[String; 3]> {
        let entries: Vec<(String, Vec<String>)> = self.redis.xrange(self.keys.dead(), "-", "+", None).await.unwrap();
        entries.into_iter().map(|(_, fields)| [1, 3, 5].map(|place: usize| fields[place].clone())).collect()
    }

    /// The ids of all dead letters.
    pub(crate) async fn dead_ids(&self) -> Vec<String> {
        let entries: Vec<(String, Value)> = self.redis.xrange(self.keys.dead(), "-", "+", None).await.unwrap();
        entries.into_iter().map(|(id, _)| id).collect()
    }

    /// When the oldest entry of the outbox was written, in milliseconds since 1970.
    pub(crate) async fn oldest_ms(&self) -> i64 {
        let entries: Vec<(String, Value)> = self.redis.xrange(self.keys.outbox(), "-", "+", Some(1)).await.unwrap();
        entries[0].0.split('-').next().unwrap().parse().unwrap()
    }

    pub(crate) async fn exists(&self, key: String) -> bool {
        self.redis.exists::<i64, _>(key).await.unwrap() == 1
    }

    /// How often Redis has been sent each command since the start or the last [`Self::reset_statistics`].
    pub(crate) async fn calls(&self, command: &str) -> u64 {
        let info: String = self.redis.info(Some(InfoKind::CommandStats)).await.unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }

    pub(crate) async fn reset_statistics(&self) {
        let reset = fred::types::CustomCommand::new_static("CONFIG", fred::types::ClusterHash::FirstKey, false);
        let () = self.redis.custom(reset, vec!["RESETSTAT"]).await.unwrap();
    }
}

/// Starts a view-ingest, and waits until it is ready.
pub(crate) async fn ready(program: DaemonBuilder) -> (Daemon, Client) {
    let daemon = program.start();
    let client = Client::new(daemon.wait_for_listening("public").await);
    eventually("view-ingest is ready", SOON, || async { client.get("/readyz").await.status == 200 }).await;
    (daemon, client)
}

/// Drains until nothing is left, and nothing waits for a lock.
pub(crate) async fn drain_deferred(synchronizer: &mut Synchronizer) {
    loop {
        match synchronizer.drain(Urgency::AtOnce).await.unwrap() {
            Drained::Idle => return,
            Drained::Deferred(until) => tokio::time::sleep_until(until.into()).await,
            Drained::Stored { .. } | Drained::Waiting(_) => {}
        }
    }
}

/// A synchronizer whose steps the test takes itself.
pub(crate) async fn synchronizer(redis_url: &str, database_url: &str, flags: &[&str]) -> Synchronizer {
    let args = ["view-syncd", "sync", "--redis-url", redis_url, "--database-url", database_url];
    let settings = cli::read(args.iter().chain(flags).map(OsString::from)).expect("the settings are right");
    let (command, common) = settings.into_parts();
    assert!(matches!(command, Command::Sync));
    let metrics = Metrics::new(&mut Registry::default());
    let context = Context::open(&common.sync, metrics, CancellationToken::new()).expect("the settings fit together");
    // The nodes of a cluster are found a moment later.
    let waited = tokio::time::timeout(SOON, startup::wait(&context, |_| ())).await;
    waited.expect("both stores are there").expect("both stores are as they are needed");
    Synchronizer::new(&context)
}
