//! Where PostgreSQL is, and which of its tables and columns hold the posts.

mod posts;

use std::time::Duration;

use clap::Args;
use tokio_postgres::config::{Config, Host};
use views_core::{
    settings::{Problems, Setting},
    store_urls,
    tls::{self, Trust},
};

pub use self::posts::{PostsArgs, PostsSettings};
use crate::{
    options::{self, Adapted},
    unprotected,
};

/// The flags of PostgreSQL.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "PostgreSQL")]
pub struct PostgresArgs {
    /// postgres://user:password@host:5432/name, with sslmode=disable, prefer, require, verify-ca or verify-full
    ///
    /// It is required for view-syncd. Without it, view-ingest cannot tell authors and unknown posts, and leaves both to
    /// view-syncd.
    ///
    /// `sslmode=prefer` is the default, `require` encrypts without a look at the certificate, as libpq does, and
    /// `verify-full` checks it against the platform's roots; `verify-ca` is treated alike. The variable SSL_CERT_FILE
    /// names other roots, for Redis too. At the start both programs warn of a server on another machine that is not
    /// checked, and of a password of Redis that goes there without TLS.
    ///
    /// A URL of another driver works as it is (`jdbc:postgresql:`, `postgresql+psycopg2:`), and so do the parameters of
    /// Prisma, poolers and hosters (`?schema=…&connection_limit=…`). `ssl=true` alone checks the certificate, `sslrootcert`
    /// names the file with its root, or `system`, and `sslmode=no-verify` is `require`. Of several
    /// that speak of TLS, the safest counts. What asks for anything that there is not, such as `sslcert`, is refused by
    /// its name.
    ///
    /// Behind PgBouncer in transaction
    /// mode, set its `ignore_startup_parameters = options` and `max_prepared_statements`. The daemon view-syncd needs a
    /// pooler in session mode, or none.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<Setting>,
    /// A file with that URL, where its password should not stand in the environment
    #[arg(long, env = "DATABASE_URL_FILE", value_name = "FILE")]
    database_url_file: Option<Setting>,
}

/// Where PostgreSQL is.
#[derive(Clone)]
pub struct DatabaseSettings {
    /// How the client library reaches it.
    pub config: Config,
    /// Whose certificate the server has to show.
    pub trust: Trust,
}

impl std::fmt::Debug for DatabaseSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The library's own Debug redacts the password.
        f.debug_struct("DatabaseSettings").field("config", &self.config).field("trust", &self.trust).finish()
    }
}

impl DatabaseSettings {
    /// Returns the servers and the database for people, without user or password.
    #[must_use]
    pub fn describe(&self) -> String {
        let ports = self.config.get_ports();
        let port = |place: usize| ports.get(place).or(ports.last()).copied().unwrap_or(5432);
        let server = |(place, host): (usize, &Host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(place)),
            Host::Unix(folder) => folder.display().to_string(),
        };
        let servers: Vec<String> = self.config.get_hosts().iter().enumerate().map(server).collect();
        format!("postgres://{}/{}", servers.join(","), self.config.get_dbname().unwrap_or_default())
    }
}

impl PostgresArgs {
    /// Returns the settings and notes what is wrong with them; `None` where no database is named.
    ///
    /// A statement that the server works on for longer than `statement_timeout` is given up by the server.
    pub fn resolve(&self, statement_timeout: Duration, problems: &mut Problems) -> Option<DatabaseSettings> {
        let (name, url) = problems.text_or_file(self.database_url.as_ref(), self.database_url_file.as_ref())?;
        if has_loose_at(&url) {
            problems.add(name, LOOSE_AT);
            return None;
        }
        let Adapted { text, ssl_mode, trust, server_options } =
            options::adapt(&url).map_err(|why| problems.add(name, why)).ok()?;
        if let Trust::File(path) = &trust
            && let Err(error) = tls::client_config(&trust)
        {
            problems.add(name, format_args!("sslrootcert: {} cannot be used: {error}", path.display()));
            return None;
        }
        let mut config: Config = match text.parse() {
            Ok(config) => config,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                // The library repeats an option's name. That is a part of the password where the password holds a
                // question mark, and the whole of it where the URL is of another kind of database.
                let why = if why.starts_with("unknown option") { "it has an unknown option" } else { &why };
                problems.add(name, format_args!("is not a URL such as postgres://user:password@host:5432/name ({why})"));
                return None;
            }
        };
        if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
            problems.add(name, LOOSE_AT);
            return None;
        }
        if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if !store_urls::may_be_host(name))) {
            problems.add(name, store_urls::NO_HOST);
            return None;
        }
        config.ssl_mode(ssl_mode);
        let mut all_options = config.get_options().unwrap_or_default().to_owned();
        all_options.push_str(&server_options);
        all_options.push_str(&format!(" -c statement_timeout={}", statement_timeout.as_millis()));
        config.options(all_options.trim_start());
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.keepalives_idle(KEEPALIVE_IDLE);
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(TCP_USER_TIMEOUT);
        }
        if config.get_hosts().is_empty() {
            problems.add(name, "names no host");
        }
        if trust == Trust::Anybody
            && let Some(warning) = unprotected::postgres(name, &config)
        {
            problems.warn(warning);
        }
        Some(DatabaseSettings { config, trust })
    }
}

/// What is said where a part of the password may be anything else.
const LOOSE_AT: &str = "has an @ too many, which a host cannot have: in the user's name or the password, write %40 for it";
/// A server that takes longer than this to accept a connection counts as away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// An idle connection is probed after this time, where the system's default is two hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// A connection whose sent bytes nobody acknowledges for this long is dead.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns whether it is a URL, and not libpq's words, whose values may hold a URL.
fn is_url(text: &str) -> bool {
    // Those of other kinds are refused in any case.
    text.split_once("://").is_some_and(|(scheme, _)| !scheme.contains(['=', ' ']))
}

/// Returns whether a part of the password would be taken for the host's name: the library looks for the first `@`.
fn has_loose_at(url: &str) -> bool {
    is_url(url) && url.split('?').next().is_some_and(|base| base.matches('@').count() > 1)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tokio_postgres::config::SslMode;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        postgres: PostgresArgs,
    }

    fn read(url: &str) -> Result<DatabaseSettings, Problems> {
        let mut problems = Problems::default();
        let cli = Cli::parse_from(["test", "--database-url", url]);
        let settings = cli.postgres.resolve(Duration::from_secs(7), &mut problems);
        problems.into_result(()).map(|()| settings.unwrap())
    }

    #[test]
    fn only_the_verifying_modes_look_at_the_certificate() {
        for (mode, expected, verify) in [
            ("disable", SslMode::Disable, false),
            ("prefer", SslMode::Prefer, false),
            ("require", SslMode::Require, false),
            ("verify-full", SslMode::Require, true),
        ] {
            let url = read(&format!("postgres://u:p@db.example/app?sslmode={mode}")).unwrap();
            let words = read(&format!("host=db.example user=u sslmode={mode} dbname=app")).unwrap();
            for settings in [url, words] {
                let is_verified = settings.trust == Trust::Platform;
                assert_eq!((settings.config.get_ssl_mode(), is_verified), (expected, verify), "{mode}");
                assert_eq!(settings.config.get_dbname(), Some("app"));
            }
        }
        assert!(read("postgres://db/app?sslmode=sometimes").is_err());
    }

    #[test]
    fn the_mode_is_found_wherever_libpq_finds_it() {
        for text in [
            "host = db.example user = u sslmode = require dbname = app",
            "application_name='x://y' sslmode=require host=db.example dbname=app",
            "sslmode='require' host=db.example dbname=app password='a  b sslmode=disable'",
            "host=db.example\tdbname=app\tsslmode=require",
            "sslmode=disable sslmode=require host=db.example dbname=app",
        ] {
            let settings = read(text).unwrap();
            assert_eq!(settings.config.get_ssl_mode(), SslMode::Require, "{text}");
            assert_eq!(settings.config.get_dbname(), Some("app"), "{text}");
        }
        let spaced = read("host=db password='a  b' sslmode=verify-full").unwrap();
        assert_eq!((spaced.config.get_password(), spaced.trust), (Some(&b"a  b"[..]), Trust::Platform));
        assert!(read("host=db sslmode = sometimes").is_err());
    }

    #[test]
    fn an_at_in_the_password_is_told_without_what_follows_it() {
        for url in [
            "postgres://u:pa@hidden-tail@db/app",
            "postgres://u:pa@hidden/tail@db/app",
            "postgresql://me@hidden:pw@db:5432/app?sslmode=require",
            "postgres://u:pa@hidden-tail@db,db2/app",
            "postgres://u:pw@db/app?host=hidden@db",
            "host=hidden@db user=u",
        ] {
            let problems = read(url).unwrap_err();
            let text = problems.all().join("\n");
            assert!(problems.all().len() == 1 && text.contains("%40") && !text.contains("hidden"), "{text}");
        }
        let settings = read("postgres://me%40here:pa%40word@db/app").unwrap();
        assert_eq!((settings.config.get_user(), settings.config.get_password()), (Some("me@here"), Some(&b"pa@word"[..])));
    }

    #[test]
    fn a_list_of_settings_is_no_host_and_is_not_repeated() {
        for text in [
            "host=db;port=5432;user=u;password=hidden;sslmode=require",
            "host=db;password=hidden user=u",
            "postgres://u:hidden@db;sslmode=require/app",
            "postgres://db;password=hidden/app",
        ] {
            let problems = read(text).unwrap_err();
            let text = problems.all().join("\n");
            assert!(problems.all().len() == 1 && text.contains("no host") && !text.contains("hidden"), "{text}");
        }
        assert!(read("host=db,db2 port=1,2 user=u").is_ok());
    }

    #[test]
    fn what_is_more_than_a_line_is_refused_without_repeating_it() {
        for (url, why) in [
            ("postgres://u:hidden@db/app\npostgres://u:hidden@db2/app", "more than one line"),
            ("postgres://u:hid\u{7}den@db/app", "control characters"),
        ] {
            let text = read(url).unwrap_err().all().join("\n");
            assert!(text.contains(why) && !text.contains("hid"), "{text}");
        }
    }

    #[test]
    fn a_prisma_url_is_understood() {
        let settings = read("postgresql://u:p@db:5433/app?schema=blog&connection_limit=5&pgbouncer=true").unwrap();
        assert_eq!(settings.config.get_options(), Some("-c search_path=\"blog\" -c statement_timeout=7000"));
        assert_eq!(settings.config.get_ports(), [5433]);
        assert_eq!(settings.describe(), "postgres://db:5433/app");
    }

    #[test]
    fn a_wrong_url_is_refused_without_repeating_the_password() {
        for url in ["postgres://u:hidden@db:port/app", "postgres://u:hidden@db/app?hidden=1&x=2", "mysql://u:hidden@db", "hidden"]
        {
            let problems = read(url).unwrap_err();
            assert!(!format!("{:?}", problems.all()).contains("u:hidden"), "{:?}", problems.all());
        }
        assert!(!format!("{:?}", read("postgres://u:hidden@db/app").unwrap()).contains("hidden"));
    }
}
