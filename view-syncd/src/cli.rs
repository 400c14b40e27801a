//! The settings of view-syncd: flags, their environment variables, their defaults.

use std::{ffi::OsString, net::SocketAddr, process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser, Subcommand};
use views_auth::{Verifier, config::KeyArgs};
use views_core::{
    command_line::{self, parse_args},
    settings::{Problems, Setting},
};
use views_postgres::config::{DatabaseSettings, PostgresArgs, PostsArgs, PostsSettings};
use views_redis::config::{RedisArgs, RedisSettings};
use views_service::logs::{LogArgs, LogSettings};

pub mod adopt;
pub mod dead;
pub mod doctor;
pub mod explain;
pub mod forget;
pub mod migrate;
pub mod reconcile;
pub mod recount;
pub mod status;
pub mod warm;

/// A statement that takes longer than this is given up; the drain then tries with fewer pairs.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

const SECOND: Duration = Duration::from_secs(1);

/// Brings views from Redis into PostgreSQL. Without a command it is a daemon.
#[derive(Debug, Parser)]
#[command(name = "view-syncd", version, about)]
struct Args {
    #[command(subcommand)]
    command: Option<Subcommands>,
    /// Where operators find /livez, /readyz, /metrics and POST /posts/sync-views
    #[arg(long, env = "VIEW_SYNCD_ADMIN_LISTEN", default_value = "127.0.0.1:3002", value_name = "ADDRESS")]
    admin_listen: Setting,
    /// How often all posts in Redis are compared with PostgreSQL
    #[arg(long, env = "SYNC_INTERVAL", default_value = "5m", value_name = "TIME")]
    interval: Setting,
    /// How long views may wait for others to be stored together with them
    #[arg(long, env = "SYNC_LINGER", default_value = "1s", value_name = "TIME")]
    linger: Setting,
    /// How many views are stored together at most; each takes about 350 bytes of memory
    #[arg(long, env = "SYNC_BATCH_SIZE", default_value = "100000", value_name = "NUMBER")]
    batch_size: Setting,
    /// In a cluster, how many partitions one process drains side by side; each takes two connections to PostgreSQL
    #[arg(long, env = "SYNC_DRAINS", default_value = "2", value_name = "NUMBER")]
    drains: Setting,
    /// How long the last drain may take after SIGTERM
    #[arg(long, env = "SYNC_SHUTDOWN_TIMEOUT", default_value = "60s", value_name = "TIME")]
    shutdown_timeout: Setting,
    #[command(flatten)]
    warm_up: warm::WarmUpArgs,
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
    /// Create the ledger table and what else is missing beside the posts in PostgreSQL, and exit
    Migrate(migrate::Options),
    /// Compare Redis, the ledger, bases and counts, and exit. Exits 1 where they differ, or something is left
    Reconcile(reconcile::ReconcileArgs),
    /// Erase a viewer from Redis and the ledger and exit. Totals stay. Exits 1 where something is left, as posts are locked
    Forget(forget::ForgetArgs),
    /// Set each post's count to its base and the views that the ledger has, and exit. Exits 1 where locks are in the way
    Recount(recount::RecountArgs),
    /// Bring existing views into the ledger and exit. Repeating it changes nothing. Exits 1 where some are left, as posts are locked
    Adopt(adopt::AdoptArgs),
    /// Make this database the owner of the keys in Redis, whose they were before, and exit
    Claim,
    /// Show, offer again or remove the views that could not be stored
    #[command(subcommand)]
    Dead(dead::Action),
    /// Look whether everything is as it is needed, and say what to do where it is not. Changes nothing. Exits 1 where something fails
    Doctor(doctor::DoctorArgs),
    /// Tell what has become of a viewer's view of a post, and why. Changes nothing. Exits 1 where it does not count
    Explain(explain::ExplainArgs),
    /// Tell who leads, how far behind PostgreSQL is, and what could not be stored. Changes nothing. Exits 1 where something is not well
    Status(status::StatusArgs),
    /// Load the posts that are asked for most into Redis and exit
    Warm(warm::WarmArgs),
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Everything, for ever.
    Daemon(Box<DaemonSettings>),
    /// One cycle.
    Sync,
    /// Create what is missing beside the posts.
    Migrate(migrate::Options),
    /// Compare both stores.
    Reconcile(reconcile::Options),
    /// Erase a viewer.
    Forget(forget::Options),
    /// Set counts to what they are to be.
    Recount(recount::Options),
    /// Bring existing views in.
    Adopt(adopt::AdoptSettings),
    /// Become the owner of the keys.
    Claim,
    /// See to the views that could not be stored.
    Dead(dead::Action),
    /// Look at everything.
    Doctor(Box<doctor::DoctorSettings>),
    /// Tell what has become of a view.
    Explain(explain::ExplainSettings),
    /// Tell how everything is.
    Status(status::StatusSettings),
    /// Load posts into Redis.
    Warm(warm::WarmCommand),
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
    /// Which posts are loaded into Redis at the start.
    pub warm_up: warm::WarmSettings,
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
    /// How many partitions are drained side by side.
    pub drains: usize,
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
    let args: Args = parse_args(&command(), args)?;
    args.resolve().map_err(|problems| problems.report("view-syncd"))
}

/// Returns the command line. Every flag is global, so that it may stand before or behind the command.
fn command() -> clap::Command {
    Args::command().mut_args(|arg| arg.global(true))
}

impl Args {
    fn resolve(&self) -> Result<Settings, Problems> {
        let mut problems = Problems::default();
        let p = &mut problems;
        let linger = p.duration(&self.linger, Duration::ZERO);
        let batch_size = p.number(&self.batch_size, 1..=500_000);
        let drains = p.number(&self.drains, 1..=16);
        let mut command = self.resolve_command(p);
        let redis = self.redis.resolve(p);
        let work = WorkSettings { linger, batch_size, drains };
        let before = p.all().len();
        let database = self.postgres.resolve(STATEMENT_TIMEOUT, p);
        if database.is_none() && p.all().len() == before {
            p.add("--database-url", "is required (DATABASE_URL)");
        }
        let posts = self.posts.resolve(p);
        if matches!(command, Some(Command::Migrate(options)) if options.add_count_column) && posts.count_table.is_some() {
            p.add(
                "--add-count-column",
                "adds to the posts table, which is only read with --count-table (COUNT_TABLE): give only one of both",
            );
        }
        command_line::warn_of_secrets(p, std::env::args_os());
        if let Some(Command::Doctor(doctor)) = &mut command {
            // It tells them itself.
            doctor.warnings = p.take_warnings();
        }
        let logs = self.logs.resolve(p);
        match (command, database) {
            (Some(command), Some(database)) if problems.is_empty() => {
                let sync = SyncSettings { redis, database, posts, work };
                Ok(Settings { command, common: Common { sync, logs } })
            }
            _ => Err(problems),
        }
    }

    fn resolve_command(&self, p: &mut Problems) -> Option<Command> {
        // All are resolved whatever the command, so that a typing error in the daemon's settings shows with the first
        // command that is tried.
        let admin_listen = p.address(&self.admin_listen);
        let interval = p.duration(&self.interval, SECOND);
        let shutdown_timeout = p.duration(&self.shutdown_timeout, SECOND);
        let warm_up = self.warm_up.resolve(p);
        match &self.command {
            Some(Subcommands::Dead(action)) => Some(Command::Dead(action.clone())),
            Some(Subcommands::Doctor(args)) => Some(Command::Doctor(Box::new(args.resolve(&self.keys, p)))),
            Some(Subcommands::Explain(args)) => args.resolve(p).map(Command::Explain),
            Some(Subcommands::Status(args)) => Some(Command::Status(args.resolve(interval))),
            Some(Subcommands::Sync) => Some(Command::Sync),
            Some(Subcommands::Migrate(options)) => Some(Command::Migrate(*options)),
            Some(Subcommands::Reconcile(args)) => Some(Command::Reconcile(args.resolve(p))),
            Some(Subcommands::Forget(args)) => args.resolve(p).map(Command::Forget),
            Some(Subcommands::Recount(args)) => Some(Command::Recount(args.resolve(p))),
            Some(Subcommands::Adopt(args)) => args.resolve().map(Command::Adopt),
            Some(Subcommands::Claim) => Some(Command::Claim),
            Some(Subcommands::Warm(args)) => Some(Command::Warm(args.resolve(&warm_up, p))),
            None => {
                let verifier = self.keys.resolve(p)?;
                let daemon = DaemonSettings { admin_listen, interval, shutdown_timeout, warm_up, verifier };
                Some(Command::Daemon(Box::new(daemon)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    const DATABASE: &str = "postgres://u:hidden@db/app";

    fn resolve(args: &[&str]) -> Result<Settings, Problems> {
        let matches = command().get_matches_from(std::iter::once("view-syncd").chain(args.iter().copied()));
        Args::from_arg_matches(&matches).unwrap().resolve()
    }

    #[test]
    fn a_database_and_a_key_are_all_that_the_daemon_needs() {
        let (command, common) =
            resolve(&["--database-url", DATABASE, "--jwt-secret", "hidden-and-never-shown, 32 bytes or more"])
                .unwrap()
                .into_parts();
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
            assert!(resolve(&args).is_ok(), "{args:?}");
        }
    }

    #[test]
    fn a_flag_on_either_side_of_a_command_wins_over_the_default() {
        for (args, seconds) in [
            (vec!["sync", "--view-ttl", "2h"], 7_200),
            (vec!["--view-ttl", "2h", "sync"], 7_200),
            (vec!["--view-ttl", "2h", "dead", "list"], 7_200),
            (vec!["dead", "--view-ttl", "2h", "list"], 7_200),
            (vec!["sync", "--view-ttl", ""], 86_400),
            (vec!["sync"], 86_400),
        ] {
            let args = [args, vec!["--database-url", DATABASE]].concat();
            let (_, common) = resolve(&args).unwrap().into_parts();
            assert_eq!(common.sync.redis.keys.ttl().seconds(), seconds, "{args:?}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let problems =
            resolve(&["--interval", "soon", "--batch-size", "0", "--redis-url", "x", "--log-format", "xml"]).unwrap_err();
        let all = problems.all().join("\n");
        for name in ["--interval", "--batch-size", "--redis-url", "--database-url", "--jwt-secret", "--log-format"] {
            assert!(all.contains(name), "{name} is missing in\n{all}");
        }
    }

    #[test]
    fn every_command_has_a_section() {
        const DOCUMENT: &str = include_str!("../../docs/commands.md");
        for command in command().get_subcommands() {
            let name = command.get_name();
            assert!(DOCUMENT.contains(&format!("\n## {name}\n")), "docs/commands.md has no section {name}");
        }
    }

    #[test]
    fn every_setting_is_documented() {
        testkit::configuration::assert_documented(command());
        testkit::manual::assert_current(Args::command());
    }
}
