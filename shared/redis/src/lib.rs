//! The connection to Redis: it reconnects for ever, waits for nothing without a deadline, and says in the log when it
//! comes and goes.

mod breaker;
mod client;
mod cluster;
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

pub use self::{
    breaker::Breaker,
    client::Redis,
    cluster::{Answered, HalfMovedSlot, NodeId, NodeView, OpenSlot, Way},
    error::{Code, RedisError, ServerError},
    session::{Epoch, Pipeline, Session},
};

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
