//! A session: pipelines to the server that the client library is connected to, over a connection that is opened when it
//! is needed. A pipeline is one write, and reads until the last reply is there. As soon as anything is wrong with a
//! connection it is thrown away, so a reply can never be taken for another's.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use fred::{clients::Client, interfaces::ClientLike, types::config::Config};
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    Code, RedisError,
    connection::{self, Stream},
    resp::{Commands, Replies, Reply},
};

/// How much is read at once, in bytes: most batches' replies as a whole.
const READ_SIZE: usize = 32 * 1024;

/// How often something has happened to the client library's connection. A connection of a session that was opened
/// before may lead to another server than the library's.
pub type Epoch = Arc<AtomicU64>;

/// A circuit breaker before a session.
pub trait Breaker: Send + Sync {
    /// Returns whether exchanges may be tried.
    fn is_closed(&self) -> bool;

    /// Notes that an exchange has failed.
    fn failed(self: Arc<Self>, error: &RedisError);
}

/// Pipelines, one after the other.
pub struct Session {
    redis: Client,
    timeout: Duration,
    breaker: Option<Arc<dyn Breaker>>,
    epoch: Epoch,
    connection: Option<Stream>,
    /// The epoch in which the connection was opened.
    opened_in: u64,
    /// How many connections there have been.
    number: u64,
}

impl Session {
    /// Returns a session without a connection yet, whose exchanges take at most `timeout`.
    ///
    /// Without a [circuit breaker](Self::with_breaker), an exchange that fails has the client library connect anew, for
    /// it may be connected to a server that is no longer the primary and would never notice. A primary that its
    /// replicas have left, perhaps for another one, makes an exchange fail, too.
    #[must_use]
    pub fn new(redis: Client, timeout: Duration, epoch: Epoch) -> Self {
        Self { redis, timeout, breaker: None, epoch, connection: None, opened_in: 0, number: 0 }
    }

    /// Puts a circuit breaker before the session, which decides what follows a failure.
    #[must_use]
    pub fn with_breaker(mut self, breaker: Arc<dyn Breaker>) -> Self {
        self.breaker = Some(breaker);
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
        if self.breaker.as_ref().is_some_and(|breaker| !breaker.is_closed()) {
            return Err(RedisError::BreakerOpen);
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
            match &self.breaker {
                Some(breaker) => Arc::clone(breaker).failed(error),
                None if matches!(error, RedisError::NotConnected) => {}
                None => self.reconnect(),
            }
        }
        result
    }

    /// Does the same, over the connection of that number or not at all.
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
        code.is_not_primary() || (self.breaker.is_none() && code == Code::NoReplicas)
    }

    fn is_current(&mut self) -> bool {
        let is_current = self.opened_in == self.epoch.load(SeqCst);
        self.connection.as_mut().is_some_and(|connection| is_current && is_open(connection))
    }

    /// Whoever gives up waiting takes the connection along: only an exchange that was completed leaves it behind.
    async fn send(&mut self, commands: &Commands, replies: &mut Replies) -> Result<(), RedisError> {
        let is_current = self.is_current();
        let mut connection = match self.connection.take() {
            Some(connection) if is_current => connection,
            _ => {
                self.number += 1;
                self.opened_in = self.epoch.load(SeqCst);
                let config = self.redis.client_config();
                let mut connection = connection::open(&self.redis, &config).await?;
                log_in(&mut connection, &config).await?;
                connection
            }
        };
        transmit(&mut connection, commands, replies).await?;
        self.connection = Some(connection);
        Ok(())
    }
}

async fn log_in(connection: &mut Stream, config: &Config) -> Result<(), RedisError> {
    let mut commands = Commands::default();
    match (&config.username, &config.password) {
        (Some(user), Some(password)) => drop(commands.command("AUTH", 2).text(user).text(password)),
        (None, Some(password)) => drop(commands.command("AUTH", 1).text(password)),
        (_, None) => {}
    }
    if let Some(database) = config.database.filter(|database| *database != 0) {
        commands.command("SELECT", 1).number(i64::from(database));
    }
    let mut replies = Replies::default();
    transmit(connection, &commands, &mut replies).await?;
    replies.iter().find_map(Reply::error).map_or(Ok(()), |error| Err(error.into()))
}

/// Sends commands and waits for all replies. After an error, or when the future is dropped, the connection is of no more
/// use.
async fn transmit(connection: &mut Stream, commands: &Commands, replies: &mut Replies) -> Result<(), RedisError> {
    replies.clear();
    connection.write_all(commands.bytes()).await?;
    connection.flush().await?;
    while !replies.parse(commands.len())? {
        replies.bytes.reserve(READ_SIZE);
        if connection.read_buf(&mut replies.bytes).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    if replies.has_more_than_asked_for() { Err(RedisError::Unasked) } else { Ok(()) }
}

/// Returns whether the other end has not closed the connection, as far as this end has heard.
fn is_open(connection: &mut Stream) -> bool {
    // Nothing is ever sent unasked, so whatever there is to read is the end, or nonsense.
    connection.read(&mut [0]).now_or_never().is_none()
}

/// A session, and the memory that one pipeline leaves to the next.
#[derive(Debug)]
pub struct Pipeline {
    /// The session.
    pub session: Session,
    /// What is to be sent.
    pub commands: Commands,
    /// What has come back.
    pub replies: Replies,
}

impl Pipeline {
    /// Returns an empty pipeline.
    #[must_use]
    pub fn new(session: Session) -> Self {
        Self { session, commands: Commands::default(), replies: Replies::default() }
    }

    /// Sends the commands and waits for their replies.
    ///
    /// # Errors
    /// Those of [`Session::exchange`].
    pub async fn exchange(&mut self) -> Result<(), RedisError> {
        self.session.exchange(&self.commands, &mut self.replies).await
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("number", &self.number).finish_non_exhaustive()
    }
}
