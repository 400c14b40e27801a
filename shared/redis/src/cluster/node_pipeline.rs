//! The part of a pipeline that goes to one node, and the connection to it.

use fred::types::config::Config;
use tokio::time::{Instant, timeout_at};

use super::topology::Topology;
use crate::{
    RedisError,
    cluster::NodeId,
    connection::{Stream, connect, is_open, log_in, transmit},
    resp::{Commands, Replies, Reply},
};

/// The part of a pipeline that goes to one node, and the connection to it. As soon as anything is wrong with the
/// connection, it is thrown away.
#[derive(Default)]
pub(super) struct NodePipeline {
    connection: Option<Stream>,
    /// The number of that connection, of which there is no other in the session.
    number: u64,
    bytes: Vec<u8>,
    /// How many commands those are, `ASKING` too.
    sent: usize,
    /// The commands by their places in the whole pipeline, and whether `ASKING` stands before each.
    pub(super) commands: Vec<(usize, bool)>,
    pub(super) replies: Replies,
    pub(super) result: Option<Result<(), RedisError>>,
}

impl NodePipeline {
    /// Forgets what was sent last, and keeps the connection.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.commands.clear();
        self.sent = 0;
        self.result = None;
    }

    /// Adds the command that has a place in the whole pipeline.
    pub(super) fn add(&mut self, place: usize, bytes: &[u8], is_asking: bool) {
        if is_asking {
            let mut asking = Commands::default();
            asking.command("ASKING", 0);
            self.bytes.extend_from_slice(asking.bytes());
            self.sent += 1;
        }
        self.bytes.extend_from_slice(bytes);
        self.sent += 1;
        self.commands.push((place, is_asking));
    }

    /// Returns the number of the connection that was opened last.
    pub(super) fn last_number(&self) -> u64 {
        self.number
    }

    /// Returns the number of the connection, where it is open as far as is known.
    pub(super) fn open_number(&mut self) -> Option<u64> {
        let is_open = self.connection.as_mut().is_some_and(is_open);
        is_open.then_some(self.number)
    }

    /// Sends the commands and reads all replies, over the open connection or a new one, which gets the next number.
    pub(super) async fn run(&mut self, node: NodeId, topology: &Topology, next_number: u64, deadline: Instant) {
        let result = timeout_at(deadline, self.send(node, topology, next_number)).await.unwrap_or(Err(RedisError::Timeout));
        // A node that is no primary, or not yet, says nothing that is worth anything.
        let result = result.and_then(|()| {
            let error = self.replies.iter().filter_map(Reply::error).find(|error| error.code.is_not_primary());
            error.map_or(Ok(()), |error| Err(error.into()))
        });
        if result.is_err() {
            self.connection = None;
        }
        self.result = Some(result);
    }

    /// Whoever gives up waiting takes the connection along: only an exchange that was completed leaves it behind.
    async fn send(&mut self, node: NodeId, topology: &Topology, next_number: u64) -> Result<(), RedisError> {
        if self.open_number().is_none() {
            self.connection = None;
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = open(node, topology, &topology.config).await?;
                self.number = next_number;
                connection
            }
        };
        transmit(&mut connection, &self.bytes, self.sent, &mut self.replies).await?;
        self.connection = Some(connection);
        Ok(())
    }
}

async fn open(node: NodeId, topology: &Topology, config: &Config) -> Result<Stream, RedisError> {
    let server = topology.server(node).ok_or(RedisError::NotConnected)?;
    let mut connection = connect(config, &server).await?;
    log_in(&mut connection, config).await?;
    Ok(connection)
}
