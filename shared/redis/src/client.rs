//! The servers that the settings name: one, with Sentinel the primary of the moment, or the nodes of a cluster.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fred::{
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::{ClientLike, EventInterface},
    types::{
        Builder, ClusterHash, CustomCommand, Value,
        config::{Config, ReconnectError, ReconnectPolicy, Server, ServerConfig, UnresponsiveConfig},
    },
};
use tokio::sync::Notify;
use views_core::log_names;

use crate::{
    RedisError, ServerError,
    cluster::{NodeId, pool::Pool, topology::Topology},
    config::RedisSettings,
    in_words,
    resp::{Commands, Reply},
    sentinels,
};

/// A server that takes longer than this to accept a connection counts as away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The first pause before a reconnection, doubled up to the longest.
const FIRST_PAUSE_MS: u32 = 50;
/// The longest pause between two attempts to reconnect.
const LONGEST_PAUSE_MS: u32 = 1_000;
/// Commands that wait for the connection. More than this many means that nobody waits for their answers any longer.
const MAX_WAITING_COMMANDS: usize = 100_000;

/// The servers that the settings name. Clones are the same.
#[derive(Clone)]
pub struct Redis(Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    /// The client library's connection to one server.
    Single(Client),
    Cluster(Arc<Cluster>),
}

/// A cluster, and sessions for what is sent seldom.
pub(crate) struct Cluster {
    pub(crate) topology: Arc<Topology>,
    pool: Pool,
}

impl Cluster {
    /// Returns why a command has no reply: where other nodes answer, that of one of them is away.
    fn error(&self, error: RedisError) -> Error {
        match error {
            error @ (RedisError::Server { .. } | RedisError::Client(_)) => client_error(error),
            error if self.topology.is_up() => {
                Error::new(ErrorKind::Unknown, format!("{} {}", ServerError::AWAY, in_words(&error.to_string())))
            }
            error => client_error(error),
        }
    }
}

impl Redis {
    /// Prepares a client. A command without an answer after `timeout` fails, and a connection on which nothing has come
    /// back for that long is given up and opened anew.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub fn new(settings: &RedisSettings, timeout: Duration) -> Result<Self, Error> {
        if let ServerConfig::Clustered { .. } = &settings.config.server {
            let topology = Topology::new(settings.config.clone());
            let pool = Pool::new(Arc::clone(&topology), timeout);
            return Ok(Self(Kind::Cluster(Arc::new(Cluster { topology, pool }))));
        }
        Ok(Self(Kind::Single(single(settings, timeout)?)))
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.0
    }

    /// Begins to connect and goes on in the background, for ever. Does not wait for the connection.
    pub fn connect(&self, server: String) {
        // Of an outage the beginning and the end are news, and another reason; each failed attempt in between is not.
        let lost = Arc::<Mutex<Option<String>>>::default();
        let (found_again, connected) = (Arc::clone(&lost), server.clone());
        self.on_connected(move || {
            found_again.lock().unwrap_or_else(PoisonError::into_inner).take();
            tracing::info!(server = connected, "Redis connected");
        });
        self.on_lost(move |details, kind| {
            let before = lost.lock().unwrap_or_else(PoisonError::into_inner).replace(details.to_owned());
            if before.as_deref() == Some(details) {
                tracing::debug!(server, kind, details, "Redis is still away");
            } else if before.is_some() {
                tracing::warn!(server, kind, details, "Redis is still away");
            } else {
                tracing::warn!(name: log_names::STATE, server, kind, details, "Redis connection lost");
            }
        });
        self.begin();
    }

    /// Begins to connect as [`connect`](Self::connect) does, without a word in the log, and waits for the connection.
    ///
    /// # Errors
    /// Why there is none after `patience`, in words for an operator.
    pub async fn connect_within(&self, patience: Duration) -> Result<(), String> {
        let (connected, reason) = (Arc::new(Notify::new()), Arc::new(Mutex::new("no answer in time".to_owned())));
        let (found, told) = (Arc::clone(&connected), Arc::clone(&reason));
        self.on_connected(move || found.notify_one());
        self.on_lost(move |details, _| details.clone_into(&mut told.lock().unwrap_or_else(PoisonError::into_inner)));
        self.begin();
        let result = tokio::time::timeout(patience, connected.notified()).await;
        result.map_err(|_| reason.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn begin(&self) {
        match &self.0 {
            Kind::Single(client) => {
                let asking = client.clone();
                client.on_error(move |_| {
                    sentinels::ask_another(&asking);
                    async { Ok(()) }
                });
                drop(client.connect());
            }
            Kind::Cluster(cluster) => cluster.topology.follow(),
        }
    }

    /// Has a function called with each new connection: in a cluster, whenever its nodes answer again after none did, and
    /// when other nodes have become primaries.
    pub fn on_connected(&self, listener: impl Fn() + Send + Sync + 'static) {
        match &self.0 {
            Kind::Single(client) => {
                client.on_reconnect(move |_| {
                    listener();
                    async { Ok(()) }
                });
            }
            Kind::Cluster(cluster) => cluster.topology.on_found(Box::new(move |()| listener())),
        }
    }

    /// Has a function called with the reason, in words and as a kind of error, whenever the connection is lost or cannot
    /// be opened: in a cluster, whenever no node answers.
    pub fn on_lost(&self, listener: impl Fn(&str, &str) + Send + Sync + 'static) {
        match &self.0 {
            Kind::Single(client) => {
                let failed = client.clone();
                client.on_error(move |(error, _)| {
                    let details = in_words(&sentinels::explain(&error, &failed.client_config().server));
                    listener(&details, &format!("{:?}", error.kind()));
                    async { Ok(()) }
                });
            }
            Kind::Cluster(cluster) => {
                cluster.topology.on_lost(Box::new(move |details| listener(&details, "Cluster")));
            }
        }
    }

    /// Returns whether there is a connection: in a cluster, whether any node answered when they were last asked.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        match &self.0 {
            Kind::Single(client) => client.is_connected(),
            Kind::Cluster(cluster) => cluster.topology.is_up(),
        }
    }

    /// In a cluster, waits until any node has answered, but not for longer than that. Commands to a server without a cluster
    /// wait by themselves.
    pub(crate) async fn wait_for_nodes(&self, patience: Duration) {
        if let Kind::Cluster(cluster) = &self.0 {
            cluster.topology.wait(patience).await;
        }
    }

    /// Returns whether it is a cluster, as the settings say.
    #[must_use]
    pub fn is_clustered(&self) -> bool {
        matches!(self.0, Kind::Cluster(_))
    }

    /// Returns why the servers are no cluster, where the settings say that they are one.
    #[must_use]
    pub fn no_cluster(&self) -> Option<String> {
        match &self.0 {
            Kind::Single(_) => None,
            Kind::Cluster(cluster) => cluster.topology.no_cluster(),
        }
    }

    /// Returns the servers that take writes: one, or the primaries of a cluster.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        match &self.0 {
            Kind::Single(_) => vec![NodeId::ONLY],
            Kind::Cluster(cluster) => cluster.topology.primaries(),
        }
    }

    /// Returns the primary of a slot of a cluster, as far as is known.
    #[must_use]
    pub fn node_of_slot(&self, slot: u16) -> Option<NodeId> {
        match &self.0 {
            Kind::Single(_) => Some(NodeId::ONLY),
            Kind::Cluster(cluster) => cluster.topology.slots().owner(slot),
        }
    }

    /// Returns the address of a node of a cluster.
    #[must_use]
    pub fn address(&self, node: NodeId) -> Option<String> {
        match &self.0 {
            Kind::Single(_) => None,
            Kind::Cluster(cluster) => cluster.topology.server(node).map(|server| server.to_string()),
        }
    }

    /// Returns the node of a cluster at an address.
    pub(crate) fn node_at(&self, address: &str) -> Option<NodeId> {
        let Kind::Cluster(cluster) = &self.0 else { return None };
        let (host, port) = address.rsplit_once(':')?;
        cluster.topology.node(&Server::new(host.to_owned(), port.parse().ok()?))
    }

    /// Has the connection opened anew: in a cluster, its nodes are asked again which of them has which slot.
    pub async fn reconnect(&self) {
        match &self.0 {
            // It goes on trying for ever.
            Kind::Single(client) => {
                let _ = client.force_reconnection().await;
            }
            Kind::Cluster(cluster) => cluster.topology.refresh_soon(),
        }
    }

    /// Sends a command, as is done seldom.
    ///
    /// # Errors
    /// Redis's error, also its refusal.
    pub async fn send(&self, words: &[&str]) -> Result<Value, Error> {
        // On the heap: the client library's futures are deep, and whoever sends something seldom has many around it.
        Box::pin(self.send_to(None, words)).await
    }

    /// Sends a command to one of the [`nodes`](Self::nodes).
    ///
    /// # Errors
    /// Redis's error, also its refusal.
    pub async fn send_at(&self, node: NodeId, words: &[&str]) -> Result<Value, Error> {
        Box::pin(self.send_to(Some(node), words)).await
    }

    async fn send_to(&self, node: Option<NodeId>, words: &[&str]) -> Result<Value, Error> {
        let [name, arguments @ ..] = words else { return Ok(Value::Null) };
        match &self.0 {
            Kind::Single(client) => {
                let command = CustomCommand::new((*name).to_owned(), ClusterHash::FirstKey, false);
                client.custom(command, arguments.iter().map(|word| Value::from(*word)).collect::<Vec<_>>()).await
            }
            Kind::Cluster(cluster) => {
                let mut commands = Commands::default();
                commands.command(name, arguments.len());
                for argument in arguments {
                    commands.text(argument);
                }
                let replies = cluster.pool.send(node, &commands).await.map_err(|error| cluster.error(error))?;
                replies.get(0).map_or_else(|| Err(client_error(RedisError::NoReply)), value)
            }
        }
    }
}

/// Prepares the client library for one server.
fn single(settings: &RedisSettings, timeout: Duration) -> Result<Client, Error> {
    let mut config: Config = settings.config.clone();
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

/// Returns an error of a session as the client library's own.
fn client_error(error: RedisError) -> Error {
    match error {
        RedisError::Client(error) => error,
        error => Error::new(ErrorKind::Unknown, error.to_string()),
    }
}

/// Returns a reply as the client library's own.
fn value(reply: Reply<'_>) -> Result<Value, Error> {
    Ok(match reply {
        Reply::Integer(number) => Value::Integer(number),
        Reply::Text(text) => Value::String(text.into()),
        Reply::Bytes(bytes) => Value::Bytes(bytes.to_vec().into()),
        Reply::Null => Value::Null,
        Reply::Error(error) => return Err(Error::new(ErrorKind::Unknown, error.text.to_owned())),
        Reply::List(list) => Value::Array(list.iter().map(value).collect::<Result<_, _>>()?),
    })
}

impl From<Client> for Redis {
    /// Takes a server that the client library is connected to.
    fn from(client: Client) -> Self {
        Self(Kind::Single(client))
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("is_connected", &self.is_connected()).finish_non_exhaustive()
    }
}
