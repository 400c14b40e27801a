//! Passwords that anybody on the way can read: told once, at the start.

use fred::types::config::{Config as RedisConfig, ServerConfig};
use views_core::{network::is_loopback, tls::Trust};

/// Returns a warning about a password of Redis, or of its sentinels, that is sent without TLS, and about a server whose
/// certificate nobody looks at.
pub(super) fn redis(name: &str, config: &RedisConfig, trust: &Trust) -> Option<String> {
    let hosts = config.server.hosts();
    let distant = &hosts.iter().find(|server| !is_loopback(&server.host))?.host;
    if config.tls.is_some() && *trust == Trust::Anybody {
        return Some(format!(
            "{name}: whoever stands between here and {distant} can take the password and all data, because the server's certificate \
             is not verified: name its root by ssl_ca_certs or SSL_CERT_FILE instead"
        ));
    }
    let sentinels_password = match &config.server {
        ServerConfig::Sentinel { password, .. } => password.is_some(),
        _ => false,
    };
    if config.tls.is_some() || !(config.password.is_some() || sentinels_password) {
        return None;
    }
    let scheme = if matches!(config.server, ServerConfig::Sentinel { .. }) { "rediss-sentinel://" } else { "rediss://" };
    Some(format!(
        "{name}: the password goes to {distant} without TLS, and whoever stands in between can take it: use {scheme} in REDIS_URL"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_of_redis_without_tls_counts_and_the_sentinels_too() {
        let warning = |url: &str| redis("--redis-url", &RedisConfig::from_url(url).unwrap(), &Trust::Platform);
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
        let unverified = |url: &str| redis("--redis-url", &RedisConfig::from_url(url).unwrap(), &Trust::Anybody);
        assert_eq!(unverified("rediss://:hidden@localhost:6379/0"), None);
        let warning = unverified("rediss://:hidden@cache:6379/0").unwrap();
        assert!(warning.contains("is not verified") && !warning.contains("hidden"), "{warning}");
    }
}
