//! Errors: what Redis answers ([`ServerError`]), and why there is no answer ([`RedisError`]).

use std::{fmt, io};

use fred::error::Error;
use redis_protocol::error::RedisProtocolError;
use rustls::pki_types::InvalidDnsNameError;

/// What an error reply means, by the code in front of its text.
///
/// Source: the codes in Redis's `server.c` and `networking.c`, and those of `cluster.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The server is a replica that takes no writes.
    ReadOnly,
    /// The server loads its data.
    Loading,
    /// The server is a replica whose primary is away.
    MasterDown,
    /// The connection is not logged in, mostly because the server was replaced.
    NoAuth,
    /// Too few replicas are connected (`min-replicas-to-write`).
    NoReplicas,
    /// A script runs for too long.
    Busy,
    /// The server cannot save its data, and refuses writes for that.
    Misconfigured,
    /// There is no memory for a write.
    OutOfMemory,
    /// The key holds a value of another type.
    WrongType,
    /// The user lacks a right.
    NoPermission,
    /// The slot belongs to another node of the cluster.
    Moved,
    /// The key is on its way to another node of the cluster.
    Ask,
    /// Some keys of the command are on their way to another node of the cluster.
    TryAgain,
    /// The cluster does not serve the slot.
    ClusterDown,
    /// The keys of the command are in several slots.
    CrossSlot,
    /// The node of the cluster that has the key is away. No server says that, but whoever has sent the command.
    Away,
    /// Anything about the command itself (`ERR`): its arguments, or the value that it works on.
    Generic,
    /// A code that this program does not know.
    Other,
}

const CODES: [(&str, Code); 17] = [
    ("READONLY", Code::ReadOnly),
    ("LOADING", Code::Loading),
    ("MASTERDOWN", Code::MasterDown),
    ("NOAUTH", Code::NoAuth),
    ("NOREPLICAS", Code::NoReplicas),
    ("BUSY", Code::Busy),
    ("MISCONF", Code::Misconfigured),
    ("OOM", Code::OutOfMemory),
    ("WRONGTYPE", Code::WrongType),
    ("NOPERM", Code::NoPermission),
    ("MOVED", Code::Moved),
    ("ASK", Code::Ask),
    ("TRYAGAIN", Code::TryAgain),
    ("CLUSTERDOWN", Code::ClusterDown),
    ("CROSSSLOT", Code::CrossSlot),
    (ServerError::AWAY, Code::Away),
    ("ERR", Code::Generic),
];

impl Code {
    /// Returns the code of an error's text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let word = text.split(' ').next().unwrap_or_default();
        CODES.iter().find(|(name, _)| *name == word).map_or(Self::Other, |(_, code)| *code)
    }

    /// Returns whether the server is not, or not yet, the one to write to, so that nothing that it says is worth anything.
    #[must_use]
    pub fn is_not_primary(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Loading | Self::MasterDown | Self::NoAuth)
    }

    /// Returns whether it says something of one node of a cluster, or of one slot, and nothing of the others.
    #[must_use]
    pub fn is_about_a_node(self) -> bool {
        let is_about_a_slot = matches!(self, Self::Away | Self::ClusterDown | Self::Moved | Self::Ask | Self::TryAgain);
        let is_refused = matches!(self, Self::NoReplicas | Self::OutOfMemory | Self::Misconfigured | Self::Busy);
        is_about_a_slot || is_refused || self.is_not_primary()
    }

    /// Returns whether the server is well and refuses one command for what the key holds: a value of another type, or a
    /// field that is no number.
    #[must_use]
    pub fn is_about_the_key(self) -> bool {
        matches!(self, Self::WrongType | Self::Generic)
    }
}

/// An error reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerError<'a> {
    /// What it means.
    pub code: Code,
    /// Redis's own words, with the code in front.
    pub text: &'a str,
}

impl<'a> ServerError<'a> {
    /// What the text begins with where a node of a cluster is away.
    pub(crate) const AWAY: &'static str = "AWAY";

    /// Reads an error's text.
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        Self { code: Code::of(text), text }
    }
}

impl fmt::Display for ServerError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// Why a pipeline has no replies, or none that can be used. Some of its commands may have been carried out all the
/// same, or may be yet.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The client library has no connection, so nobody knows where the server is.
    #[error("not connected")]
    NotConnected,
    /// The circuit breaker is open, so nothing was tried.
    #[error("the circuit breaker is open")]
    BreakerOpen,
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server's name cannot be on a certificate.
    #[error(transparent)]
    Name(#[from] InvalidDnsNameError),
    /// What came back was no reply.
    #[error("not Redis's protocol: {0}")]
    Protocol(#[from] RedisProtocolError),
    /// More came back than was asked for.
    #[error("a reply that nobody asked for")]
    Unasked,
    /// The reply is of a kind that the command does not have.
    #[error("a reply of an unexpected kind")]
    UnexpectedReply,
    /// A command has no reply.
    #[error("a reply is missing")]
    NoReply,
    /// No answer came in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection is another one than the one that was asked for.
    #[error("the connection is another one than the outbox was read by, so the outbox is read anew")]
    OtherConnection,
    /// The server refuses.
    #[error("{text}")]
    Server {
        /// What its error means.
        code: Code,
        /// Redis's own words.
        text: String,
    },
    /// The client library failed.
    #[error(transparent)]
    Client(Error),
}

impl RedisError {
    /// Returns what the server's error means, where it was the server that refused.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Server { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Returns whether a node of a cluster is away, of which whoever sends to it has taken note.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.code() == Some(Code::Away)
    }
}

impl From<ServerError<'_>> for RedisError {
    fn from(ServerError { code, text }: ServerError<'_>) -> Self {
        Self::Server { code, text: text.to_owned() }
    }
}

impl From<Error> for RedisError {
    /// The client library keeps a server's error as the details of its own.
    fn from(error: Error) -> Self {
        match Code::of(error.details()) {
            Code::Other => Self::Client(error),
            code => Self::Server { code, text: error.details().to_owned() },
        }
    }
}

#[cfg(test)]
mod tests {
    use fred::error::ErrorKind;

    use super::*;

    #[test]
    fn a_code_is_the_first_word() {
        assert_eq!(Code::of("WRONGTYPE Operation against a key"), Code::WrongType);
        assert_eq!(Code::of("OOM command not allowed when used memory > 'maxmemory'."), Code::OutOfMemory);
        assert_eq!(Code::of("BUSYKEY Target key name already exists."), Code::Other);
        assert_eq!(Code::of(""), Code::Other);
    }

    #[test]
    fn a_server_error_is_known_behind_the_client_library_s() {
        let error = RedisError::from(Error::new(ErrorKind::Unknown, "NOPERM this user has no permissions"));
        assert_eq!(error.code(), Some(Code::NoPermission));
        assert_eq!(error.to_string(), "NOPERM this user has no permissions");
        assert!(RedisError::from(Error::new(ErrorKind::IO, "broken pipe")).code().is_none());
    }
}
