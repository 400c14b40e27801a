//! Where Redis is: a URL, or the origin document's host, port, password and database.

use clap::Args;
use fred::types::config::{Config, ServerConfig};
use views_core::{
    keys::Keys,
    settings::{Problems, Setting},
    store_urls,
    tls::{self, Trust},
    ttl::Ttl,
};

use crate::{
    options::{self, Adapted},
    unprotected,
};

/// The flags of Redis.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Redis")]
pub struct RedisArgs {
    /// redis://, rediss:// (TLS), redis-sentinel:// or redis-cluster://, with user, password and database [default:
    /// redis://localhost:6379/0]
    ///
    /// With Sentinel it is `redis-sentinel://user:password@one:26379/0?node=two:26379&sentinelServiceName=NAME`: NAME
    /// is the name under which the sentinels `one` and `two` monitor the primary. User and password are Redis's; those
    /// of the sentinels, where they demand any, are `sentinelUsername` and `sentinelPassword`. `rediss-sentinel://` is
    /// TLS. Without a URL, host, port, password and database count.
    ///
    /// A Redis Cluster is `redis-cluster://user:password@one:6379?node=two:6379`, with any of its nodes; it is asked for
    /// the others. `rediss-cluster://` is TLS.
    ///
    /// A URL of another client works as it is: parameters of pools and deadlines are passed over. TLS's certificate is
    /// checked against the platform's roots or the file that `ssl_ca_certs` names; `ssl_cert_reqs=none` looks at none,
    /// with a warning. What asks for anything that there is not, such as `ssl_certfile`, is refused by its name.
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    redis_url: Option<Setting>,
    /// Another name of that URL
    #[arg(
        long, env = "REDIS_URI", hide_env_values = true, value_name = "URL",
        value_parser = Setting::named_by_variable()
    )]
    redis_uri: Option<Setting>,
    /// A file with that URL, where its password should not stand in the environment
    #[arg(long, env = "REDIS_URL_FILE", value_name = "FILE")]
    redis_url_file: Option<Setting>,
    // Who mistakes it for the URL puts a password into it.
    /// The host, where no URL is given
    #[arg(
        long, env = "REDIS_HOST", hide_env_values = true, default_value = "localhost", value_name = "HOST",
        value_parser = Setting::named_by_variable()
    )]
    redis_host: Setting,
    /// The port, where no URL is given
    #[arg(
        long, env = "REDIS_PORT", default_value = "6379", value_name = "PORT",
        value_parser = Setting::named_by_variable()
    )]
    redis_port: Setting,
    /// The password, where no URL is given; better through the environment
    #[arg(long, env = "REDIS_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    redis_password: Option<Setting>,
    /// The database's number, where no URL is given
    #[arg(
        long, env = "REDIS_DB", default_value = "0", value_name = "NUMBER",
        value_parser = Setting::named_by_variable()
    )]
    redis_db: Setting,
    /// What every key and channel begins with, where several installations share one database of Redis [default: empty]
    ///
    /// At most 64 characters of `[A-Za-z0-9_.:/-]`, such as `shop:`. It has to be the same for view-ingest and view-syncd.
    #[arg(long, env = "REDIS_PREFIX", value_name = "PREFIX")]
    redis_prefix: Option<Setting>,
    /// How long Redis keeps a post that nobody views
    ///
    /// Both programs set it, so give them the same. What is not in PostgreSQL yet is kept without such a limit.
    #[arg(long, env = "VIEW_TTL", default_value = "24h", value_name = "TIME")]
    view_ttl: Setting,
    /// Put up with a Redis that may evict views that are not in PostgreSQL yet (maxmemory-policy allkeys-*)
    #[arg(
        long, env = "ALLOW_EVICTION", default_value = "false", value_name = "BOOL",
        num_args = 0..=1, default_missing_value = "true"
    )]
    allow_eviction: Setting,
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
    /// Returns the server's address for logs, without user or password.
    #[must_use]
    pub fn describe(&self) -> String {
        let hosts: Vec<_> = self.config.server.hosts().iter().map(ToString::to_string).collect();
        let tls = if self.config.tls.is_some() { "s" } else { "" };
        let (kind, end) = match &self.config.server {
            ServerConfig::Sentinel { service_name, .. } => {
                ("-sentinel", format!("/{}?sentinelServiceName={service_name}", self.config.database.unwrap_or(0)))
            }
            ServerConfig::Clustered { .. } => ("-cluster", String::new()),
            ServerConfig::Centralized { .. } => ("", format!("/{}", self.config.database.unwrap_or(0))),
        };
        format!("redis{tls}{kind}://{}{end}", hosts.join(","))
    }
}

impl RedisArgs {
    /// Returns the settings and notes what is wrong with them.
    pub fn resolve(&self, problems: &mut Problems) -> RedisSettings {
        let before = problems.all().len();
        let url = self.url(problems);
        let (name, config, trust) = match problems.text_or_file(url, self.redis_url_file.as_ref()) {
            Some((name, url)) => {
                let (config, trust) = from_url(&url).unwrap_or_else(|why| {
                    problems.add(name, why);
                    (Config::default(), Trust::Platform)
                });
                (name, config, trust)
            }
            // A file that cannot be read stands for a URL all the same, and the parts are not asked.
            None if problems.all().len() > before => ("", Config::default(), Trust::Platform),
            None => (self.redis_host.name(), self.parts(problems), Trust::Platform),
        };
        if let Some(warning) = unprotected::redis(name, &config, &trust) {
            problems.warn(warning);
        }
        let keys = problems.optional(self.redis_prefix.as_ref(), Keys::with_prefix).unwrap_or_default();
        let keys = if config.server.is_clustered() { keys.in_cluster() } else { keys };
        let view_ttl = Ttl::new(problems.duration(&self.view_ttl, Ttl::LEAST));
        let allow_eviction = problems.switch(&self.allow_eviction);
        RedisSettings { config, keys: keys.with_ttl(view_ttl), allow_eviction }
    }

    /// Returns the URL by whichever of its names it is given.
    fn url(&self, problems: &mut Problems) -> Option<&Setting> {
        let [url, uri] =
            [&self.redis_url, &self.redis_uri].map(|setting| setting.as_ref().filter(|setting| setting.non_empty().is_some()));
        if let (Some(url), Some(uri)) = (url, uri)
            && url.non_empty() != uri.non_empty()
        {
            problems.add(url.name(), format_args!("is another one than {}: give only one of them", uri.name()));
        }
        url.or(uri)
    }

    fn parts(&self, problems: &mut Problems) -> Config {
        let host = problems.resolve(&self.redis_host, host);
        let (port, database) = (problems.parse(&self.redis_port), problems.parse(&self.redis_db));
        Config {
            server: ServerConfig::new_centralized(host, port),
            // A password may hold any character, so it does not pass through a URL.
            password: self.redis_password.as_ref().and_then(Setting::secret).map(str::to_owned),
            database: Some(database),
            ..Config::default()
        }
    }
}

/// What is not a host is probably a URL, and that may hold a password, so it is not repeated.
fn host(text: &str) -> Result<String, &'static str> {
    if store_urls::may_be_host(text) { Ok(text.to_owned()) } else { Err("is not a host name; a URL goes into REDIS_URL") }
}

/// Parses a URL. What is wrong with it is told without repeating it: it may hold a password.
fn from_url(url: &str) -> Result<(Config, Trust), String> {
    if has_loose_sign(url) {
        return Err("has an @ behind its host: in a password, write %40 for @, %2F for /, %3F for ? and %23 for #".to_owned());
    }
    let Adapted { url, trust } = options::adapt(url)?;
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    if scheme.ends_with("-sentinel") && !rest.contains("sentinelServiceName=") {
        return Err("needs the name under which the sentinels know the primary: ?sentinelServiceName=NAME at its end".to_owned());
    }
    // The library's details may quote the URL; its kind of error does not.
    let refused =
        |error: fred::error::Error| format!("is not a Redis URL such as redis://user:password@host:6379/0 ({:?})", error.kind());
    let mut config = Config::from_url(&url).map_err(refused)?;
    if !config.server.hosts().iter().all(|server| store_urls::may_be_host(&server.host)) {
        return Err(store_urls::NO_HOST.to_owned());
    }
    if config.tls.is_some() && trust != Trust::Platform {
        let tls = tls::client_config(&trust).map_err(|error| format!("ssl_ca_certs: the file cannot be used: {error}"))?;
        config.tls = Some(tls.into());
    }
    Ok((config, trust))
}

/// Returns whether a part of the password would be taken for something else, because a sign in it ends the part of a
/// URL that it stands in.
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
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        redis: RedisArgs,
    }

    fn resolve(flags: &[&str]) -> Result<RedisSettings, Problems> {
        let mut problems = Problems::default();
        let settings = Cli::parse_from(std::iter::once("test").chain(flags.iter().copied())).redis.resolve(&mut problems);
        problems.into_result(settings)
    }

    #[test]
    fn without_any_setting_it_is_the_local_server() {
        assert_eq!(resolve(&[]).unwrap().describe(), "redis://localhost:6379/0");
    }

    #[test]
    fn the_origin_documents_four_variables_are_understood() {
        let flags = ["--redis-host=cache", "--redis-port=6380", "--redis-password=p@ss/:#", "--redis-db=3"];
        let settings = resolve(&flags).unwrap();
        assert_eq!(settings.describe(), "redis://cache:6380/3");
        assert_eq!(settings.config.password.as_deref(), Some("p@ss/:#"));
    }

    #[test]
    fn what_is_wrong_with_the_parts_is_told_by_their_variables() {
        let problems = resolve(&["--redis-host=redis://:hidden@cache", "--redis-port=x", "--redis-db=256", "--view-ttl=0"]);
        let expected = [
            "REDIS_HOST: is not a host name; a URL goes into REDIS_URL",
            "REDIS_PORT: invalid digit found in string in \"x\"",
            "REDIS_DB: number too large to fit in target type in \"256\"",
            "--view-ttl: must be at least 1s, not 0",
        ];
        assert_eq!(problems.unwrap_err().all(), expected);
    }

    #[test]
    fn an_empty_password_is_none_as_in_the_origin_documents_example() {
        assert_eq!(resolve(&["--redis-password="]).unwrap().config.password, None);
    }

    #[test]
    fn a_url_wins_over_the_parts_and_keeps_its_secrets() {
        let settings = resolve(&["--redis-url=rediss://app:hidden@cache.example:6390/2", "--redis-host=elsewhere"]).unwrap();
        assert_eq!(settings.describe(), "rediss://cache.example:6390/2");
        assert!(settings.config.tls.is_some());
        assert!(!format!("{settings:?}").contains("hidden"));
    }

    #[test]
    fn the_url_has_another_name() {
        assert_eq!(
            resolve(&["--redis-uri=redis://cache/1", "--redis-host=elsewhere"]).unwrap().describe(),
            "redis://cache:6379/1"
        );
        for same in
            [["--redis-url=redis://cache/1", "--redis-uri=redis://cache/1"], ["--redis-url=", "--redis-uri=redis://cache/1"]]
        {
            assert_eq!(resolve(&same).unwrap().describe(), "redis://cache:6379/1");
        }
        for (flags, why) in [
            (["--redis-url=redis://:hidden@a", "--redis-uri=redis://:hidden@b"], "--redis-url: is another one than REDIS_URI"),
            (
                ["--redis-uri=redis://:hidden@a", "--redis-url-file=/hidden"],
                "REDIS_URI: give only one of REDIS_URI and --redis-url-file",
            ),
            (["--redis-uri=http://:hidden@a", "--redis-db=0"], "REDIS_URI: must begin with redis://"),
            (["--redis-uri=rediss://u:hidden@a?ssl_ca_certs=/nonexistent", "--redis-db=0"], "REDIS_URI: ssl_ca_certs: the file"),
        ] {
            let problems = resolve(&flags).unwrap_err();
            assert!(problems.all().len() == 1 && problems.all()[0].starts_with(why), "{:?}", problems.all());
            assert!(!problems.all()[0].contains("hidden"), "{:?}", problems.all());
        }
    }

    #[test]
    fn a_prefix_that_no_key_can_begin_with_is_told_with_all_else_that_is_wrong() {
        assert_eq!(resolve(&["--redis-prefix=shop:"]).unwrap().keys.outbox(), "shop:views:outbox");
        assert_eq!(resolve(&["--redis-prefix="]).unwrap().keys.outbox(), "views:outbox");
        let problems = resolve(&["--redis-url=hidden", "--redis-prefix={shop}:"]).unwrap_err();
        assert_eq!(problems.all().len(), 2, "{problems:?}");
        assert!(problems.all().iter().any(|problem| problem.starts_with("--redis-prefix: ")), "{problems:?}");
    }

    #[test]
    fn sentinels_are_named_with_their_service() {
        let url =
            "--redis-url=rediss-sentinel://app:hidden@one/2?node=two:26380&sentinelServiceName=views&sentinelPassword=secret";
        let settings = resolve(&[url]).unwrap();
        assert_eq!(settings.describe(), "rediss-sentinel://two:26380,one:26379/2?sentinelServiceName=views");
        let ServerConfig::Sentinel { password, .. } = &settings.config.server else { panic!("{settings:?}") };
        assert_eq!((settings.config.password.as_deref(), password.as_deref()), (Some("hidden"), Some("secret")));
    }

    #[test]
    fn a_cluster_is_named_by_any_of_its_nodes() {
        let settings =
            resolve(&["--redis-url=rediss-cluster://app:hidden@one:7000?node=two:7001", "--redis-prefix=shop:"]).unwrap();
        assert_eq!(settings.describe(), "rediss-cluster://two:7001,one:7000");
        assert!(settings.keys.are_in_cluster() && !resolve(&["--redis-url=redis://one"]).unwrap().keys.are_in_cluster());
        assert_eq!((settings.config.password.as_deref(), settings.keys.prefix()), (Some("hidden"), "shop:"));
    }

    #[test]
    fn sentinels_without_a_service_are_refused_with_what_is_missing() {
        let problems = format!("{:?}", resolve(&["--redis-url=redis-sentinel://:hidden@one"]).unwrap_err().all());
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
            let problems = resolve(&["--redis-url", url]).unwrap_err();
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
            let settings = resolve(&["--redis-url", url]).unwrap();
            assert_eq!(settings.describe(), host);
        }
    }

    #[test]
    fn a_list_of_settings_is_no_host_and_is_not_repeated() {
        for flag in [
            "--redis-url=redis://cache,password=hidden,ssl=True",
            "--redis-url=redis://cache;password=hidden/0",
            "--redis-host=cache,password=hidden",
        ] {
            let problems = resolve(&[flag]).unwrap_err();
            let text = problems.all().join("\n");
            assert!(problems.all().len() == 1 && text.contains("host") && !text.contains("hidden"), "{text}");
        }
    }

    #[test]
    fn a_wrong_url_is_refused_without_repeating_it() {
        for url in ["http://:hidden@host", "redis://:hidden@host:port/0", "hidden"] {
            let problems = resolve(&["--redis-url", url]).unwrap_err();
            assert!(!format!("{:?}", problems.all()).contains("hidden"), "{:?}", problems.all());
        }
    }
}
