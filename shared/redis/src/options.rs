//! URLs of Redis as hosters, frameworks and other clients write them, in the form that the client library reads.
//!
//! Each client has options of its own. Those that concern its pool or its deadlines are passed over, those of TLS are
//! honoured, and what is neither is refused by its name. The library would pass over all of them.

use std::path::PathBuf;

use views_core::{store_urls, tls::Trust};

/// A URL for the client library.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Adapted {
    pub(crate) url: String,
    /// Whose certificate is demanded where there is TLS.
    pub(crate) trust: Trust,
}

/// The options that the client library knows.
const KNOWN: [&str; 4] = ["node", "sentinelServiceName", "sentinelUsername", "sentinelPassword"];
/// What the scheme of a cluster ends with.
const CLUSTER: &str = "-cluster";
/// Options of clients' pools, deadlines and protocols: of no concern here.
const PASSED_OVER: [&str; 45] = [
    // Python.
    "decode_responses",
    "encoding",
    "encoding_errors",
    "health_check_interval",
    "max_connections",
    "socket_timeout",
    "socket_connect_timeout",
    "socket_keepalive",
    "retry_on_timeout",
    "protocol",
    "client_name",
    // Node.
    "family",
    "connectTimeout",
    "commandTimeout",
    "keepAlive",
    "maxRetriesPerRequest",
    "enableReadyCheck",
    "enableOfflineQueue",
    "lazyConnect",
    "connectionName",
    "allowUsernameInURI",
    // Go.
    "max_retries",
    "min_retry_backoff",
    "max_retry_backoff",
    "dial_timeout",
    "read_timeout",
    "write_timeout",
    "pool_fifo",
    "pool_size",
    "pool_timeout",
    "min_idle_conns",
    "max_idle_conns",
    "max_active_conns",
    "conn_max_idle_time",
    "conn_max_lifetime",
    "idle_timeout",
    // PHP, Ruby, Java.
    "timeout",
    "connect_timeout",
    "retry_interval",
    "persistent",
    "persistent_id",
    "lazy",
    "clientName",
    "libraryName",
    "libraryVersion",
];
/// Options that ask for what there is not, or what has another place.
const REFUSED: [(&str, &str); 21] = [
    ("ssl_certfile", NO_CLIENT_CERTIFICATES),
    ("ssl_keyfile", NO_CLIENT_CERTIFICATES),
    ("ssl_password", NO_CLIENT_CERTIFICATES),
    ("ssl_ca_path", ROOTS),
    ("ssl_ca_data", ROOTS),
    ("user", USER),
    ("username", USER),
    ("password", USER),
    ("auth", USER),
    ("prefix", PREFIX),
    ("keyPrefix", PREFIX),
    ("key_prefix", PREFIX),
    ("global_keyprefix", PREFIX),
    ("sentinelMasterId", SENTINEL),
    ("redis_sentinel", SENTINEL),
    ("sentinel_master", SENTINEL),
    ("service_name", SENTINEL),
    ("master_name", SENTINEL),
    ("cluster", "the scheme says what kind of server it is"),
    ("redis_cluster", "the scheme says what kind of server it is"),
    ("addr", "more than one address takes redis-sentinel:// or redis-cluster://"),
];
const NO_CLIENT_CERTIFICATES: &str = "client certificates are not supported";
const ROOTS: &str = "ssl_ca_certs or SSL_CERT_FILE names the file with the root";
const USER: &str = "stands before the host: redis://user:password@host";
const PREFIX: &str = "goes into --redis-prefix";
const SENTINEL: &str = "sentinels are named as redis-sentinel://host?sentinelServiceName=NAME";

/// What the options say so far.
#[derive(Default)]
struct Reading {
    kept: Vec<(String, String)>,
    database: Option<String>,
    /// Whether `ssl` or `tls` asks for it.
    tls: Option<bool>,
    /// What the other options of TLS say, of which the last one has this name.
    trust: Option<(String, Trust)>,
    /// Whether the name in a certificate is not to be compared.
    is_any_name: bool,
}

/// Takes out of a URL what the library does not know.
///
/// # Errors
/// What is wrong with it, which repeats nothing but an option's name.
pub(crate) fn adapt(url: &str) -> Result<Adapted, String> {
    const SCHEMES: &str = "must begin with redis://, rediss://, redis-sentinel:// or redis-cluster://";
    let (scheme, rest) = url.split_once("://").ok_or(SCHEMES)?;
    // Valkey's own names mean the same.
    let scheme = scheme.to_ascii_lowercase().replace("valkeys", "rediss").replace("valkey", "redis");
    let (is_tls, kind) = match &*scheme {
        "redis" => (false, ""),
        "rediss" => (true, ""),
        "redis-sentinel" => (false, "-sentinel"),
        "rediss-sentinel" => (true, "-sentinel"),
        "redis-cluster" => (false, CLUSTER),
        "rediss-cluster" => (true, CLUSTER),
        _ => return Err(SCHEMES.to_owned()),
    };
    let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut reading = Reading::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if reading.take(&name, &value)?.is_none() {
            return Err(store_urls::unknown_option(&format!("redis://{base}"), query, &name));
        }
        // Passwords may have any sign.
        if !name.starts_with("sentinel") {
            store_urls::one_value(&name, &value)?;
        }
    }
    reading.finish(base, is_tls, kind)
}

impl Reading {
    /// Takes an option; `None` where nobody has heard of it.
    fn take(&mut self, name: &str, value: &str) -> Result<Option<()>, String> {
        let is_on = || on_or_off(value).ok_or_else(|| format!("{name} must be true or false"));
        match name {
            name if KNOWN.contains(&name) => {
                self.kept.push((name.to_owned(), value.to_owned()));
            }
            name if PASSED_OVER.contains(&name) => {}
            "db" | "database" | "dbindex" => self.database = Some(value.to_owned()),
            "ssl" | "tls" => {
                let is_on = is_on()?;
                if self.tls.replace(is_on).is_some_and(|other| other != is_on) {
                    return Err("ssl and tls contradict each other, or themselves".to_owned());
                }
            }
            "ssl_cert_reqs" => match &*value.to_ascii_lowercase() {
                "none" | "cert_none" => self.trust(name, Trust::Anybody)?,
                "optional" | "required" | "cert_optional" | "cert_required" => self.trust(name, Trust::Platform)?,
                _ => return Err(format!("{name} must be none, optional or required")),
            },
            "verifyPeer" => match &*value.to_ascii_lowercase() {
                "none" | "false" => self.trust(name, Trust::Anybody)?,
                "ca" | "full" | "true" => self.trust(name, Trust::Platform)?,
                _ => return Err(format!("{name} must be NONE, CA or FULL")),
            },
            "skip_verify" => self.trust(name, if is_on()? { Trust::Anybody } else { Trust::Platform })?,
            "rejectUnauthorized" => self.trust(name, if is_on()? { Trust::Platform } else { Trust::Anybody })?,
            "ssl_ca_certs" => self.trust(name, Trust::File(PathBuf::from(value)))?,
            "ssl_check_hostname" => self.is_any_name = !is_on()?,
            name => match REFUSED.iter().find(|(refused, _)| *refused == name) {
                Some((_, why)) => return Err(format!("{name}: {why}")),
                None => return Ok(None),
            },
        }
        Ok(Some(()))
    }

    /// Notes whose certificate is demanded. A file with roots says more than that some are.
    fn trust(&mut self, name: &str, trust: Trust) -> Result<(), String> {
        let merged = match (self.trust.take(), trust) {
            (None, trust) => trust,
            (Some((_, Trust::File(path))), Trust::Platform) | (Some((_, Trust::Platform)), Trust::File(path)) => {
                Trust::File(path)
            }
            (Some((_, known)), trust) if known == trust => trust,
            (Some((other, _)), _) => return Err(format!("{other} and {name} contradict each other")),
        };
        self.trust = Some((name.to_owned(), merged));
        Ok(())
    }

    fn finish(self, base: &str, is_tls: bool, kind: &str) -> Result<Adapted, String> {
        if is_tls && self.tls == Some(false) {
            return Err("rediss:// contradicts the option that does without TLS".to_owned());
        }
        let is_tls = is_tls || self.tls == Some(true);
        if let Some((name, _)) = self.trust.as_ref().filter(|_| !is_tls) {
            return Err(format!("{name} is about TLS, which begins with rediss://"));
        }
        let trust = self.trust.map(|(_, trust)| trust).unwrap_or_default();
        if self.is_any_name && trust != Trust::Anybody {
            return Err("ssl_check_hostname: the name in a certificate is looked at wherever the certificate is".to_owned());
        }
        let mut base = base.to_owned();
        if let Some(database) = self.database {
            let (host, path) = base.split_once('/').unwrap_or((&base, ""));
            if !(path.is_empty() || path == database) {
                return Err("names two databases".to_owned());
            }
            base = format!("{host}/{database}");
        }
        let path = base.split_once('/').map_or("", |(_, path)| path);
        if kind == CLUSTER && !(path.is_empty() || path == "0") {
            return Err(
                "names a database, and a cluster has only database 0: keep installations apart by --redis-prefix".to_owned()
            );
        }
        let scheme = format!("redis{}{kind}", if is_tls { "s" } else { "" });
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(self.kept).finish();
        let url = if query.is_empty() { format!("{scheme}://{base}") } else { format!("{scheme}://{base}?{query}") };
        Ok(Adapted { url, trust })
    }
}

fn on_or_off(text: &str) -> Option<bool> {
    match &*text.to_ascii_lowercase() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(url: &str) -> (String, Trust) {
        let Adapted { url, trust } = adapt(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        (url, trust)
    }

    #[test]
    fn hosters_urls_are_taken() {
        for (url, expected) in [
            ("REDISS://default:p@db-1.example:6380", "rediss://default:p@db-1.example:6380"),
            ("Redis://cache", "redis://cache"),
            ("valkeys://default:p@cache:1/0", "rediss://default:p@cache:1/0"),
            ("valkey://cache", "redis://cache"),
            ("redis://cache:6379?family=0", "redis://cache:6379"),
            ("redis://cache/2?decode_responses=True&socket_timeout=5&protocol=3", "redis://cache/2"),
            ("redis://cache?db=3", "redis://cache/3"),
            ("redis://cache/3?database=3", "redis://cache/3"),
            ("redis://cache:6380/?ssl=true", "rediss://cache:6380/"),
            ("redis://cache:6380?tls=1", "rediss://cache:6380"),
            ("redis://cache?ssl=false", "redis://cache"),
            (
                "REDIS-SENTINEL://one?node=two%3A26380&sentinelServiceName=views&timeout=5&sentinelPassword=a%26b",
                "redis-sentinel://one?node=two%3A26380&sentinelServiceName=views&sentinelPassword=a%26b",
            ),
            ("Valkey-Cluster://u:p@one:7000?node=two:7001&ssl=true", "rediss-cluster://u:p@one:7000?node=two%3A7001"),
            ("redis-cluster://one/0", "redis-cluster://one/0"),
        ] {
            assert_eq!(adapted(url), (expected.to_owned(), Trust::Platform), "{url}");
        }
    }

    #[test]
    fn what_is_said_of_certificates_is_honoured() {
        let file = || Trust::File(PathBuf::from("/ca.pem"));
        for (options, trust) in [
            ("ssl_cert_reqs=none", Trust::Anybody),
            ("ssl_cert_reqs=CERT_NONE&ssl_check_hostname=false", Trust::Anybody),
            ("verifyPeer=NONE", Trust::Anybody),
            ("skip_verify=true", Trust::Anybody),
            ("rejectUnauthorized=false&ssl_cert_reqs=none", Trust::Anybody),
            ("ssl_cert_reqs=required", Trust::Platform),
            ("ssl_cert_reqs=optional&verifyPeer=CA", Trust::Platform),
            ("ssl_check_hostname=true", Trust::Platform),
            ("ssl_ca_certs=/ca.pem", file()),
            ("ssl_ca_certs=/ca.pem&ssl_cert_reqs=required", file()),
            ("ssl_cert_reqs=required&ssl_ca_certs=/ca.pem", file()),
        ] {
            assert_eq!(adapted(&format!("rediss://cache?{options}")), ("rediss://cache".to_owned(), trust), "{options}");
        }
        for (url, why) in [
            ("rediss://cache?ssl=false", "contradicts"),
            ("redis://cache?ssl=true&ssl=false", "contradict each other"),
            ("redis://cache?tls=false&ssl=true", "contradict each other"),
            ("redis://cache?family=0?ssl=true", "family: its value has a ?"),
            ("redis://cache?timeout=1;ssl=true", "timeout: its value has a ?"),
            ("redis://cache?ssl_cert_reqs=required", "ssl_cert_reqs is about TLS"),
            ("redis://cache?ssl=false&ssl_ca_certs=/ca.pem", "ssl_ca_certs is about TLS"),
            ("rediss://cache?ssl_cert_reqs=none&verifyPeer=FULL", "ssl_cert_reqs and verifyPeer contradict"),
            ("rediss://cache?verifyPeer=FULL&ssl_cert_reqs=none", "verifyPeer and ssl_cert_reqs contradict"),
            ("rediss://cache?ssl_ca_certs=/ca.pem&skip_verify=1", "ssl_ca_certs and skip_verify contradict"),
            ("rediss://cache?ssl_check_hostname=false", "ssl_check_hostname"),
            ("rediss://cache?ssl_cert_reqs=perhaps", "ssl_cert_reqs must be"),
            ("rediss://cache?ssl=perhaps", "ssl must be"),
            ("redis://cache/1?db=2", "two databases"),
            ("redis-cluster://one/1", "only database 0"),
            ("redis-cluster://one?db=2", "only database 0"),
        ] {
            let error = adapt(url).unwrap_err();
            assert!(error.contains(why), "{url}: {error}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused_by_its_name_and_a_password_is_not_repeated() {
        for (name, _) in REFUSED {
            let error = adapt(&format!("redis://u:hidden@cache/0?{name}=hidden")).unwrap_err();
            assert!(error.starts_with(&format!("{name}: ")) && !error.contains("hidden"), "{error}");
        }
        assert_eq!(adapt("redis://u:p@cache/0?no_such=1").unwrap_err(), "has an unknown option no_such");
        for url in ["redis://u:hid?hidden=1", "redis://u:hid?hidden", "redis://cache?hidden=a@b"] {
            assert_eq!(adapt(url).unwrap_err(), "has an unknown option", "{url}");
        }
        for url in ["http://:hidden@cache", "hidden", "redis:hidden", "redis+unix:///hidden", "redis-clusters://hidden"] {
            let error = adapt(url).unwrap_err();
            assert!(error.starts_with("must begin with") && !error.contains("hidden"), "{error}");
        }
    }
}
