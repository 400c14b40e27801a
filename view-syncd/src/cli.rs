//! The settings of view-syncd: flags, their environment variables, their defaults.

use std::{ffi::OsString, net::SocketAddr, process::ExitCode, time::Duration};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use views_auth::{Verifier, config::KeyArgs};
use views_core::settings::{EXIT_USAGE, Problems};
use views_postgres::config::{DatabaseSettings, PostgresArgs, PostsArgs, PostsSettings};
use views_redis::config::{RedisArgs, RedisSettings};
use views_service::logs::{LogArgs, LogSettings};

pub mod dead;

/// A statement that takes longer than this is given up; the drain then tries with fewer pairs.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

const DAY: Duration = Duration::from_secs(24 * 3600);
const SECOND: Duration = Duration::from_secs(1);

/// Brings views from Redis into PostgreSQL. Without a command it is a daemon.
#[derive(Debug, Parser)]
#[command(name = "view-syncd", version, about)]
struct Args {
    #[command(subcommand)]
    command: Option<Subcommands>,
    /// Where operators find /livez, /readyz, /metrics and POST /posts/sync-views [default: 127.0.0.1:3002]
    #[arg(long, env = "VIEW_SYNCD_ADMIN_LISTEN", value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// How often all posts in Redis are compared with PostgreSQL [default: 5m]
    #[arg(long, env = "SYNC_INTERVAL", value_name = "TIME")]
    interval: Option<String>,
    /// How long views may wait for others to be stored together with them [default: 1s]
    #[arg(long, env = "SYNC_LINGER", value_name = "TIME")]
    linger: Option<String>,
    /// How many views are stored together at most [default: 100000]
    #[arg(long, env = "SYNC_BATCH_SIZE", value_name = "NUMBER")]
    batch_size: Option<String>,
    /// How long the last drain may take after SIGTERM [default: 60s]
    #[arg(long, env = "SYNC_SHUTDOWN_TIMEOUT", value_name = "TIME")]
    shutdown_timeout: Option<String>,
    /// How long Redis keeps a post that nobody views [default: 24h]
    #[arg(long, env = "VIEW_TTL", value_name = "TIME")]
    view_ttl: Option<String>,
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

#[derive(Debug, Clone, Subcommand)]
enum Subcommands {
    /// Run one full synchronization and exit
    Sync,
    /// Create the ledger table in PostgreSQL and exit
    Migrate,
    /// Make this database the owner of the keys in Redis, whose they were before, and exit
    Claim,
    /// Show, offer again or remove the views that could not be stored
    #[command(subcommand)]
    Dead(dead::Action),
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Everything, for ever.
    Daemon(Box<DaemonSettings>),
    /// One cycle.
    Sync,
    /// Create the ledger.
    Migrate,
    /// Become the owner of the keys.
    Claim,
    /// See to the views that could not be stored.
    Dead(dead::Action),
}

/// What only the daemon needs.
#[derive(Debug)]
pub struct DaemonSettings {
    /// Where operators are listened to.
    pub admin_listen: SocketAddr,
    /// How often there is a cycle.
    pub interval: Duration,
    /// How long the last drain may take.
    pub shutdown_timeout: Duration,
    /// Who may ask for a cycle.
    pub verifier: Verifier,
}

/// What every command needs.
#[derive(Debug)]
pub struct SyncSettings {
    /// Redis.
    pub redis: RedisSettings,
    /// PostgreSQL.
    pub database: DatabaseSettings,
    /// The application's posts.
    pub posts: PostsSettings,
    /// How the work is done.
    pub work: WorkSettings,
}

/// How the work is done.
#[derive(Debug, Clone, Copy)]
pub struct WorkSettings {
    /// How long pairs wait for company.
    pub linger: Duration,
    /// How many pairs are gathered at most, but for the rest of a page.
    pub batch_size: usize,
    /// How long Redis keeps a post that nobody views.
    pub view_ttl: Duration,
}

/// All settings, checked.
#[derive(Debug)]
pub struct Settings {
    command: Command,
    common: Common,
}

/// The settings beside the command.
#[derive(Debug)]
pub struct Common {
    /// For the work.
    pub sync: SyncSettings,
    /// For the log.
    pub logs: LogSettings,
}

impl Settings {
    /// Takes them apart.
    #[must_use]
    pub fn into_parts(self) -> (Command, Common) {
        (self.command, self.common)
    }
}

/// Reads the command line and the environment.
///
/// # Errors
/// The exit status to end with, after the help text or everything that is wrong has been printed.
pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Settings, ExitCode> {
    let matches = command().try_get_matches_from(args);
    let args = matches.and_then(|matches| Args::from_arg_matches(&matches)).map_err(|error| {
        // Nothing is left to do when standard output is closed.
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
    })?;
    args.check().map_err(|problems| problems.report("view-syncd"))
}

/// The command line. Every flag is global, so that it may stand before or behind the command.
fn command() -> clap::Command {
    Args::command().mut_args(|arg| arg.global(true))
}

impl Args {
    fn check(&self) -> Result<Settings, Problems> {
        let mut problems = Problems::default();
        let p = &mut problems;
        let work = WorkSettings {
            linger: p.duration("--linger", self.linger.as_deref(), SECOND, Duration::ZERO),
            batch_size: p.number("--batch-size", self.batch_size.as_deref(), 100_000, 1..=500_000),
            view_ttl: p.duration("--view-ttl", self.view_ttl.as_deref(), DAY, SECOND),
        };
        let command = self.read_command(p);
        let redis = self.redis.read(p);
        let before = p.all().len();
        let database = self.postgres.read(STATEMENT_TIMEOUT, p);
        if database.is_none() && p.all().len() == before {
            p.add("--database-url", "is required (DATABASE_URL)");
        }
        let posts = self.posts.read(p);
        let logs = self.logs.read(p);
        match (command, database) {
            (Some(command), Some(database)) if problems.is_empty() => {
                let sync = SyncSettings { redis, database, posts, work };
                Ok(Settings { command, common: Common { sync, logs } })
            }
            _ => Err(problems),
        }
    }

    fn read_command(&self, p: &mut Problems) -> Option<Command> {
        // All are read whatever the command, so that a typing error in the daemon's settings shows with the first command that is tried.
        let admin_listen = p.address("--admin-listen", self.admin_listen.as_deref(), "127.0.0.1:3002");
        let interval = p.duration("--interval", self.interval.as_deref(), 300 * SECOND, SECOND);
        let shutdown_timeout = p.duration("--shutdown-timeout", self.shutdown_timeout.as_deref(), 60 * SECOND, SECOND);
        match &self.command {
            Some(Subcommands::Dead(action)) => Some(Command::Dead(action.clone())),
            Some(Subcommands::Sync) => Some(Command::Sync),
            Some(Subcommands::Migrate) => Some(Command::Migrate),
            Some(Subcommands::Claim) => Some(Command::Claim),
            None => {
                let verifier = self.keys.read(p)?;
                let daemon = DaemonSettings { admin_listen, interval, shutdown_timeout, verifier };
                Some(Command::Daemon(Box::new(daemon)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: &str = "postgres://u:hidden@db/app";

    fn check(args: &[&str]) -> Result<Settings, Problems> {
        let matches = command().get_matches_from(std::iter::once("view-syncd").chain(args.iter().copied()));
        Args::from_arg_matches(&matches).unwrap().check()
    }

    #[test]
    fn a_database_and_a_key_are_all_that_the_daemon_needs() {
        let (command, common) = check(&["--database-url", DATABASE, "--jwt-secret", &"hidden".repeat(6)]).unwrap().into_parts();
        let Command::Daemon(daemon) = &command else { panic!("{command:?}") };
        assert_eq!(daemon.interval, Duration::from_secs(300));
        assert_eq!(daemon.admin_listen.to_string(), "127.0.0.1:3002");
        assert_eq!(common.sync.work.batch_size, 100_000);
        assert!(!format!("{command:?} {common:?}").contains("hidden"));
    }

    #[test]
    fn the_commands_need_no_key_and_take_flags_on_either_side() {
        for args in
            [["sync", "--database-url", DATABASE], ["--database-url", DATABASE, "migrate"], ["claim", "--database-url", DATABASE]]
        {
            assert!(check(&args).is_ok(), "{args:?}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let problems =
            check(&["--interval", "soon", "--batch-size", "0", "--redis-url", "x", "--log-format", "xml"]).unwrap_err();
        let all = problems.all().join("\n");
        for name in ["--interval", "--batch-size", "--redis-url", "--database-url", "--jwt-secret", "--log-format"] {
            assert!(all.contains(name), "{name} is missing in\n{all}");
        }
    }
}
