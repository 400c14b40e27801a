//! Sentinels: whom to ask next for the primary, and what their silence means.
//!
//! The client library asks the first sentinel on its list that it can connect to, and fails when that one hangs, or
//! names a server that is gone or is no primary. Its next attempt begins with the same one. And once it has found the
//! primary, its list is what that sentinel knows of the others: neither itself nor, where sentinels know each other by
//! addresses of their own, any that is in the settings. So after each failure the list becomes everybody who is known,
//! beginning with another one.

use fred::{
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::ClientLike,
    types::config::ServerConfig,
};

/// The library's words for an answer without a primary.
const NO_PRIMARY: &str = "Missing primary address";
/// The library's words when no sentinel could be asked, for whatever reason: it keeps the reasons to itself.
const NO_SENTINEL: &str = "Failed to connect to all sentinel nodes";

/// Has the next attempt to find the primary begin with another sentinel. Does nothing where there are no sentinels.
pub(super) fn ask_another(client: &Client) {
    // The library has no public way to its list. Should a new version move it, this does not compile, or the tests with
    // sentinels fail.
    let inner = client.inner();
    let ServerConfig::Sentinel { hosts, .. } = &inner.config.server else { return };
    let mut state = inner.server_state.write();
    let Some(mut known) = state.kind.read_sentinel_nodes(&inner.config.server) else { return };
    let forgotten: Vec<_> = hosts.iter().filter(|host| !known.contains(host)).cloned().collect();
    known.extend(forgotten);
    known.rotate_left(1);
    // Before the first connection there is no primary, and nobody asks for it.
    let primary = state.kind.sentinel_primary().unwrap_or_else(|| hosts[0].clone());
    state.kind.update_sentinel_nodes(&primary, known);
}

/// What an error of the library means for an operator, where it can be said better.
pub(super) fn explain(error: &Error, server: &ServerConfig) -> String {
    let ServerConfig::Sentinel { service_name, .. } = server else { return error.details().to_owned() };
    match error.kind() {
        ErrorKind::Sentinel if error.details().starts_with(NO_PRIMARY) => {
            format!("the sentinels know no primary of the service {service_name:?}: is its name (sentinelServiceName) right?")
        }
        ErrorKind::Sentinel if error.details().starts_with(NO_SENTINEL) => {
            "no sentinel lets us in: are they there, and is their password (sentinelPassword) right?".to_owned()
        }
        _ => error.details().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use fred::types::config::{Config, Server};

    use super::*;

    const URL: &str = "redis-sentinel://one:1/0?node=two:2&node=three:3&sentinelServiceName=views";

    fn sentinels(client: &Client) -> Vec<String> {
        let inner = client.inner();
        let known = inner.server_state.read().kind.read_sentinel_nodes(&inner.config.server);
        known.unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_next_attempt_begins_with_another_sentinel() {
        let client = Client::new(Config::from_url(URL).unwrap(), None, None, None);
        let first = sentinels(&client);
        let asked_first: Vec<String> = (0..3)
            .map(|_| {
                ask_another(&client);
                sentinels(&client)[0].clone()
            })
            .collect();
        assert_eq!(asked_first, [&*first[1], &*first[2], &*first[0]]);
    }

    #[test]
    fn those_of_the_settings_are_not_forgotten() {
        let client = Client::new(Config::from_url(URL).unwrap(), None, None, None);
        let other = Server::new("10.0.0.1", 4);
        client.inner().server_state.write().kind.update_sentinel_nodes(&Server::new("primary", 5), vec![other]);
        ask_another(&client);
        let mut known = sentinels(&client);
        known.sort();
        assert_eq!(known, ["10.0.0.1:4", "one:1", "three:3", "two:2"]);
    }

    #[test]
    fn a_single_server_has_no_sentinels() {
        let client = Client::new(Config::from_url("redis://one:1").unwrap(), None, None, None);
        ask_another(&client);
        assert_eq!(client.client_config().server.hosts(), [Server::new("one", 1)]);
    }
}
