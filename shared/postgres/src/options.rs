//! URLs of PostgreSQL as hosters, drivers and tools write them, in the form that the client library reads.
//!
//! Each of them has options of its own. Those that concern a client's pool or cache are passed over, those of TLS are
//! honoured, and what is neither is refused by its name: nobody's connection is silently less safe than they asked for.

mod names;

use std::path::PathBuf;

use tokio_postgres::config::SslMode;

use views_core::{store_urls, tls::Trust};

use self::names::{KNOWN, NO_CLIENT_CERTIFICATES, PASSED_OVER, REFUSED};
use crate::words;

/// A URL, or libpq's words, for the client library.
#[derive(Debug)]
pub(crate) struct Adapted {
    pub(crate) text: String,
    pub(crate) ssl_mode: SslMode,
    /// Whose certificate is demanded where there is TLS.
    pub(crate) trust: Trust,
    /// Options for the server.
    pub(crate) server_options: String,
}

/// libpq's modes, the safest one last: where several are given, it counts. It knows `verify-ca`, too, which is treated as `verify-full`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum TlsMode {
    Disable,
    /// Where the server has it.
    #[default]
    Prefer,
    /// Without a look at the certificate.
    Require,
    Verify,
}

impl TlsMode {
    fn ssl_mode(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::Verify => SslMode::Require,
        }
    }
}

/// What is said of a mode that is none.
const MODES: &str = "sslmode must be disable, prefer, require, no-verify, verify-ca or verify-full";
/// What is said of any text that is no URL of PostgreSQL.
const NO_URL: &str = "is not a URL such as postgres://user:password@host:5432/name";

/// What URLs of PostgreSQL begin with beside `postgres` and `postgresql`: frameworks name an adapter there.
const ALIASES: [&str; 3] = ["postgis", "pgsql", "ecto"];
/// Python's drivers, which SQLAlchemy names behind a plus sign.
const DRIVERS: [&str; 7] = ["psycopg", "psycopg2", "psycopg2cffi", "psycopg_async", "asyncpg", "pg8000", "aiopg"];

/// What the options say so far.
#[derive(Default)]
struct Reading {
    kept: Vec<(String, String)>,
    server_options: String,
    mode: Option<TlsMode>,
    /// What `ssl=…` says, which other drivers have for a mode.
    ssl: Option<TlsMode>,
    /// Whether Prisma's `sslaccept` demands a certificate that is trusted.
    is_strict: bool,
    root: Option<Trust>,
}

/// Takes out of a URL, or of libpq's words, what the library does not know.
///
/// # Errors
/// What is wrong with it, which repeats nothing but an option's name.
pub(crate) fn adapt(text: &str) -> Result<Adapted, String> {
    let Some((url, demanded)) = base(text)? else {
        // What cannot be read is told by the library.
        let Some(mut settings) = words::read(text) else {
            return Reading::default().finish(|_| text.to_owned());
        };
        // An empty one is none to libpq, too.
        settings.retain(|(_, value)| !value.is_empty());
        let mut reading = Reading::default();
        for (name, value) in settings {
            // A name that nobody has heard of may be a part of a password.
            reading.take(&name, &value)?.ok_or("has an unknown option")?;
            one_value(&name, &value)?;
        }
        return reading.finish(|kept| words::write(&kept));
    };
    let mut reading = Reading { ssl: demanded, ..Reading::default() };
    let Some((base, query)) = url.split_once('?') else { return reading.finish(|_| url) };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if reading.take(&name, &value)?.is_none() {
            return Err(store_urls::unknown_option(base, query, &name));
        }
        one_value(&name, &value)?;
    }
    let base = base.to_owned();
    reading.finish(|kept| {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish();
        // The library decodes percent signs, but takes a plus sign literally.
        if query.is_empty() { base } else { format!("{base}?{}", query.replace('+', "%20")) }
    })
}

/// Returns a URL as the library has it, and what its scheme demands of TLS. `None` for what is no URL.
fn base(text: &str) -> Result<Option<(String, Option<TlsMode>)>, String> {
    let bare = text.strip_prefix("jdbc:").or_else(|| text.strip_prefix("JDBC:")).unwrap_or(text);
    let Some((scheme, rest)) = bare.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
        return if bare.len() == text.len() {
            Ok(None)
        } else {
            Err("needs a host: jdbc:postgresql://host:5432/name".to_owned())
        };
    };
    let scheme = scheme.to_ascii_lowercase();
    let (scheme, driver) = scheme.split_once('+').map_or((&*scheme, None), |(scheme, driver)| (scheme, Some(driver)));
    if !matches!(scheme, "postgres" | "postgresql") && !ALIASES.contains(&scheme) {
        return Err(NO_URL.to_owned());
    }
    let demanded = match driver {
        None => None,
        Some("ssl") => Some(TlsMode::Require),
        Some(driver) if DRIVERS.contains(&driver) => None,
        Some(_) => return Err(format!("{NO_URL}: what stands behind the + is not known")),
    };
    Ok(Some((format!("postgresql://{rest}"), demanded)))
}

/// Passwords may have any sign, options of the server and paths may have those, and hosts are looked at later.
fn one_value(name: &str, value: &str) -> Result<(), String> {
    if matches!(name, "user" | "password" | "host" | "options" | "sslrootcert") {
        Ok(())
    } else {
        store_urls::one_value(name, value)
    }
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
}

impl Reading {
    /// Takes an option; `None` where nobody has heard of it.
    fn take(&mut self, name: &str, value: &str) -> Result<Option<()>, String> {
        let refused = |why: &str| Err(format!("{name}: {why}"));
        let is_on = || on_or_off(value).ok_or_else(|| format!("{name} must be true or false"));
        match name {
            name if KNOWN.contains(&name) => self.kept.push((name.to_owned(), value.to_owned())),
            name if PASSED_OVER.contains(&name) || name.starts_with("pool_") => {}
            "sslmode" => self.mode = self.mode.max(Some(mode(value).ok_or(MODES)?)),
            // With it alone, the drivers that know it demand a certificate that is trusted.
            "ssl" => match on_or_off(value) {
                Some(true) => self.ssl = self.ssl.max(Some(TlsMode::Verify)),
                Some(false) => {}
                None => {
                    let mode = mode(value).ok_or("ssl must be true, false or one of sslmode's values")?;
                    self.mode = self.mode.max(Some(mode));
                }
            },
            "sslaccept" => match value {
                "strict" => self.is_strict = true,
                "accept_invalid_certs" => self.ssl = self.ssl.max(Some(TlsMode::Require)),
                _ => return refused("must be strict or accept_invalid_certs"),
            },
            "sslrootcert" if value == "system" => self.root = Some(Trust::Platform),
            "sslrootcert" => self.root = Some(Trust::File(PathBuf::from(value))),
            "sslnegotiation" if value == "postgres" => {}
            "sslnegotiation" => return refused("only postgres is supported"),
            "sslsni" | "sslcompression" => {
                is_on()?;
            }
            "sslcertmode" if value == "require" => return refused(NO_CLIENT_CERTIFICATES),
            "ssl_min_protocol_version" if matches!(value, "TLSv1" | "TLSv1.1" | "TLSv1.2") => {}
            "ssl_min_protocol_version" => return refused("TLS is 1.2 or 1.3, whichever the server has"),
            "gssencmode" | "gssEncMode" if value == "require" => return refused("Kerberos is not spoken"),
            "sslcertmode" | "gssencmode" | "gssEncMode" => {}
            "client_encoding" if ["utf8", "utf-8", "auto", "unicode"].contains(&&*value.to_ascii_lowercase()) => {}
            "client_encoding" => return refused("is always UTF8"),
            "schema" | "currentSchema" | "search_path" => {
                self.server_options += &format!(" -c search_path={}", search_path(value));
            }
            "ApplicationName" => self.keep("application_name", value),
            "database" => self.keep("dbname", value),
            "target_session_attrs" | "targetServerType" => match value {
                "any" | "read-write" => self.keep("target_session_attrs", value),
                // A server that takes writes is what both stand for here.
                "primary" | "master" => self.keep("target_session_attrs", "read-write"),
                _ => return refused("must be any, read-write or primary: both programs write"),
            },
            "loadBalanceHosts" => self.keep("load_balance_hosts", if is_on()? { "random" } else { "disable" }),
            name => match REFUSED.iter().find(|(refused, _)| *refused == name) {
                Some((_, why)) => return refused(why),
                None => return Ok(None),
            },
        }
        Ok(Some(()))
    }

    fn keep(&mut self, name: &str, value: &str) {
        self.kept.push((name.to_owned(), value.to_owned()));
    }

    fn finish(self, write: impl FnOnce(Vec<(String, String)>) -> String) -> Result<Adapted, String> {
        let is_demanded = self.is_strict || self.root.is_some() || matches!(self.ssl, Some(TlsMode::Require | TlsMode::Verify));
        if self.mode == Some(TlsMode::Disable) && is_demanded {
            return Err("sslmode=disable contradicts the option that asks for TLS".to_owned());
        }
        let mode = match (self.mode, self.ssl) {
            // As in libpq, whoever names a root wants the certificate looked at.
            _ if self.is_strict || self.root.is_some() => TlsMode::Verify,
            (Some(TlsMode::Prefer) | None, Some(demanded)) => demanded,
            (Some(mode), _) => mode,
            (None, None) => TlsMode::default(),
        };
        let trust = if mode == TlsMode::Verify { self.root.unwrap_or_default() } else { Trust::Anybody };
        Ok(Adapted { text: write(self.kept), ssl_mode: mode.ssl_mode(), trust, server_options: self.server_options })
    }
}

fn mode(text: &str) -> Option<TlsMode> {
    Some(match text {
        "disable" => TlsMode::Disable,
        "allow" | "prefer" => TlsMode::Prefer,
        "require" | "no-verify" => TlsMode::Require,
        "verify-ca" | "verify-full" => TlsMode::Verify,
        _ => return None,
    })
}

fn on_or_off(text: &str) -> Option<bool> {
    match &*text.to_ascii_lowercase() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Returns a list of schemas as an option of the server. Spaces and backslashes end one unless escaped.
fn search_path(schemas: &str) -> String {
    let quoted: Vec<_> = schemas.split(',').map(|schema| format!("\"{}\"", schema.trim().replace('"', "\"\""))).collect();
    quoted.join(",").replace('\\', "\\\\").replace(' ', "\\ ")
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::{ChannelBinding, Config, Host, LoadBalanceHosts, TargetSessionAttrs};

    use super::*;

    fn config(text: &str) -> Config {
        adapt(text).unwrap_or_else(|error| panic!("{text}: {error}")).text.parse().unwrap()
    }

    fn tls(options: &str) -> Result<(SslMode, Trust), String> {
        let of = |text: &str| adapt(text).map(|adapted| (adapted.ssl_mode, adapted.trust));
        let url = of(&format!("postgres://u:p@db/app?{options}"));
        let words = of(&format!("host=db user=u {}", options.replace('&', " ")));
        assert_eq!(url.as_ref().ok(), words.as_ref().ok(), "{options}");
        url
    }

    #[test]
    fn every_scheme_of_postgresql_is_taken() {
        for url in [
            "postgres://u:p@db:5433/app",
            "postgresql://u:p@db:5433/app",
            "POSTGRESQL://u:p@db:5433/app",
            "postgresql+psycopg2://u:p@db:5433/app",
            "postgresql+asyncpg://u:p@db:5433/app",
            "postgres+psycopg://u:p@db:5433/app?",
            "postgis://u:p@db:5433/app",
            "pgsql://u:p@db:5433/app",
            "ecto://u:p@db:5433/app",
            "jdbc:postgresql://db:5433/app?user=u&password=p",
            "jdbc:postgresql://u:p@db:5433/app",
            "postgres+ssl://u:p@db:5433/app",
        ] {
            let config = config(url);
            assert_eq!((config.get_user(), config.get_password()), (Some("u"), Some(&b"p"[..])), "{url}");
            assert_eq!((config.get_hosts(), config.get_ports()), (&[Host::Tcp("db".to_owned())][..], &[5433][..]), "{url}");
            assert_eq!(config.get_dbname(), Some("app"), "{url}");
        }
        assert_eq!(adapt("postgres+ssl://db/app").unwrap().ssl_mode, SslMode::Require);
        for bad in [
            "mysql://u:hidden@db/app",
            "postgresql+mysql://u:hidden@db/app",
            "prisma+postgres://x?api_key=hidden",
            "jdbc:postgresql:app",
        ] {
            let error = adapt(bad).unwrap_err();
            assert!(!error.contains("hidden"), "{error}");
        }
    }

    #[test]
    fn what_asks_for_tls_is_honoured() {
        let prefer = (SslMode::Prefer, Trust::Anybody);
        let require = (SslMode::Require, Trust::Anybody);
        let verify = (SslMode::Require, Trust::Platform);
        let by_file = (SslMode::Require, Trust::File(PathBuf::from("/ca.pem")));
        for (options, expected) in [
            ("", &prefer),
            ("sslmode=no-verify", &require),
            ("sslmode=require&uselibpqcompat=true", &require),
            ("ssl=true", &verify),
            ("ssl=1", &verify),
            ("ssl=True&pool=5", &verify),
            ("ssl=require", &require),
            ("ssl=no-verify", &require),
            ("ssl=false", &prefer),
            ("ssl=0", &prefer),
            ("ssl=true&sslmode=require", &require),
            ("ssl=true&sslmode=prefer", &verify),
            ("sslmode=verify-ca&ssl=true", &verify),
            ("ssl=false&sslmode=require", &require),
            ("ssl=true&ssl=false", &verify),
            ("ssl=false&ssl=true", &verify),
            ("ssl=verify-full&sslmode=require", &verify),
            ("ssl=require&sslmode=verify-full", &verify),
            ("sslmode=verify-full&sslmode=disable", &verify),
            ("ssl=true&sslaccept=accept_invalid_certs", &verify),
            ("sslaccept=strict", &verify),
            ("sslmode=require&sslaccept=strict", &verify),
            ("sslmode=prefer&sslaccept=strict", &verify),
            ("sslaccept=accept_invalid_certs", &require),
            ("sslrootcert=/ca.pem", &by_file),
            ("sslmode=require&sslrootcert=/ca.pem", &by_file),
            ("sslrootcert=system", &verify),
        ] {
            assert_eq!(tls(options).as_ref(), Ok(expected), "{options}");
        }
        assert_eq!(adapt("host=db sslrootcert='/a b.pem'").unwrap().trust, Trust::File(PathBuf::from("/a b.pem")));
        for bad in [
            "sslmode=sometimes",
            "ssl=sometimes",
            "sslaccept=x",
            "ssl=true&sslmode=disable",
            "sslaccept=strict&sslmode=disable",
            "sslmode=disable&sslrootcert=/ca.pem",
        ] {
            assert!(tls(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_of_pools_and_hosters_are_passed_over_and_others_are_translated() {
        let options = "pool=5&pool_timeout=0&pgbouncer=true&connection_limit=1&statement_cache_size=0&supa=base-pooler.x&uselibpqcompat=true\
            &pool_max_conns=10&serverVersion=15&charset=utf8&client_encoding=UTF8&gssencmode=disable&sslsni=1&timezone=UTC\
            &options=project%3Dep-quiet-1&application_name=blog&channel_binding=require&target_session_attrs=primary\
            &loadBalanceHosts=true&connect_timeout=7&ssl_min_protocol_version=TLSv1.2&schema=my%20blog,public";
        let url = format!("postgres://u:p@ep.neon.example/app?{options}");
        let config = config(&url);
        assert_eq!(config.get_options(), Some("project=ep-quiet-1"));
        assert_eq!(adapt(&url).unwrap().server_options, r#" -c search_path="my\ blog","public""#);
        assert_eq!((config.get_application_name(), config.get_channel_binding()), (Some("blog"), ChannelBinding::Require));
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(config.get_load_balance_hosts(), LoadBalanceHosts::Random);
        assert_eq!(config.get_connect_timeout().unwrap().as_secs(), 7);
        let jdbc = adapt(
            "jdbc:postgresql://a:1,b:2/app?user=u&currentSchema=blog&ApplicationName=x&targetServerType=primary&tcpKeepAlive=true",
        );
        assert_eq!(jdbc.unwrap().server_options, r#" -c search_path="blog""#);
    }

    #[test]
    fn what_is_asked_for_and_not_there_is_refused_by_its_name() {
        let refused = REFUSED.iter().map(|(name, _)| format!("{name}=x"));
        let others = ["sslnegotiation=direct", "sslcertmode=require", "ssl_min_protocol_version=TLSv1.3", "gssencmode=require"];
        let others = others.into_iter().chain(["client_encoding=LATIN1", "target_session_attrs=standby", "loadBalanceHosts=x"]);
        for option in refused.chain(others.map(str::to_owned)) {
            let name = option.split('=').next().unwrap().to_owned();
            for text in [format!("postgres://u:hidden@db/app?{option}"), format!("host=db password=hidden {option}")] {
                let error = adapt(&text).unwrap_err();
                assert!(error.contains(&name) && !error.contains("hidden"), "{text}: {error}");
            }
        }
        assert_eq!(adapt("postgres://u:p@db/app?no_such=1").unwrap_err(), "has an unknown option no_such");
        assert_eq!(adapt("postgres://db:5432/app?no_such=1").unwrap_err(), "has an unknown option no_such");
    }

    #[test]
    fn options_behind_a_second_question_mark_are_not_lost() {
        for option in ["pool=1?sslmode=require", "schema=public?sslmode=verify-full", "application_name=x?sslmode=require"] {
            for option in [option.to_owned(), option.replace('?', "%3F"), option.replace('?', "#"), option.replace('?', ";")] {
                let error = adapt(&format!("postgres://u:hidden@db/app?{option}")).unwrap_err();
                assert!(error.contains("joined by &") && !error.contains("hidden"), "{option}: {error}");
            }
        }
        assert_eq!(config("postgres://db/app?user=u&password=a?b;c").get_password(), Some(&b"a?b;c"[..]));
    }

    #[test]
    fn a_part_of_a_password_is_no_options_name() {
        for text in [
            "postgres://u:hid?hidden@db/app",
            "postgres://u:hid?hidden=1@db/app",
            "postgres://u:hid?hidden=1&x=2@db/app?sslmode=require",
            "postgres://u:hid?hidden",
            "postgres://u:12x?hidden=1",
            "host=db password=a hidden=1",
            "host=db password=a hidden = 1",
        ] {
            assert_eq!(adapt(text).unwrap_err(), "has an unknown option", "{text}");
        }
    }
}
