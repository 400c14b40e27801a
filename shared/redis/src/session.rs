//! A session: pipelines to the server that the client library is connected to, over a connection that is opened when it
//! is needed and thrown away as soon as anything is wrong with it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use fred::{clients::Client, interfaces::ClientLike};

use crate::{
    Code, Connection, RedisError,
    resp::{Commands, Replies, Reply},
};

/// How often something has happened to the client library's connection. A connection of a session that was opened
/// before may lead to another server than the library's.
pub type Epoch = Arc<AtomicU64>;

/// Pipelines, one after the other.
pub struct Session {
    redis: Client,
    timeout: Duration,
    has_breaker: bool,
    epoch: Epoch,
    connection: Option<Connection>,
    /// The epoch in which the connection was opened.
    opened_in: u64,
    /// How many connections there have been.
    number: u64,
}

impl Session {
    /// Returns a session without a connection yet, whose exchanges take at most `timeout`.
    #[must_use]
    pub fn new(redis: Client, timeout: Duration, epoch: Epoch) -> Self {
        Self { redis, timeout, has_breaker: true, epoch, connection: None, opened_in: 0, number: 0 }
    }

    /// For who has no circuit breaker that looks after the client library's connection: an exchange that fails has the
    /// library connect anew, for it may be connected to a server that is no longer the primary and would never notice.
    /// A primary that its replicas have left, perhaps for another one, makes an exchange fail, too.
    #[must_use]
    pub fn without_breaker(mut self) -> Self {
        self.has_breaker = false;
        self
    }

    /// Returns the number of the connection that was used last. What has been read over one is written over no other:
    /// that one may lead to another server.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Sends commands and waits for their replies, of which some may be errors.
    ///
    /// # Errors
    /// [`RedisError`]: the commands may have been carried out or not, and the connection is gone.
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
        if let Err(error) = &result {
            self.connection = None;
            if !self.has_breaker && !matches!(error, RedisError::NotConnected) {
                self.reconnect();
            }
        }
        result
    }

    /// Returns the same, over the connection of that number or not at all.
    ///
    /// # Errors
    /// [`RedisError::OtherConnection`], and those of [`exchange`](Self::exchange).
    pub async fn exchange_over(&mut self, number: u64, commands: &Commands, replies: &mut Replies) -> Result<(), RedisError> {
        if self.number != number || !self.is_current() {
            return Err(RedisError::OtherConnection);
        }
        self.exchange(commands, replies).await
    }

    fn reconnect(&self) {
        let redis = self.redis.clone();
        tokio::spawn(async move {
            // It goes on trying for ever.
            let _ = redis.force_reconnection().await;
        });
    }

    fn is_fatal(&self, code: Code) -> bool {
        code.is_not_primary() || (!self.has_breaker && code == Code::NoReplicas)
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
