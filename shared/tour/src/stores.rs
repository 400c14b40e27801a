//! Private stores, each with a password of this run, and the secret with which its tokens are signed.

use std::path::Path;

use fred::prelude::{Client, ClientLike};
use fred::types::CustomCommand;
use testkit::postgres::{Database, PostgresServer};
use testkit::redis::RedisServer;
use testkit::scratch::Scratch;
use testkit::tokens::Token;
use tokio_postgres::SimpleQueryMessage;

use crate::shell::Environment;

/// The settings that an operator should have: the outbox survives a crash, and is never evicted.
const REDIS_SETTINGS: [(&str, &str); 3] =
    [("appendonly", "yes"), ("appendfsync", "everysec"), ("maxmemory-policy", "noeviction")];
/// The name of the database.
const DATABASE: &str = "demo";
/// How long a token is good for: longer than anybody plays with it.
const TOKEN_SECONDS: i64 = 86_400;

/// Redis, PostgreSQL and a folder, all of which end with this.
pub(crate) struct Stores {
    pub(crate) redis: RedisServer,
    pub(crate) postgres: PostgresServer,
    pub(crate) database: Database,
    pub(crate) folder: Scratch,
    pub(crate) redis_password: String,
    pub(crate) database_password: String,
    signer: Signer,
    client: Client,
}

impl Stores {
    /// Starts both, with an empty database.
    pub(crate) async fn start() -> Self {
        let (redis_password, database_password, secret) = (random_word(), random_word(), random_word());
        let (redis, postgres) = tokio::join!(
            RedisServer::builder().settings(&REDIS_SETTINGS).password(&redis_password).start(),
            PostgresServer::builder().password(&database_password).start()
        );
        let database = postgres.database_named(DATABASE).await;
        let client = redis.client().await;
        let folder = Scratch::new();
        folder.write(SECRET_FILE, &secret);
        Self { redis, postgres, database, folder, redis_password, database_password, signer: Signer(secret), client }
    }

    /// What both daemons are told, with the database as one of its roles reaches it.
    pub(crate) fn environment(&self, database_url: &str) -> Environment {
        let secret_file = self.folder.path().join(SECRET_FILE);
        [
            ("REDIS_URL", self.redis.url()),
            ("DATABASE_URL", database_url.to_owned()),
            ("JWT_SECRET_FILE", secret_file.display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Returns a token of a user.
    pub(crate) fn token(&self, subject: &str) -> String {
        self.signer.token(subject)
    }

    /// Returns a token of an administrator.
    pub(crate) fn admin_token(&self, subject: &str) -> String {
        self.signer.token_of(subject, "ADMIN")
    }

    /// Returns what signs tokens, for whoever signs them later.
    pub(crate) fn signer(&self) -> Signer {
        self.signer.clone()
    }

    /// Runs a statement in the database and returns its bare values: a line for each row, with `|` between columns.
    pub(crate) async fn sql(&self, statement: &str) -> String {
        values(&self.database.client().await, statement).await
    }

    /// Returns the same in another database of the server, so that the first one's own numbers do not tell of it.
    pub(crate) async fn sql_from_outside(&self, statement: &str) -> String {
        values(&self.postgres.client().await, statement).await
    }

    /// Runs a command of Redis and returns its values as text.
    pub(crate) async fn redis_values(&self, words: &[&str]) -> Vec<String> {
        values_of(&self.client, words).await
    }

    /// Returns the same for a command with one value, which may be missing.
    pub(crate) async fn redis(&self, words: &[&str]) -> String {
        self.redis_values(words).await.into_iter().next().unwrap_or_default()
    }

    /// Returns the names and versions of both, as they say themselves.
    pub(crate) async fn versions(&self) -> [String; 2] {
        let info = self.redis(&["INFO", "server"]).await;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::to_owned);
        // Valkey calls itself a Redis of the version whose commands it has, too.
        let redis = match field("valkey_version") {
            Some(version) => format!("Valkey {version}"),
            None => format!("Redis {}", field("redis_version").unwrap_or_default()),
        };
        let postgres = self.sql("show server_version").await;
        [redis, format!("PostgreSQL {}", postgres.split(' ').next().unwrap_or_default())]
    }

    /// Returns how many views PostgreSQL has yet to learn.
    pub(crate) async fn outbox(&self) -> String {
        self.redis(&["XLEN", "views:outbox"]).await
    }

    /// What both stores have logged.
    pub(crate) fn logs(&self) -> [(String, String); 2] {
        [("Redis".to_owned(), self.redis.log()), ("PostgreSQL".to_owned(), self.postgres.log())]
    }

    /// Returns the folder for files of this run.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

const SECRET_FILE: &str = "jwt-secret";

/// Signs tokens.
#[derive(Clone)]
pub(crate) struct Signer(String);

impl Signer {
    /// Returns a token of a user.
    pub(crate) fn token(&self, subject: &str) -> String {
        self.token_of(subject, "USER")
    }

    fn token_of(&self, subject: &str, role: &str) -> String {
        Token::new(subject).claim("role", role).expires_in(TOKEN_SECONDS).hs256(&self.0)
    }
}

/// Returns a word that nobody guesses: 64 digits, of 244 random bits.
pub(crate) fn random_word() -> String {
    [(); 2].map(|()| uuid::Uuid::new_v4().simple().to_string()).concat()
}

/// Runs a command of Redis and returns its values as text.
///
/// # Panics
/// When Redis refuses it.
pub(crate) async fn values_of(client: &Client, words: &[&str]) -> Vec<String> {
    let (name, arguments) = words.split_first().expect("a command has a name");
    let command = CustomCommand::new((*name).to_owned(), None, false);
    let values = client.custom(command, arguments.to_vec()).await;
    values.unwrap_or_else(|error| panic!("Redis refuses {words:?}: {error}"))
}

/// Runs a statement and returns its bare values: a line for each row, with `|` between columns.
///
/// # Panics
/// When PostgreSQL refuses it.
pub(crate) async fn values(client: &tokio_postgres::Client, statement: &str) -> String {
    let messages = client.simple_query(statement).await;
    let messages = messages.unwrap_or_else(|error| panic!("PostgreSQL refuses `{statement}`: {error:?}"));
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let line = |row: &tokio_postgres::SimpleQueryRow| {
        (0..row.len()).map(|column| row.get(column).unwrap_or_default()).collect::<Vec<_>>().join("|")
    };
    rows.map(line).collect::<Vec<_>>().join("\n")
}
