//! Where Redis is: a URL, or the origin document's host, port, password and database.

use clap::Args;
use fred::types::config::{Config, ServerConfig};
use views_core::keys::Keys;
use views_core::settings::{Problems, given};

use crate::unprotected;

/// The flags of Redis.
#[derive(Clone, Default, Args)]
#[command(next_help_heading = "Redis")]
pub struct RedisArgs {
    /// redis://, rediss:// (TLS) or redis-sentinel://, with user, password and database [default: redis://localhost:6379/0]
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    redis_url: Option<String>,
    /// A file with that URL, where its password should not stand in the environment
    #[arg(long, env = "REDIS_URL_FILE", value_name = "FILE")]
    redis_url_file: Option<String>,
    /// The host, where no URL is given
    #[arg(long, env = "REDIS_HOST", value_name = "HOST")]
    redis_host: Option<String>,
    /// The port, where no URL is given [default: 6379]
    #[arg(long, env = "REDIS_PORT", value_name = "PORT")]
    redis_port: Option<String>,
    /// The password, where no URL is given; better through the environment
    #[arg(long, env = "REDIS_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    redis_password: Option<String>,
    /// The database's number, where no URL is given [default: 0]
    #[arg(long, env = "REDIS_DB", value_name = "NUMBER")]
    redis_db: Option<String>,
    /// What every key and channel begins with, where several installations share one database of Redis [default: empty]
    #[arg(long, env = "REDIS_PREFIX", value_name = "PREFIX")]
    redis_prefix: Option<String>,
    /// Put up with a Redis that may evict views that are not in PostgreSQL yet (maxmemory-policy allkeys-*) [default: false]
    #[arg(long, env = "ALLOW_EVICTION", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    allow_eviction: Option<String>,
}

impl std::fmt::Debug for RedisArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisArgs").finish_non_exhaustive()
    }
}

/// Where Redis is, without its secrets when shown.
#[derive(Clone)]
pub struct RedisSettings {
    /// How the client library reaches it.
    pub config: Config,
    /// The names of this installation's keys.
    pub keys: Keys,
    /// Whether a Redis that may evict the outbox is good enough.
    pub allow_eviction: bool,
}

impl std::fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisSettings").field("server", &self.describe()).finish_non_exhaustive()
    }
}

impl RedisSettings {
    /// The server's address for logs, without user or password.
    #[must_use]
    pub fn describe(&self) -> String {
        let hosts: Vec<_> = self.config.server.hosts().iter().map(ToString::to_string).collect();
        let tls = if self.config.tls.is_some() { "s" } else { "" };
        let (sentinels, service) = match &self.config.server {
            ServerConfig::Sentinel { service_name, .. } => ("-sentinel", format!("?sentinelServiceName={service_name}")),
            _ => ("", String::new()),
        };
        format!("redis{tls}{sentinels}://{}/{}{service}", hosts.join(","), self.config.database.unwrap_or(0))
    }
}

impl RedisArgs {
    /// Reads the flags and notes what is wrong with them.
    pub fn read(&self, problems: &mut Problems) -> RedisSettings {
        let file = ("--redis-url-file", self.redis_url_file.as_deref());
        let before = problems.all().len();
        let (name, config) = match problems.text_or_file(("--redis-url", self.redis_url.as_deref()), file) {
            Some((name, url)) => (name, from_url(name, &url, problems)),
            // A file that cannot be read stands for a URL all the same, and the parts are not asked.
            None if problems.all().len() > before => (file.0, Config::default()),
            None => ("REDIS_HOST", self.parts(problems)),
        };
        if let Some(warning) = unprotected::redis(name, &config) {
            problems.warn(warning);
        }
        let keys = Keys::with_prefix(given(self.redis_prefix.as_deref()).unwrap_or_default()).unwrap_or_else(|error| {
            problems.add("--redis-prefix", error);
            Keys::default()
        });
        let allow_eviction = problems.switch("--allow-eviction", self.allow_eviction.as_deref());
        RedisSettings { config, keys, allow_eviction }
    }

    fn parts(&self, problems: &mut Problems) -> Config {
        let host = given(self.redis_host.as_deref()).unwrap_or("localhost");
        let port: u16 = problems.parse("REDIS_PORT", self.redis_port.as_deref(), 6379);
        let database: u8 = problems.parse("REDIS_DB", self.redis_db.as_deref(), 0);
        if host.contains(['/', '@', ' ']) {
            // What is not a host is probably a URL, and that may hold a password.
            problems.add("REDIS_HOST", "is not a host name; a URL goes into REDIS_URL");
        }
        Config {
            server: ServerConfig::new_centralized(host, port),
            // A password may hold any character, so it does not pass through a URL.
            password: self.redis_password.clone().filter(|password| !password.is_empty()),
            database: Some(database),
            ..Config::default()
        }
    }
}

/// Reads a URL. What is wrong with it is told without repeating it: it may hold a password.
fn from_url(name: &str, url: &str, problems: &mut Problems) -> Config {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    if !matches!(scheme, "redis" | "rediss" | "redis-sentinel" | "rediss-sentinel") {
        problems.add(name, "must begin with redis://, rediss:// or redis-sentinel://");
        return Config::default();
    }
    if scheme.ends_with("-sentinel") && !url.contains("sentinelServiceName=") {
        problems.add(name, "needs the name under which the sentinels know the primary: ?sentinelServiceName=NAME at its end");
        return Config::default();
    }
    if has_loose_sign(url) {
        problems.add(name, "has an @ behind its host: in a password, write %40 for @, %2F for /, %3F for ? and %23 for #");
        return Config::default();
    }
    match Config::from_url(url) {
        Ok(config) => config,
        Err(error) => {
            // The library's details may quote the URL; its kind of error does not.
            problems.add(name, format_args!("is not a Redis URL such as redis://user:password@host:6379/0 ({:?})", error.kind()));
            Config::default()
        }
    }
}

/// Whether a part of the password would be taken for something else, because a sign in it ends the part of a URL that it stands in.
fn has_loose_sign(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    // Passwords of sentinels stand in the query, behind their names.
    let first_name = query.split('=').next().unwrap_or_default();
    let path = place.split_once('/').map_or("", |(_, path)| path);
    rest.contains('#') || path.contains('@') || first_name.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &RedisArgs) -> Result<RedisSettings, Problems> {
        let mut problems = Problems::default();
        let settings = args.read(&mut problems);
        problems.into_result(settings)
    }

    #[test]
    fn without_any_setting_it_is_the_local_server() {
        assert_eq!(read(&RedisArgs::default()).unwrap().describe(), "redis://localhost:6379/0");
    }

    #[test]
    fn the_origin_documents_four_variables_are_understood() {
        let args = RedisArgs {
            redis_host: Some("cache".into()),
            redis_port: Some("6380".into()),
            redis_password: Some("p@ss/:#".into()),
            redis_db: Some("3".into()),
            ..RedisArgs::default()
        };
        let settings = read(&args).unwrap();
        assert_eq!(settings.describe(), "redis://cache:6380/3");
        assert_eq!(settings.config.password.as_deref(), Some("p@ss/:#"));
    }

    #[test]
    fn an_empty_password_is_none_as_in_the_origin_documents_example() {
        let args = RedisArgs { redis_password: Some(String::new()), ..RedisArgs::default() };
        assert_eq!(read(&args).unwrap().config.password, None);
    }

    #[test]
    fn a_url_wins_over_the_parts_and_keeps_its_secrets() {
        let args = RedisArgs {
            redis_url: Some("rediss://app:hidden@cache.example:6390/2".into()),
            redis_host: Some("elsewhere".into()),
            ..RedisArgs::default()
        };
        let settings = read(&args).unwrap();
        assert_eq!(settings.describe(), "rediss://cache.example:6390/2");
        assert!(settings.config.tls.is_some());
        assert!(!format!("{settings:?}").contains("hidden"));
    }

    #[test]
    fn a_prefix_that_no_key_can_begin_with_is_told_with_all_else_that_is_wrong() {
        let with = |prefix: &str| RedisArgs { redis_prefix: Some(prefix.into()), ..RedisArgs::default() };
        assert_eq!(read(&with("shop:")).unwrap().keys.outbox(), "shop:views:outbox");
        assert_eq!(read(&with("")).unwrap().keys.outbox(), "views:outbox");
        let args = RedisArgs { redis_url: Some("hidden".into()), ..with("{shop}:") };
        let problems = read(&args).unwrap_err();
        assert_eq!(problems.all().len(), 2, "{problems:?}");
        assert!(problems.all().iter().any(|problem| problem.starts_with("--redis-prefix: ")), "{problems:?}");
    }

    #[test]
    fn sentinels_are_named_with_their_service() {
        let url = "rediss-sentinel://app:hidden@one/2?node=two:26380&sentinelServiceName=views&sentinelPassword=secret";
        let settings = read(&RedisArgs { redis_url: Some(url.into()), ..RedisArgs::default() }).unwrap();
        assert_eq!(settings.describe(), "rediss-sentinel://two:26380,one:26379/2?sentinelServiceName=views");
        let ServerConfig::Sentinel { password, .. } = &settings.config.server else { panic!("{settings:?}") };
        assert_eq!((settings.config.password.as_deref(), password.as_deref()), (Some("hidden"), Some("secret")));
    }

    #[test]
    fn sentinels_without_a_service_are_refused_with_what_is_missing() {
        let args = RedisArgs { redis_url: Some("redis-sentinel://:hidden@one".into()), ..RedisArgs::default() };
        let problems = format!("{:?}", read(&args).unwrap_err().all());
        assert!(problems.contains("sentinelServiceName=NAME") && !problems.contains("hidden"), "{problems}");
    }

    #[test]
    fn a_sign_in_the_password_is_told_without_what_is_around_it() {
        for url in [
            "redis://u:12/hidden@cache/0",
            "redis://u:12?hidden@cache/0",
            "redis://u:12#hidden@cache/0",
            "redis://:hidden#1@cache/0",
            "redis://hidden/hidden@cache:6379/0",
            "redis-sentinel://u:12/hidden@one/0?sentinelServiceName=views",
        ] {
            let problems = read(&RedisArgs { redis_url: Some(url.into()), ..RedisArgs::default() }).unwrap_err();
            let text = problems.all().join("\n");
            assert!(text.contains("%2F") && !text.contains("hidden") && !text.contains("12"), "{url}: {text}");
        }
        for (url, host) in [
            ("redis://u:pa@ss@cache/0", "redis://cache:6379/0"),
            (
                "redis-sentinel://one/0?sentinelServiceName=views&sentinelPassword=a@b",
                "redis-sentinel://one:26379/0?sentinelServiceName=views",
            ),
        ] {
            let settings = read(&RedisArgs { redis_url: Some(url.into()), ..RedisArgs::default() }).unwrap();
            assert_eq!(settings.describe(), host);
        }
    }

    #[test]
    fn a_wrong_url_is_refused_without_repeating_it() {
        for url in ["http://:hidden@host", "redis://:hidden@host:port/0", "hidden"] {
            let args = RedisArgs { redis_url: Some(url.into()), ..RedisArgs::default() };
            let problems = read(&args).unwrap_err();
            assert!(!format!("{:?}", problems.all()).contains("hidden"), "{:?}", problems.all());
        }
    }
}
