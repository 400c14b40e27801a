//! Stores that are reached over a network by connections that anybody in between can read: told once, at the start.

use std::net::{IpAddr, Ipv6Addr};

use fred::types::config::{Config as RedisConfig, ServerConfig};
use tokio_postgres::config::{Config as PostgresConfig, Host};

/// A warning about a PostgreSQL whose certificate nobody looks at.
pub(super) fn postgres(name: &str, config: &PostgresConfig) -> Option<String> {
    // Where addresses are given, the names beside them are not asked for.
    let addresses = config.get_hostaddrs();
    let distant = if addresses.is_empty() {
        config.get_hosts().iter().find_map(|host| match host {
            Host::Tcp(name) => (!is_loopback(name)).then(|| name.clone()),
            Host::Unix(_) => None,
        })
    } else {
        addresses.iter().find(|address| !is_loopback_address(**address)).map(ToString::to_string)
    };
    let distant = distant?;
    let what = if config.get_password().is_some() { "the password and all data" } else { "all data" };
    Some(format!(
        "{name}: whoever stands between here and {distant} can take {what}, because the server's certificate is not verified: \
         set sslmode=verify-full (and SSL_CERT_FILE where the platform does not know its root)"
    ))
}

/// A warning about a password of Redis, or of its sentinels, that is sent without TLS.
pub(super) fn redis(name: &str, config: &RedisConfig) -> Option<String> {
    let sentinels_password = match &config.server {
        ServerConfig::Sentinel { password, .. } => password.is_some(),
        _ => false,
    };
    if config.tls.is_some() || !(config.password.is_some() || sentinels_password) {
        return None;
    }
    let hosts = config.server.hosts();
    let distant = &hosts.iter().find(|server| !is_loopback(&server.host))?.host;
    let scheme = if matches!(config.server, ServerConfig::Sentinel { .. }) { "rediss-sentinel://" } else { "rediss://" };
    Some(format!(
        "{name}: the password goes to {distant} without TLS, and whoever stands in between can take it: use {scheme} in REDIS_URL"
    ))
}

/// Whether a host is this machine whatever the network says.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    bare.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(is_loopback_address)
}

fn is_loopback_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address == Ipv6Addr::LOCALHOST || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_names() {
        for host in ["localhost", "LocalHost", "localhost.", "127.0.0.1", "127.9.8.7", "::1", "[::1]", "::ffff:127.0.0.1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["db", "10.0.0.1", "localhost.example", "127.example", "::2", "0.0.0.0", "128.0.0.1", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_distant_postgres_among_others_counts() {
        let warning = |text: &str| postgres("--database-url", &text.parse().unwrap());
        for near in [
            "postgres://u:hidden@localhost/app",
            "postgres://u:hidden@127.0.0.1,[::1]/app",
            "host=/run/postgresql user=u password=hidden",
            "postgres://u:hidden@%2Frun%2Fpostgresql/app",
            "host=db hostaddr=127.0.0.1 user=u",
        ] {
            assert_eq!(warning(near), None, "{near}");
        }
        for (distant, host) in [
            ("postgres://u:hidden@db.example/app", "db.example"),
            ("postgres://u:hidden@localhost,10.0.0.2/app", "10.0.0.2"),
            ("host=/run/postgresql,db user=u password=hidden", "db"),
            ("host=localhost hostaddr=10.0.0.3 user=u", "10.0.0.3"),
        ] {
            let warning = warning(distant).unwrap();
            assert!(warning.contains(host) && warning.contains("verify-full") && !warning.contains("hidden"), "{warning}");
        }
    }

    #[test]
    fn a_password_of_redis_without_tls_counts_and_the_sentinels_too() {
        let warning = |url: &str| redis("--redis-url", &RedisConfig::from_url(url).unwrap());
        for safe in [
            "redis://cache:6379/0",
            "redis://:hidden@localhost:6379/0",
            "redis://:hidden@127.0.0.1:6379/0",
            "rediss://:hidden@cache:6379/0",
            "redis-sentinel://one:26379/0?sentinelServiceName=views",
        ] {
            assert_eq!(warning(safe), None, "{safe}");
        }
        for distant in [
            "redis://:hidden@cache:6379/0",
            "redis://app:hidden@10.0.0.1:6379/0",
            "redis-sentinel://:hidden@localhost:26379/0?node=two:26379&sentinelServiceName=views",
            "redis-sentinel://one:26379/0?sentinelServiceName=views&sentinelPassword=hidden",
        ] {
            let warning = warning(distant).unwrap();
            assert!(warning.contains("without TLS") && !warning.contains("hidden"), "{warning}");
        }
    }
}
