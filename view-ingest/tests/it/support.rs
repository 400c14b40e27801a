//! What most of these tests need: both stores, a posts table with a ledger, and running copies of the program.

use std::net::SocketAddr;

use fred::{
    clients::Client as Redis,
    interfaces::{ClientLike, HashesInterface, KeysInterface, SetsInterface, StreamsInterface},
    types::InfoKind,
};
use serde_json::{Value, json};
use testkit::{
    http::{Client, Response},
    postgres::{self, Database},
    posts::{IdType, PostsTable},
    process::{Daemon, DaemonBuilder},
    redis::RedisServer,
    tokens,
};
use views_core::tls::Trust;
use views_postgres::{
    config::{DatabaseSettings, PostsSettings},
    sql::identifier::{ColumnName, TableName},
};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_view-ingest");
/// The secret of all tokens.
pub(crate) use testkit::tokens::SECRET;
/// More than one, whatever the machine has, so that posts are spread over recorders.
const WORKERS: usize = 2;
/// Long enough for any test's migration.
const MIGRATION_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Two stores of one's own, or Redis alone.
pub(crate) struct World {
    pub(crate) server: RedisServer,
    pub(crate) redis: Redis,
    pub(crate) posts: PostsTable,
    database: Option<(Database, tokio_postgres::Client)>,
}

/// A running copy of the program.
pub(crate) struct Ingest {
    pub(crate) daemon: Daemon,
    /// Where views go.
    pub(crate) address: SocketAddr,
    /// A client of that address.
    pub(crate) http: Client,
    /// A client of the operators' listener.
    pub(crate) admin: Client,
}

impl World {
    /// With text as ids, which can be short and telling.
    pub(crate) async fn new() -> Self {
        Self::with_posts(PostsTable::with_ids(IdType::Text)).await
    }

    pub(crate) async fn with_posts(posts: PostsTable) -> Self {
        let database = postgres::shared().await.database().await;
        Self::with_stores(RedisServer::start().await, database, posts).await
    }

    pub(crate) async fn with_stores(server: RedisServer, database: Database, posts: PostsTable) -> Self {
        let sql = database.client().await;
        posts.create(&sql).await;
        migrate(&database, &posts).await;
        Self { redis: server.client().await, server, posts, database: Some((database, sql)) }
    }

    /// Without a database.
    pub(crate) async fn redis_alone() -> Self {
        Self::with_redis(RedisServer::start().await).await
    }

    pub(crate) async fn with_redis(server: RedisServer) -> Self {
        Self { redis: server.client().await, server, posts: PostsTable::default(), database: None }
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database.as_ref().unwrap().0
    }

    pub(crate) fn sql(&self) -> &tokio_postgres::Client {
        &self.database.as_ref().unwrap().1
    }

    /// A post of an author that no test uses as a viewer.
    pub(crate) async fn post(&self, id: &str) {
        self.post_of(id, "nobody").await;
    }

    pub(crate) async fn post_of(&self, id: &str, author: impl Into<Option<&str>>) {
        self.posts.insert_post(self.sql(), id, author).await;
    }

    /// Does what view-syncd does with views of a post whose id is text: the ledger has the viewers, and the post their
    /// number.
    pub(crate) async fn store(&self, post: &str, viewers: &[String]) {
        let insert = "insert into post_views (post_id, user_id) select $1, unnest($2::text[])";
        self.sql().execute(insert, &[&post, &viewers]).await.unwrap();
        let update = "update posts set views_count = views_count + $2::int8 where id = $1";
        self.sql().execute(update, &[&post, &(viewers.len() as i64)]).await.unwrap();
    }

    /// The program with its settings, not yet started.
    pub(crate) fn program(&self) -> DaemonBuilder {
        let program = on_free_ports().env("JWT_SECRET", SECRET);
        self.environment().into_iter().fold(program, |program, (name, value)| program.env(name, value))
    }

    /// The settings that lead to the stores.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = vec![("REDIS_URL", self.server.url())];
        if let Some((database, _)) = &self.database {
            environment.push(("DATABASE_URL", database.url()));
            environment.push(("POSTS_TABLE", self.posts.table.clone()));
            environment.push(("POST_ID_COLUMN", self.posts.id_column.clone()));
            environment.push(("AUTHOR_COLUMN", self.posts.author_column.clone()));
            environment.push(("COUNT_COLUMN", self.posts.count_column.clone()));
        }
        environment
    }

    /// A copy of the program, started and connected.
    pub(crate) async fn ingest(&self) -> Ingest {
        Ingest::start(self.program()).await
    }

    /// The same with more settings.
    pub(crate) async fn ingest_with(&self, settings: &[(&str, &str)]) -> Ingest {
        Ingest::start(settings.iter().fold(self.program(), |program, (name, value)| program.env(name, value))).await
    }

    /// How many statements of a name the program has sent since [`Database::log_statements`].
    pub(crate) fn statements(&self, name: &str) -> usize {
        let comment = format!("-- {name}\n");
        self.database().statements().iter().filter(|statement| statement.starts_with(&comment)).count()
    }

    /// All pairs in the outbox, in order: post and viewer.
    pub(crate) async fn outbox(&self) -> Vec<(String, String)> {
        let entries: Vec<(String, Vec<String>)> = self.redis.xrange("views:outbox", "-", "+", None).await.unwrap();
        let pairs = entries.iter().flat_map(|(_, fields)| fields.chunks(2));
        pairs.map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    }

    /// The size of a post's set.
    pub(crate) async fn size(&self, post: &str) -> i64 {
        self.redis.scard(set(post)).await.unwrap()
    }

    /// A field of a post's meta hash.
    pub(crate) async fn meta(&self, post: &str, field: &str) -> Option<String> {
        self.redis.hget(meta(post), field).await.unwrap()
    }

    /// Seconds that a key has to live.
    pub(crate) async fn ttl(&self, key: String) -> i64 {
        self.redis.ttl(key).await.unwrap()
    }

    /// How often Redis has been sent each of the commands since its start.
    pub(crate) async fn calls<const N: usize>(&self, commands: [&str; N]) -> [u64; N] {
        let info: String = self.redis.info(Some(InfoKind::CommandStats)).await.unwrap();
        commands.map(|command| {
            let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
            line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
        })
    }
}

impl Ingest {
    /// Starts the program and waits until all its workers are connected to Redis.
    pub(crate) async fn start(program: DaemonBuilder) -> Self {
        let ingest = Self::start_without_redis(program).await;
        ingest.daemon.wait_for_nth_line(WORKERS, "Redis connected").await;
        ingest
    }

    /// Starts the program and waits until it listens.
    pub(crate) async fn start_without_redis(program: DaemonBuilder) -> Self {
        let daemon = program.env("VIEW_INGEST_WORKERS", WORKERS.to_string()).start();
        let address = daemon.wait_for_listening("public").await;
        let admin = Client::new(daemon.wait_for_listening("admin").await);
        daemon.wait_for_line("view-ingest started").await;
        Self { daemon, address, http: Client::new(address), admin }
    }

    /// Views a post.
    pub(crate) async fn view(&self, viewer: &str, post: &str) -> Response {
        self.http.post_json("/posts/view", Some(&token(viewer)), &json!({ "postId": post })).await
    }

    /// Views a post and gives the verdict with the count, such as `counted 7`, or the status of the refusal.
    pub(crate) async fn verdict(&self, viewer: &str, post: &str) -> String {
        verdict(&self.view(viewer, post).await)
    }

    /// Views several posts.
    pub(crate) async fn batch(&self, viewer: &str, posts: &[impl AsRef<str>]) -> Response {
        let posts: Vec<&str> = posts.iter().map(AsRef::as_ref).collect();
        self.http.post_json("/posts/views-batch", Some(&token(viewer)), &json!({ "postIds": posts })).await
    }

    /// The live count of a post.
    pub(crate) async fn count(&self, post: &str) -> i64 {
        let response = self.http.get(&format!("/posts/{post}/views")).await;
        response.json()["viewsCount"].as_i64().unwrap_or_else(|| panic!("{response:?}"))
    }

    /// The value of a metric, given with its labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let metrics = self.admin.get("/metrics").await.body;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).parse().unwrap()
    }
}

/// The program on ports that it chooses itself, without any other setting.
pub(crate) fn on_free_ports() -> DaemonBuilder {
    Daemon::builder(PROGRAM).env("VIEW_INGEST_LISTEN", "127.0.0.1:0").env("VIEW_INGEST_ADMIN_LISTEN", "127.0.0.1:0")
}

/// A viewer's token.
pub(crate) fn token(viewer: &str) -> String {
    tokens::hs256(SECRET, viewer)
}

/// The verdict of an answer to a view with the count, such as `counted 7`, or the status of the refusal.
pub(crate) fn verdict(response: &Response) -> String {
    if response.status != 200 {
        return response.status.to_string();
    }
    let body = response.json();
    format!("{} {}", body["status"].as_str().unwrap(), body["viewsCount"])
}

/// Demands that an answer is an error in the API's one form.
#[track_caller]
pub(crate) fn assert_error(response: &Response, status: u16, message: &str) {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.header("content-type"), "application/json; charset=utf-8");
    let body: Value = response.json();
    assert_eq!((&body["statusCode"], &body["message"]), (&json!(status), &json!(message)), "{response:?}");
    let names: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(names, ["error", "message", "statusCode"], "{response:?}");
}

/// The key of a post's viewers.
pub(crate) fn set(post: &str) -> String {
    format!("post:{post}:views")
}

/// The key of a post's author and counts.
pub(crate) fn meta(post: &str) -> String {
    format!("{{post:{post}:views}}:meta")
}

/// `number` distinct viewers.
pub(crate) fn viewers(number: usize) -> Vec<String> {
    (0..number).map(|viewer| format!("viewer-{viewer}")).collect()
}

/// Creates the ledger, as `view-syncd migrate` does.
pub(crate) async fn migrate(database: &Database, posts: &PostsTable) {
    as_the_programs_know_it(database, posts).migrate(false).await.unwrap();
}

/// The database with its posts table, as both programs know it.
pub(crate) fn as_the_programs_know_it(database: &Database, posts: &PostsTable) -> views_postgres::Database {
    let settings = DatabaseSettings { config: database.url().parse().unwrap(), trust: Trust::Anybody };
    let column = |name: &str| ColumnName::parse(name).unwrap();
    let posts = PostsSettings {
        table: TableName::parse(&posts.table).unwrap(),
        id: column(&posts.id_column),
        author: Some(column(&posts.author_column)),
        count: column(&posts.count_column),
        ..PostsSettings::default()
    };
    views_postgres::Database::new(&settings, posts, 1, MIGRATION_TIMEOUT).unwrap()
}
