//! A node of a cluster, and what it says when it is asked directly.

use std::net::SocketAddr;
use std::time::Duration;

use fred::types::Value;
use tokio::time::timeout;

use super::members::{self, Member};
use super::wire;
use crate::redis::RedisServer;

/// How long a node may take to answer a command; one that moves keys waits for another node.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// A node that does not say who it is within this time is paused.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// A node of a [`Cluster`](super::Cluster).
pub struct Node {
    pub(super) server: RedisServer,
    pub(super) id: String,
    pub(super) password: Option<String>,
    /// The port that it tells clients and other nodes.
    pub(super) announced: u16,
    pub(super) has_tls: bool,
}

impl Node {
    /// Returns its server, for its process, its folder and its log.
    pub fn server(&self) -> &RedisServer {
        &self.server
    }

    /// Returns the id by which the others know it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns its address as clients are told it: that with TLS, where there is TLS.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.announced))
    }

    /// Sends a command to this node and no other.
    ///
    /// # Errors
    /// The error that it has answered, or why it has not.
    pub async fn command(&self, words: &[&str]) -> Result<Value, String> {
        self.exchange(words, false).await
    }

    /// Sends a command with `ASKING` before it, as a client does that was sent to a node that is yet to have the slot.
    ///
    /// # Errors
    /// The error that it has answered, or why it has not.
    pub async fn ask(&self, words: &[&str]) -> Result<Value, String> {
        self.exchange(words, true).await
    }

    /// Returns the keys of a slot that this node has, whether the slot is its own or not.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn keys_in(&self, slot: u16) -> Vec<String> {
        let keys = self.command(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "1000000"]).await;
        keys.and_then(|keys| keys.convert().map_err(|error| error.to_string())).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns what it knows of the cluster (`CLUSTER NODES`).
    ///
    /// # Errors
    /// Why it does not answer.
    pub async fn members(&self) -> Result<Vec<Member>, String> {
        let text = self.look(&["CLUSTER", "NODES"]).await?.into_string().unwrap_or_default();
        Ok(members::parse(&text))
    }

    /// Returns whether it says that it is a primary.
    ///
    /// # Errors
    /// Why it does not answer.
    pub async fn is_primary(&self) -> Result<bool, String> {
        Ok(self.members().await?.iter().any(|member| member.is_myself && member.is_primary()))
    }

    /// Returns whether it is a replica that has all of its primary's data.
    pub async fn is_in_step(&self) -> bool {
        let role = self.look(&["ROLE"]).await.map(Value::into_array).unwrap_or_default();
        let words: Vec<String> = role.into_iter().filter_map(Value::into_string).collect();
        words.first().is_some_and(|role| role == "slave") && words.iter().any(|word| word == "connected")
    }

    pub(super) async fn look(&self, words: &[&str]) -> Result<Value, String> {
        let exchange = self.exchange(words, false);
        timeout(LOOK_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(format!("{} no answer", wire::AWAY)))
    }

    pub(super) async fn exchange(&self, words: &[&str], asking: bool) -> Result<Value, String> {
        let commands: &[&[&str]] = if asking { &[&["ASKING"], words] } else { &[words] };
        self.pipeline(commands).await?.pop().expect("there is an answer to each command")
    }

    /// Sends commands over one connection. Returns the answer to each.
    pub(super) async fn pipeline(&self, commands: &[&[&str]]) -> Result<Vec<Result<Value, String>>, String> {
        let exchange = wire::exchange(self.server.port(), self.password.as_deref(), commands);
        timeout(COMMAND_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(format!("{} no answer", wire::AWAY)))
    }

    pub(super) fn credentials(&self) -> String {
        self.password.as_ref().map_or_else(String::new, |password| format!("default:{password}@"))
    }
}
