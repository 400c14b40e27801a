//! A server that anybody on the way can pass itself off as: told once, at the start.

use tokio_postgres::config::{Config as PostgresConfig, Host};
use views_core::network::{is_loopback, is_loopback_address};

/// Returns a warning about a PostgreSQL whose certificate nobody looks at.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
