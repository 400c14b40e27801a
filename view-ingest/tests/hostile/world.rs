//! A running view-ingest with both stores, for tests that are not asynchronous themselves: cases are made up outside of
//! a runtime.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use testkit::{
    http::Client,
    postgres::{self, Database},
    posts::{IdType, PostsTable},
    process::Daemon,
    redis::RedisServer,
    tokens::{self, SECRET},
};
use tokio::runtime::Runtime;
use views_core::tls::Trust;
use views_postgres::config::{DatabaseSettings, PostsSettings};

/// Long enough for a migration.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the program lets a client take, in every phase of a connection.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// The posts that exist.
pub(crate) const POSTS: [&str; 3] = ["7", "a", "550e8400-e29b-41d4-a716-446655440000"];

/// The program and its stores.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    /// Where views go.
    pub(crate) address: SocketAddr,
    /// The token of a viewer.
    pub(crate) token: String,
    daemon: Daemon,
    admin: SocketAddr,
    _redis: RedisServer,
    _sql: tokio_postgres::Client,
}

impl World {
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let (redis, sql, daemon, address, admin) = runtime.block_on(async {
            let redis = RedisServer::start().await;
            let database = postgres::shared().await.database().await;
            let sql = database.client().await;
            let posts = PostsTable::with_ids(IdType::Text);
            posts.create(&sql).await;
            migrate(&database).await;
            for post in POSTS.into_iter().chain(["afterwards"]) {
                posts.insert_post(&sql, post, "somebody else").await;
            }
            let patience = format!("{}s", PATIENCE.as_secs());
            let daemon = Daemon::builder(env!("CARGO_BIN_EXE_view-ingest"))
                .env("VIEW_INGEST_LISTEN", "127.0.0.1:0")
                .env("VIEW_INGEST_ADMIN_LISTEN", "127.0.0.1:0")
                .env("VIEW_INGEST_WORKERS", "2")
                .env("VIEW_INGEST_HEADER_TIMEOUT", &patience)
                .env("VIEW_INGEST_BODY_TIMEOUT", &patience)
                .env("VIEW_INGEST_IDLE_TIMEOUT", &patience)
                .env("REDIS_URL", redis.url())
                .env("DATABASE_URL", database.url())
                .env("JWT_SECRET", SECRET)
                .start();
            let address = daemon.wait_for_listening("public").await;
            let admin = daemon.wait_for_listening("admin").await;
            daemon.wait_for_nth_line(2, "Redis connected").await;
            (redis, sql, daemon, address, admin)
        });
        Self { runtime, address, token: tokens::hs256(SECRET, "viewer"), daemon, admin, _redis: redis, _sql: sql }
    }

    /// Demands that the program is well: it runs, has not panicked, has answered nothing with a 5xx, and counts a new view.
    pub(crate) fn assert_well(&self) {
        let (answer, metrics) = self.runtime.block_on(async {
            let client = Client::new(self.address);
            let token = tokens::hs256(SECRET, "somebody-new");
            let answer = client.post_json("/posts/view", Some(&token), &json!({ "postId": "afterwards" })).await;
            (answer, Client::new(self.admin).get("/metrics").await.body)
        });
        assert_eq!(answer.body, r#"{"message":"Просмотр добавлен","viewsCount":1,"status":"counted"}"#);
        assert!(metrics.contains("view_ingest_http_responses_total{class=\"5xx\"} 0\n"), "{metrics}");
        assert!(self.daemon.is_running());
        assert_eq!(self.daemon.lines_with("panicked"), Vec::<String>::new());
    }
}

/// Creates the ledger, as `view-syncd migrate` does.
async fn migrate(database: &Database) {
    let settings = DatabaseSettings { config: database.url().parse().unwrap(), trust: Trust::Anybody };
    views_postgres::Database::new(&settings, PostsSettings::default(), 1, MIGRATION_TIMEOUT)
        .unwrap()
        .migrate(false)
        .await
        .unwrap();
}
