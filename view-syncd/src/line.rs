//! The engine's way to Redis for whole pipelines: a link beside the client library's connection, opened when it is needed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use fred::{
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::ClientLike,
};
use views_redis::{
    Code, Connection, RedisError,
    resp::{Commands, Replies, Reply},
};

/// The longest that an exchange may take. None of ours takes the server more than a few milliseconds.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The link, as long as it holds.
pub(crate) struct Line {
    redis: Client,
    /// How often the client library has connected. A link from before may lead to another server than the library's.
    reconnections: Arc<AtomicU64>,
    link: Option<Connection>,
    /// The number of reconnections at which the link was opened.
    opened_at: u64,
    /// How many links there have been.
    links: u64,
}

impl Line {
    pub(crate) fn new(redis: Client, reconnections: Arc<AtomicU64>) -> Self {
        Self { redis, reconnections, link: None, opened_at: 0, links: 0 }
    }

    /// Which link was used last. What has been read over one is settled over no other: that one may lead to another server.
    pub(crate) fn number(&self) -> u64 {
        self.links
    }

    /// Sends commands and waits for their replies, of which some may be errors. When this fails, the commands may have been carried out
    /// or not.
    pub(crate) async fn exchange(&mut self, commands: &Commands, replies: &mut Replies) -> Result<(), Error> {
        if commands.is_empty() {
            replies.clear();
            return Ok(());
        }
        let why = match tokio::time::timeout(TIMEOUT, self.send(commands, replies)).await {
            Ok(Ok(())) => match replies.iter().find_map(elsewhere) {
                Some(words) => Error::new(ErrorKind::Unknown, words.to_owned()),
                None => return Ok(()),
            },
            Ok(Err(RedisError::NotConnected)) => return Err(Error::new(ErrorKind::IO, "not connected")),
            Ok(Err(error)) => Error::new(ErrorKind::IO, error.to_string()),
            Err(_) => Error::new(ErrorKind::Timeout, "no answer in time"),
        };
        self.give_up();
        Err(why)
    }

    /// The same, over a certain link or not at all.
    pub(crate) async fn exchange_over(&mut self, number: u64, commands: &Commands, replies: &mut Replies) -> Result<(), Error> {
        if self.number() != number || !self.is_current() {
            return Err(Error::new(
                ErrorKind::Canceled,
                "the connection is another one than the outbox was read by, so the outbox is read anew",
            ));
        }
        self.exchange(commands, replies).await
    }

    fn is_current(&mut self) -> bool {
        let current = self.opened_at == self.reconnections.load(SeqCst);
        self.link.as_mut().is_some_and(|link| current && link.is_open())
    }

    /// Whoever gives up waiting takes the link along: only an exchange that was completed leaves it behind.
    async fn send(&mut self, commands: &Commands, replies: &mut Replies) -> Result<(), RedisError> {
        let usable = self.is_current();
        let mut link = match self.link.take() {
            Some(link) if usable => link,
            _ => {
                self.links += 1;
                self.opened_at = self.reconnections.load(SeqCst);
                Connection::open(&self.redis).await?
            }
        };
        link.exchange(commands, replies).await?;
        self.link = Some(link);
        Ok(())
    }

    /// Has the client library connect anew: it may be connected to a server that is no longer the one, and would never notice.
    fn give_up(&mut self) {
        self.link = None;
        let redis = self.redis.clone();
        tokio::spawn(async move {
            // It goes on trying for ever.
            let _ = redis.force_reconnection().await;
        });
    }
}

/// What a server says for which another one may be the primary by now: also one that its replicas have left.
fn elsewhere(reply: Reply<'_>) -> Option<&str> {
    match reply {
        Reply::Error(error) if error.code.is_not_primary() || error.code == Code::NoReplicas => Some(error.text),
        _ => None,
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("links", &self.links).finish_non_exhaustive()
    }
}
