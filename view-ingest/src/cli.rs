//! The settings of view-ingest: flags, their environment variables, their defaults.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser};
use views_auth::{Verifier, config::KeyArgs};
use views_core::{
    command_line::{self, parse_args},
    settings::{Problems, Setting, parse},
};
use views_postgres::config::{DatabaseSettings, PostgresArgs, PostsArgs, PostsSettings};
use views_redis::config::{RedisArgs, RedisSettings};
use views_service::logs::{LogArgs, LogSettings};

use crate::api::{
    surface::{Surface, SurfaceArgs},
    viewer_rate::Rate,
};

/// Counts unique views of posts: records them in Redis and answers with the count.
#[derive(Debug, Parser)]
#[command(name = "view-ingest", version, about)]
struct Args {
    /// Where to listen for views, unless systemd hands a socket over
    #[arg(long, env = "VIEW_INGEST_LISTEN", default_value = "127.0.0.1:3001", value_name = "ADDRESS")]
    listen: Setting,
    /// Where operators find /livez, /readyz and /metrics
    #[arg(long, env = "VIEW_INGEST_ADMIN_LISTEN", default_value = "127.0.0.1:3003", value_name = "ADDRESS")]
    admin_listen: Setting,
    /// How many posts a batch may name
    #[arg(long, env = "VIEW_INGEST_MAX_BATCH", default_value = "100", value_name = "NUMBER")]
    max_batch: Setting,
    /// How many connections are served at once
    ///
    /// For one connection more, the one that has been idle or incomplete longest gives way. Where all are being
    /// answered, the new one gets a 503.
    #[arg(long, env = "VIEW_INGEST_MAX_CONNECTIONS", default_value = "20000", value_name = "NUMBER")]
    max_connections: Setting,
    /// How many requests may wait for Redis, per worker; the next one gets a 503
    #[arg(long, env = "VIEW_INGEST_MAX_QUEUE", default_value = "10000", value_name = "NUMBER")]
    max_queue: Setting,
    /// How many posts that could not be looked up are accepted while PostgreSQL is away; views of others get a 503
    #[arg(long, env = "VIEW_INGEST_MAX_UNSEEN_POSTS", default_value = "10000", value_name = "NUMBER")]
    max_unseen_posts: Setting,
    /// How many views one account may send in a time, such as 60/1m; past them, 429 with Retry-After [default: no
    /// limit]
    ///
    /// With 60/1m an account may send 60 views at once, and one a second follows. A batch costs as many as it has
    /// distinct posts, and is taken whole or refused whole; one that is larger than the whole rate costs all of it.
    /// Repeated views, and those of unknown posts, cost as much as new ones; reads cost nothing.
    /// `view_ingest_views_rate_limited_total` counts the views that were refused.
    ///
    /// Each process counts for itself, so N of them behind a load balancer allow up to N times the rate. The last
    /// 100,000 accounts are remembered, in about 50 MiB; one that is forgotten may send the full rate again.
    #[arg(long, env = "VIEW_INGEST_VIEWER_RATE", value_name = "NUMBER/TIME")]
    viewer_rate: Option<Setting>,
    /// How many threads serve requests [default: half the number of processors]
    #[arg(long, env = "VIEW_INGEST_WORKERS", value_name = "NUMBER")]
    workers: Option<Setting>,
    /// Whether reading a count takes a token, too
    #[arg(
        long, env = "VIEW_INGEST_READS_REQUIRE_TOKEN", default_value = "false", value_name = "BOOL",
        num_args = 0..=1, default_missing_value = "true"
    )]
    reads_require_token: Setting,
    /// How long a client may take to send a request's whole head
    #[arg(long, env = "VIEW_INGEST_HEADER_TIMEOUT", default_value = "10s", value_name = "TIME")]
    header_timeout: Setting,
    /// How long a client may take to send a request's whole body
    #[arg(long, env = "VIEW_INGEST_BODY_TIMEOUT", default_value = "10s", value_name = "TIME")]
    body_timeout: Setting,
    /// How long a connection may stay open between two requests; longer than the load balancer's own time
    #[arg(long, env = "VIEW_INGEST_IDLE_TIMEOUT", default_value = "75s", value_name = "TIME")]
    idle_timeout: Setting,
    /// How long a client may take to receive a whole answer
    #[arg(long, env = "VIEW_INGEST_WRITE_TIMEOUT", default_value = "10s", value_name = "TIME")]
    write_timeout: Setting,
    /// How long to go on as before after SIGTERM, with /readyz at 503, until the load balancer has noticed
    #[arg(long, env = "VIEW_INGEST_SHUTDOWN_DELAY", default_value = "0s", value_name = "TIME")]
    shutdown_delay: Setting,
    /// How long requests in flight may take to finish after that
    #[arg(long, env = "VIEW_INGEST_SHUTDOWN_TIMEOUT", default_value = "30s", value_name = "TIME")]
    shutdown_timeout: Setting,
    #[command(flatten)]
    surface: SurfaceArgs,
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
    pub(crate) surface: Surface,
    /// How many posts that nobody could look up are accepted while PostgreSQL is away.
    pub(crate) max_unseen_posts: usize,
    pub(crate) shutdown_delay: Duration,
    pub(crate) shutdown_timeout: Duration,
}

/// What a client, and all clients together, may ask for.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
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

/// The shortest time that a client may be given.
const SECOND: Duration = Duration::from_secs(1);
/// The longest statement of view-ingest is a look-up of a few posts by their key.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

impl Settings {
    /// Reads the command line and the environment.
    ///
    /// # Errors
    /// The exit status to end with, after everything that is wrong has been printed.
    pub(crate) fn read() -> Result<(Self, LogSettings), ExitCode> {
        let args: Args = parse_args(&Args::command(), std::env::args_os())?;
        args.resolve().map_err(|problems| problems.report("view-ingest"))
    }
}

impl Args {
    fn resolve(&self) -> Result<(Settings, LogSettings), Problems> {
        let mut problems = Problems::default();
        let p = &mut problems;
        // The other half is for Redis, the system's network and whoever sends the requests. With fewer workers, batches
        // are larger and views seldom go from one thread to another, which saves more than a second thread on two
        // processors brings.
        let half_the_processors = || std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
        let limits = Limits {
            max_batch: p.number(&self.max_batch, 1..=1_000),
            max_connections: p.number(&self.max_connections, 1..=1_000_000),
            max_queue: p.number(&self.max_queue, 1..=1_000_000),
            viewer_rate: p.optional(self.viewer_rate.as_ref(), Rate::parse),
            reads_require_token: p.switch(&self.reads_require_token),
            header_timeout: p.duration(&self.header_timeout, SECOND),
            body_timeout: p.duration(&self.body_timeout, SECOND),
            idle_timeout: p.duration(&self.idle_timeout, SECOND),
            write_timeout: p.duration(&self.write_timeout, SECOND),
        };
        let listen = p.address(&self.listen);
        let admin_listen = p.address(&self.admin_listen);
        let workers = p.optional(self.workers.as_ref(), |text| parse::number(text, &(1..=1_024)));
        let max_unseen_posts = p.number(&self.max_unseen_posts, 0..=100_000_000);
        let shutdown_delay = p.duration(&self.shutdown_delay, Duration::ZERO);
        let shutdown_timeout = p.duration(&self.shutdown_timeout, Duration::ZERO);
        let surface = self.surface.resolve(p);
        let verifier = self.keys.resolve(p);
        let redis = self.redis.resolve(p);
        let database = self.postgres.resolve(STATEMENT_TIMEOUT, p);
        let posts = self.posts.resolve(p);
        command_line::warn_of_secrets(p, std::env::args_os());
        let logs = self.logs.resolve(p);
        match verifier {
            Some(verifier) if problems.is_empty() => Ok((
                Settings {
                    listen,
                    admin_listen,
                    workers: workers.unwrap_or_else(half_the_processors),
                    verifier,
                    redis,
                    database,
                    posts,
                    limits,
                    surface,
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

    fn resolve(args: &[&str]) -> Result<Settings, Problems> {
        let args = std::iter::once("view-ingest").chain(args.iter().copied());
        Args::try_parse_from(args).unwrap().resolve().map(|(settings, _)| settings)
    }

    #[test]
    fn a_secret_is_all_that_must_be_given() {
        let settings = resolve(&["--jwt-secret", testkit::tokens::SECRET]).map_err(|problems| problems.all().join("\n")).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:3001");
        assert_eq!(settings.admin_listen.to_string(), "127.0.0.1:3003");
        assert_eq!(settings.redis.keys.ttl().seconds(), 86_400);
        assert_eq!(settings.limits.max_batch, 100);
        assert!(settings.limits.viewer_rate.is_none());
        assert!(settings.database.is_none());
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let wrong =
            ["--listen", "x", "--view-ttl", "y", "--redis-url", "z", "--database-url", "mysql://h", "--viewer-rate", "60"];
        let Err(problems) = resolve(&wrong) else { panic!("accepted") };
        assert_eq!(problems.all().len(), 6, "{:?}", problems.all());
    }

    #[test]
    fn every_setting_is_documented() {
        testkit::configuration::assert_documented(Args::command());
        testkit::manual::assert_current(Args::command());
    }
}
