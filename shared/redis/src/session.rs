//! A session: pipelines to the server that the client library is connected to, or to the nodes of a cluster, over
//! connections that are opened when they are needed. A pipeline is one write, and reads until the last reply is there. As soon as anything is wrong with a
//! connection it is thrown away, so a reply can never be taken for another's.

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
    Code, RedisError,
    breaker::Breaker,
    client::{Kind, Redis},
    cluster::{Answered, ClusterSession, NodeId},
    connection::{self, Stream, is_open, log_in, transmit},
    resp::{Commands, Replies, Reply},
};

/// How often something has happened to the client library's connection. A connection of a session that was opened
/// before may lead to another server than the library's.
pub type Epoch = Arc<AtomicU64>;

/// Pipelines, one after the other.
pub struct Session {
    timeout: Duration,
    breaker: Option<Arc<dyn Breaker>>,
    to: To,
}

enum To {
    Single(SingleSession),
    Cluster(ClusterSession),
}

/// Pipelines to one server.
struct SingleSession {
    redis: Client,
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
    pub fn new(redis: &Redis, timeout: Duration, epoch: Epoch) -> Self {
        let to = match redis.kind() {
            Kind::Single(client) => {
                let redis = client.clone();
                To::Single(SingleSession { redis, epoch, connection: None, opened_in: 0, number: 0 })
            }
            Kind::Cluster(cluster) => To::Cluster(ClusterSession::new(Arc::clone(&cluster.topology))),
        };
        Self { timeout, breaker: None, to }
    }

    /// Puts circuit breakers before the session, which decide what follows a failure.
    #[must_use]
    pub fn with_breaker(mut self, breaker: Arc<dyn Breaker>) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Returns the number of the connection that was used last; in a cluster, of the one over which the last command of
    /// a pipeline was answered. What has been read over one is written over no other: that one may lead to another
    /// server.
    #[must_use]
    pub fn number(&self) -> u64 {
        match &self.to {
            To::Single(single) => single.number,
            To::Cluster(cluster) => cluster.number,
        }
    }

    /// Returns by whom a command of the last [`exchange`](Self::exchange) was answered, by its place; none where it was not.
    #[must_use]
    pub fn answered(&self, place: usize) -> Option<Answered> {
        match &self.to {
            To::Single(single) => Some(Answered { number: single.number, slot: None, owner: None }),
            To::Cluster(cluster) => cluster.answered(place),
        }
    }

    /// Returns whether whoever has answered a command would be asked again, over the same connection: then it is still
    /// the server, or the primary of the slot, that it was.
    pub fn would_answer(&mut self, answered: &Answered) -> bool {
        match &mut self.to {
            To::Single(single) => single.has(answered.number),
            To::Cluster(cluster) => cluster.would_answer(answered),
        }
    }

    /// Returns the number of the connection that was opened last: in a cluster, to whichever node.
    #[must_use]
    pub fn newest(&self) -> u64 {
        match &self.to {
            To::Single(single) => single.number,
            To::Cluster(cluster) => cluster.newest(),
        }
    }

    /// Sends commands and waits for their replies, of which some may be errors. In a cluster, each goes to the node that
    /// has its key, and those of nodes that are away have the error [`Code::Away`].
    ///
    /// # Errors
    /// [`RedisError`]: the commands may have been carried out or not, and the connection is gone. In a cluster, no node
    /// has answered any of them, and each of them has that error all the same.
    pub async fn exchange(&mut self, commands: &Commands, replies: &mut Replies) -> Result<(), RedisError> {
        if commands.is_empty() {
            replies.clear();
            return Ok(());
        }
        match &mut self.to {
            To::Single(single) => single.exchange(commands, replies, self.timeout, self.breaker.as_ref()).await,
            // On the heap: it is larger than what is done without a cluster.
            To::Cluster(cluster) => Box::pin(cluster.exchange(commands, replies, self.timeout, self.breaker.as_ref())).await,
        }
    }

    /// Does the same, as long as there is the connection of that number. In a cluster, other nodes have connections of
    /// their own.
    ///
    /// # Errors
    /// [`RedisError::OtherConnection`], and those of [`exchange`](Self::exchange).
    pub async fn exchange_over(&mut self, number: u64, commands: &Commands, replies: &mut Replies) -> Result<(), RedisError> {
        let has = match &mut self.to {
            To::Single(single) => single.has(number),
            To::Cluster(cluster) => cluster.has(number),
        };
        if has { self.exchange(commands, replies).await } else { Err(RedisError::OtherConnection) }
    }

    /// Sends commands over the connection of that number or not at all. In a cluster, they are about one slot, which may
    /// be on its way to or from that node.
    ///
    /// # Errors
    /// [`RedisError::OtherConnection`], and those of [`exchange`](Self::exchange).
    pub async fn exchange_on(&mut self, number: u64, commands: &Commands, replies: &mut Replies) -> Result<(), RedisError> {
        match &mut self.to {
            To::Cluster(cluster) => Box::pin(cluster.exchange_on(number, commands, replies, self.timeout)).await,
            To::Single(_) => self.exchange_over(number, commands, replies).await,
        }
    }

    /// Sends commands to a node of a cluster, whatever slots it has.
    ///
    /// # Errors
    /// Those of [`exchange`](Self::exchange).
    pub async fn exchange_at(&mut self, node: NodeId, commands: &Commands, replies: &mut Replies) -> Result<(), RedisError> {
        match &mut self.to {
            To::Cluster(cluster) => Box::pin(cluster.exchange_at(node, false, commands, replies, self.timeout)).await,
            To::Single(_) => self.exchange(commands, replies).await,
        }
    }

    /// Sends commands about slots that are on their way to a node of a cluster, and that nobody may know to be there.
    ///
    /// # Errors
    /// Those of [`exchange`](Self::exchange).
    pub async fn exchange_asking(&mut self, node: NodeId, commands: &Commands, replies: &mut Replies) -> Result<(), RedisError> {
        match &mut self.to {
            To::Cluster(cluster) => Box::pin(cluster.exchange_at(node, true, commands, replies, self.timeout)).await,
            To::Single(_) => self.exchange(commands, replies).await,
        }
    }
}

impl SingleSession {
    async fn exchange(
        &mut self,
        commands: &Commands,
        replies: &mut Replies,
        timeout: Duration,
        breaker: Option<&Arc<dyn Breaker>>,
    ) -> Result<(), RedisError> {
        if breaker.is_some_and(|breaker| !breaker.is_closed(NodeId::ONLY)) {
            return Err(RedisError::BreakerOpen);
        }
        let is_fatal = |code: Code| code.is_not_primary() || (breaker.is_none() && code == Code::NoReplicas);
        let sent = tokio::time::timeout(timeout, self.send(commands, replies)).await;
        let result = match sent {
            Ok(Ok(())) => match replies.iter().filter_map(Reply::error).find(|error| is_fatal(error.code)) {
                Some(error) => Err(error.into()),
                None => Ok(()),
            },
            Ok(Err(error)) => Err(error),
            Err(_) => Err(RedisError::Timeout),
        };
        if let Err(error) = &result {
            self.connection = None;
            match breaker {
                Some(breaker) => Arc::clone(breaker).failed(NodeId::ONLY, error),
                None if matches!(error, RedisError::NotConnected) => {}
                None => self.reconnect(),
            }
        }
        result
    }

    fn has(&mut self, number: u64) -> bool {
        self.number == number && self.is_current()
    }

    fn reconnect(&self) {
        let redis = self.redis.clone();
        tokio::spawn(async move {
            // It goes on trying for ever.
            let _ = redis.force_reconnection().await;
        });
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
        transmit(&mut connection, commands.bytes(), commands.len(), replies).await?;
        self.connection = Some(connection);
        Ok(())
    }
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
        f.debug_struct("Session").field("number", &self.number()).finish_non_exhaustive()
    }
}
