//! The connection to Redis: it reconnects for ever, waits for nothing without a deadline, and says in the log when it
//! comes and goes.

pub mod config;
mod connection;
mod error;
mod options;
pub mod ownership;
pub mod post_meta;
pub mod requirements;
pub mod resp;
pub mod scripts;
mod sentinels;
pub mod server_info;
mod session;
mod unprotected;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fred::{
    clients::Client,
    error::Error,
    interfaces::{ClientLike, EventInterface},
    types::{
        Builder,
        config::{ReconnectError, ReconnectPolicy, UnresponsiveConfig},
    },
};
use views_core::log_names;

use tokio::sync::Notify;

pub use self::{
    error::{Code, RedisError, ServerError},
    session::{Breaker, Epoch, Pipeline, Session},
};
use crate::config::RedisSettings;

/// A server that takes longer than this to accept a connection counts as away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The first pause before a reconnection, doubled up to the longest.
const FIRST_PAUSE_MS: u32 = 50;
/// The longest pause between two attempts to reconnect.
const LONGEST_PAUSE_MS: u32 = 1_000;
/// Commands that wait for the connection. More than this many means that nobody waits for their answers any longer.
const MAX_WAITING_COMMANDS: usize = 100_000;

/// Prepares a client. A command without an answer after `timeout` fails, and a connection on which nothing has come
/// back for that long is given up and opened anew.
///
/// # Errors
/// When the settings do not fit together.
pub fn client(settings: &RedisSettings, timeout: Duration) -> Result<Client, Error> {
    let mut config = settings.config.clone();
    // The first connection is as likely to fail as any later one.
    config.fail_fast = false;
    Builder::from_config(config)
        .with_performance_config(|performance| performance.default_command_timeout = timeout)
        .with_connection_config(|connection| {
            connection.connection_timeout = CONNECT_TIMEOUT;
            connection.internal_command_timeout = timeout;
            connection.max_command_attempts = 3;
            connection.max_command_buffer_len = MAX_WAITING_COMMANDS;
            connection.tcp.nodelay = Some(true);
            connection.unresponsive = UnresponsiveConfig { max_timeout: Some(timeout), interval: timeout / 4 };
            // A server that is loading or has become a replica answers, but is not the one to write to.
            connection.reconnect_errors = vec![ReconnectError::Loading, ReconnectError::MasterDown, ReconnectError::ReadOnly];
        })
        // No number of attempts is the last one: fred's task ends with the last, and nothing would bring it back.
        .set_policy(ReconnectPolicy::new_exponential(0, FIRST_PAUSE_MS, LONGEST_PAUSE_MS, 2))
        .build()
}

/// Begins to connect and goes on in the background, for ever. Does not wait for the connection.
pub fn connect(client: &Client, server: String) {
    // Of an outage the beginning and the end are news, and another reason; each failed attempt in between is not.
    let lost = Arc::<Mutex<Option<String>>>::default();
    let (found_again, connected) = (Arc::clone(&lost), server.clone());
    client.on_reconnect(move |_| {
        found_again.lock().unwrap_or_else(PoisonError::into_inner).take();
        tracing::info!(server = connected, "Redis connected");
        async { Ok(()) }
    });
    let asking = client.clone();
    client.on_error(move |(error, _)| {
        sentinels::ask_another(&asking);
        let details = in_words(&sentinels::explain(&error, &asking.client_config().server));
        let before = lost.lock().unwrap_or_else(PoisonError::into_inner).replace(details.clone());
        if before.as_deref() == Some(&*details) {
            tracing::debug!(server, kind = ?error.kind(), details, "Redis is still away");
        } else if before.is_some() {
            tracing::warn!(server, kind = ?error.kind(), details, "Redis is still away");
        } else {
            tracing::warn!(name: log_names::STATE, server, kind = ?error.kind(), details, "Redis connection lost");
        }
        async { Ok(()) }
    });
    client.connect();
}

/// Begins to connect as [`connect`] does, without a word in the log, and waits for the connection.
///
/// # Errors
/// Why there is none after `patience`, in words for an operator.
pub async fn connect_within(client: &Client, patience: Duration) -> Result<(), String> {
    let (connected, reason) = (Arc::new(Notify::new()), Arc::new(Mutex::new("no answer in time".to_owned())));
    let (found, told) = (Arc::clone(&connected), Arc::clone(&reason));
    client.on_reconnect(move |_| {
        found.notify_one();
        async { Ok(()) }
    });
    let asking = client.clone();
    client.on_error(move |(error, _)| {
        sentinels::ask_another(&asking);
        let details = sentinels::explain(&error, &asking.client_config().server);
        *told.lock().unwrap_or_else(PoisonError::into_inner) = in_words(&details);
        async { Ok(()) }
    });
    client.connect();
    let result = tokio::time::timeout(patience, connected.notified()).await;
    result.map_err(|_| reason.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Returns what an error says to people: the library tells those of the system as they stand in its source, such as
/// `Os { code: 111, kind: ConnectionRefused, message: "Connection refused" }`.
#[must_use]
pub fn in_words(details: &str) -> String {
    let read = || {
        let (code, rest) = details.strip_prefix("Os { code: ")?.split_once(',')?;
        let (message, _) = rest.split_once("message: \"")?.1.split_once('"')?;
        Some(format!("{message} (os error {code})"))
    };
    read().unwrap_or_else(|| details.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_are_told_in_words() {
        let refused = format!("{:?}", std::io::Error::from_raw_os_error(111));
        assert_eq!(in_words(&refused), "Connection refused (os error 111)");
        assert_eq!(in_words("Connection closed."), "Connection closed.");
    }
}
