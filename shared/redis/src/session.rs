//! A session: pipelines to the server that the client library is connected to, over a connection that is opened when it is needed and thrown
//! away as soon as anything is wrong with it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use fred::clients::Client;

use crate::{
    Code, Connection, RedisError,
    resp::{Commands, Replies, Reply},
};

/// How often something has happened to the client library's connection. A connection of a session that was opened before may lead to another
/// server than the library's.
pub type Epoch = Arc<AtomicU64>;

/// Pipelines, one after the other.
pub struct Session {
    redis: Client,
    timeout: Duration,
    demands_replicas: bool,
    epoch: Epoch,
    connection: Option<Connection>,
    /// The epoch in which the connection was opened.
    opened_in: u64,
    /// How many connections there have been.
    number: u64,
}

impl Session {
    /// A session without a connection yet, whose exchanges take at most `timeout`.
    #[must_use]
    pub fn new(redis: Client, timeout: Duration, epoch: Epoch) -> Self {
        Self { redis, timeout, demands_replicas: false, epoch, connection: None, opened_in: 0, number: 0 }
    }

    /// Has an exchange fail also where a primary says that its replicas have left it: perhaps for another one.
    #[must_use]
    pub fn demanding_replicas(mut self) -> Self {
        self.demands_replicas = true;
        self
    }

    /// Returns the number of the connection that was used last. What has been read over one is written over no other: that one may lead to another
    /// server.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Sends commands and waits for their replies, of which some may be errors.
    ///
    /// # Errors
    /// [`RedisError`]: the commands may have been carried out or not. The connection is gone; the caller has the client library look for the
    /// server again, unless it was the library that had none.
    pub async fn exchange(&mut self, commands: &Commands, replies: &mut Replies) -> Result<(), RedisError> {
        if commands.is_empty() {
            replies.clear();
            return Ok(());
        }
        let sent = tokio::time::timeout(self.timeout, self.send(commands, replies)).await;
        let result = match sent {
            Ok(Ok(())) => match replies.iter().filter_map(Reply::error).find(|error| self.is_fatal(error.code)) {
                Some(error) => Err(error.into()),
                None => Ok(()),
            },
            Ok(Err(error)) => Err(error),
            Err(_) => Err(RedisError::Timeout),
        };
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    /// The same, over the connection of that number or not at all.
    ///
    /// # Errors
    /// [`RedisError::OtherConnection`], and those of [`exchange`](Self::exchange).
    pub async fn exchange_over(&mut self, number: u64, commands: &Commands, replies: &mut Replies) -> Result<(), RedisError> {
        if self.number != number || !self.is_current() {
            return Err(RedisError::OtherConnection);
        }
        self.exchange(commands, replies).await
    }

    fn is_fatal(&self, code: Code) -> bool {
        code.is_not_primary() || (self.demands_replicas && code == Code::NoReplicas)
    }

    fn is_current(&mut self) -> bool {
        let is_current = self.opened_in == self.epoch.load(SeqCst);
        self.connection.as_mut().is_some_and(|connection| is_current && connection.is_open())
    }

    /// Whoever gives up waiting takes the connection along: only an exchange that was completed leaves it behind.
    async fn send(&mut self, commands: &Commands, replies: &mut Replies) -> Result<(), RedisError> {
        let is_current = self.is_current();
        let mut connection = match self.connection.take() {
            Some(connection) if is_current => connection,
            _ => {
                self.number += 1;
                self.opened_in = self.epoch.load(SeqCst);
                Connection::open(&self.redis).await?
            }
        };
        connection.exchange(commands, replies).await?;
        self.connection = Some(connection);
        Ok(())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("number", &self.number).finish_non_exhaustive()
    }
}
