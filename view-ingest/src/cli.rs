//! The settings of view-ingest: flags, their environment variables, their defaults.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::Parser;
use views_auth::{Verifier, config::KeyArgs};
use views_core::{
    command_line,
    settings::{Problems, parse_args},
};
use views_postgres::config::{DatabaseSettings, PostgresArgs, PostsArgs, PostsSettings};
use views_redis::config::{RedisArgs, RedisSettings};
use views_service::logs::{LogArgs, LogSettings};

use crate::viewer_rate::Rate;

/// Counts unique views of posts: records them in Redis and answers with the count.
#[derive(Debug, Parser)]
#[command(name = "view-ingest", version, about)]
struct Args {
    /// Where to listen for views, unless systemd hands a socket over [default: 127.0.0.1:3001]
    #[arg(long, env = "VIEW_INGEST_LISTEN", value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where operators find /livez, /readyz and /metrics [default: 127.0.0.1:3003]
    #[arg(long, env = "VIEW_INGEST_ADMIN_LISTEN", value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// How long Redis keeps a post that nobody views [default: 24h]
    #[arg(long, env = "VIEW_TTL", value_name = "TIME")]
    view_ttl: Option<String>,
    /// How many posts a batch may name [default: 100]
    #[arg(long, env = "VIEW_INGEST_MAX_BATCH", value_name = "NUMBER")]
    max_batch: Option<String>,
    /// How many connections are served at once; for the next one, the one that has been idle or incomplete longest gives way [default: 20000]
    #[arg(long, env = "VIEW_INGEST_MAX_CONNECTIONS", value_name = "NUMBER")]
    max_connections: Option<String>,
    /// How many requests may wait for Redis, per worker; the next one gets a 503 [default: 10000]
    #[arg(long, env = "VIEW_INGEST_MAX_QUEUE", value_name = "NUMBER")]
    max_queue: Option<String>,
    /// How many posts that could not be looked up are accepted while PostgreSQL is away; views of others get a 503 [default: 10000]
    #[arg(long, env = "VIEW_INGEST_MAX_UNSEEN_POSTS", value_name = "NUMBER")]
    max_unseen_posts: Option<String>,
    /// How many views one account may send in a time, such as 60/1m; past them, 429 [default: no limit]
    #[arg(long, env = "VIEW_INGEST_VIEWER_RATE", value_name = "NUMBER/TIME")]
    viewer_rate: Option<String>,
    /// How many threads serve requests [default: half the number of processors]
    #[arg(long, env = "VIEW_INGEST_WORKERS", value_name = "NUMBER")]
    workers: Option<String>,
    /// Whether reading a count takes a token, too [default: false]
    #[arg(long, env = "VIEW_INGEST_READS_REQUIRE_TOKEN", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    reads_require_token: Option<String>,
    /// How long a client may take to send a request's head [default: 10s]
    #[arg(long, env = "VIEW_INGEST_HEADER_TIMEOUT", value_name = "TIME")]
    header_timeout: Option<String>,
    /// How long a client may take to send a request's body [default: 10s]
    #[arg(long, env = "VIEW_INGEST_BODY_TIMEOUT", value_name = "TIME")]
    body_timeout: Option<String>,
    /// How long a connection may stay open between two requests; longer than the load balancer's own time [default: 75s]
    #[arg(long, env = "VIEW_INGEST_IDLE_TIMEOUT", value_name = "TIME")]
    idle_timeout: Option<String>,
    /// How long a client may take to receive an answer [default: 10s]
    #[arg(long, env = "VIEW_INGEST_WRITE_TIMEOUT", value_name = "TIME")]
    write_timeout: Option<String>,
    /// How long to go on as before after SIGTERM, with /readyz at 503, until the load balancer has noticed [default: 0s]
    #[arg(long, env = "VIEW_INGEST_SHUTDOWN_DELAY", value_name = "TIME")]
    shutdown_delay: Option<String>,
    /// How long requests in flight may take to finish after that [default: 30s]
    #[arg(long, env = "VIEW_INGEST_SHUTDOWN_TIMEOUT", value_name = "TIME")]
    shutdown_timeout: Option<String>,
    #[command(flatten)]
    keys: KeyArgs,
    #[command(flatten)]
    redis: RedisArgs,
    #[command(flatten)]
    postgres: PostgresArgs,
    #[command(flatten)]
    posts: PostsArgs,
    #[command(flatten)]
    logs: LogArgs,
}

/// All settings, checked.
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) workers: usize,
    pub(crate) verifier: Verifier,
    pub(crate) redis: RedisSettings,
    pub(crate) database: Option<DatabaseSettings>,
    pub(crate) posts: PostsSettings,
    pub(crate) limits: Limits,
    /// How many posts that nobody could look up are accepted while PostgreSQL is away.
    pub(crate) max_unseen_posts: usize,
    pub(crate) shutdown_delay: Duration,
    pub(crate) shutdown_timeout: Duration,
}

/// What a client, and all clients together, may ask for.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// How long Redis keeps a post that nobody views.
    pub(crate) view_ttl: Duration,
    /// How many posts a request may name.
    pub(crate) max_batch: usize,
    /// How many connections are served at once.
    pub(crate) max_connections: usize,
    /// How many requests may wait for one recorder.
    pub(crate) max_queue: usize,
    /// How many views one account may send in a time, where there is a limit.
    pub(crate) viewer_rate: Option<Rate>,
    /// Whether reading a count takes a token.
    pub(crate) reads_require_token: bool,
    /// How long a request's head may take.
    pub(crate) header_timeout: Duration,
    /// How long a request's body may take.
    pub(crate) body_timeout: Duration,
    /// How long a connection may be idle.
    pub(crate) idle_timeout: Duration,
    /// How long a client may take to receive an answer.
    pub(crate) write_timeout: Duration,
}

/// The longest statement of view-ingest is a look-up of a few posts by their key.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

impl Settings {
    /// Reads the command line and the environment.
    ///
    /// # Errors
    /// The exit status to end with, after everything that is wrong has been printed.
    pub(crate) fn read() -> Result<(Self, LogSettings), ExitCode> {
        let args: Args = parse_args(std::env::args_os())?;
        args.check().map_err(|problems| problems.report("view-ingest"))
    }
}

impl Args {
    fn check(&self) -> Result<(Settings, LogSettings), Problems> {
        let mut problems = Problems::default();
        let p = &mut problems;
        let second = Duration::from_secs(1);
        // The other half is for Redis, the system's network and whoever sends the requests. With fewer workers, batches are larger and views
        // seldom go from one thread to another, which saves more than a second thread on two processors brings.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let limits = Limits {
            view_ttl: p.duration("--view-ttl", self.view_ttl.as_deref(), Duration::from_secs(24 * 3600), second),
            max_batch: p.number("--max-batch", self.max_batch.as_deref(), 100, 1..=1_000),
            max_connections: p.number("--max-connections", self.max_connections.as_deref(), 20_000, 1..=1_000_000),
            max_queue: p.number("--max-queue", self.max_queue.as_deref(), 10_000, 1..=1_000_000),
            viewer_rate: Rate::read(p, "--viewer-rate", self.viewer_rate.as_deref()),
            reads_require_token: p.switch("--reads-require-token", self.reads_require_token.as_deref()),
            header_timeout: p.duration("--header-timeout", self.header_timeout.as_deref(), 10 * second, second),
            body_timeout: p.duration("--body-timeout", self.body_timeout.as_deref(), 10 * second, second),
            idle_timeout: p.duration("--idle-timeout", self.idle_timeout.as_deref(), 75 * second, second),
            write_timeout: p.duration("--write-timeout", self.write_timeout.as_deref(), 10 * second, second),
        };
        let listen = p.address("--listen", self.listen.as_deref(), "127.0.0.1:3001");
        let admin_listen = p.address("--admin-listen", self.admin_listen.as_deref(), "127.0.0.1:3003");
        let workers = p.number("--workers", self.workers.as_deref(), processors.div_ceil(2), 1..=1_024);
        let max_unseen_posts = p.number("--max-unseen-posts", self.max_unseen_posts.as_deref(), 10_000, 0..=100_000_000);
        let shutdown_delay = p.duration("--shutdown-delay", self.shutdown_delay.as_deref(), Duration::ZERO, Duration::ZERO);
        let shutdown_timeout = p.duration("--shutdown-timeout", self.shutdown_timeout.as_deref(), 30 * second, Duration::ZERO);
        let verifier = self.keys.read(p);
        let redis = self.redis.read(p);
        let database = self.postgres.read(STATEMENT_TIMEOUT, p);
        let posts = self.posts.read(p);
        command_line::warn_of_secrets(p, std::env::args_os());
        let logs = self.logs.read(p);
        match verifier {
            Some(verifier) if problems.is_empty() => Ok((
                Settings {
                    listen,
                    admin_listen,
                    workers,
                    verifier,
                    redis,
                    database,
                    posts,
                    limits,
                    max_unseen_posts,
                    shutdown_delay,
                    shutdown_timeout,
                },
                logs,
            )),
            _ => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str]) -> Result<Settings, Problems> {
        let args = std::iter::once("view-ingest").chain(args.iter().copied());
        Args::try_parse_from(args).unwrap().check().map(|(settings, _)| settings)
    }

    #[test]
    fn a_secret_is_all_that_must_be_given() {
        let settings = check(&["--jwt-secret", testkit::tokens::SECRET]).map_err(|problems| problems.all().join("\n")).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:3001");
        assert_eq!(settings.admin_listen.to_string(), "127.0.0.1:3003");
        assert_eq!(settings.limits.view_ttl, Duration::from_secs(86_400));
        assert_eq!(settings.limits.max_batch, 100);
        assert!(settings.limits.viewer_rate.is_none());
        assert!(settings.database.is_none());
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let wrong =
            ["--listen", "x", "--view-ttl", "y", "--redis-url", "z", "--database-url", "mysql://h", "--viewer-rate", "60"];
        let Err(problems) = check(&wrong) else { panic!("accepted") };
        assert_eq!(problems.all().len(), 6, "{:?}", problems.all());
    }
}
