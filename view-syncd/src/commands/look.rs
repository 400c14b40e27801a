//! A look at both stores that changes nothing, not even whose the keys are: where one is away, that is told, and what
//! the other one says all the same.

pub(crate) mod dead;
pub(crate) mod keyspace;
pub(crate) mod outboxes;
pub(crate) mod writes;

use std::{fmt::Display, future::Future, sync::Arc, time::Duration};

use futures_util::future::join_all;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use views_core::owner::Foreign;
use views_postgres::{DatabaseError, observe::ServerState};
use views_redis::{HalfMovedSlot, NodeId, Redis, ownership, server_info::ServerInfo};

use crate::{cli::SyncSettings, context::Context, entry_id::EntryId, metrics::Metrics, owned_session::OwnedSession};

/// How long either store is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a slot has to be half moved.
const MOMENT: Duration = Duration::from_secs(1);

/// Both stores, as far as they answer.
pub(crate) struct Look {
    pub(crate) context: Arc<Context>,
    /// For pipelines that only read. Nothing is sent that depends on whose the keys are.
    pub(crate) session: OwnedSession,
    /// Where Redis is, without secrets.
    pub(crate) redis_url: String,
    /// The number of its database.
    pub(crate) redis_database: u8,
    /// Where PostgreSQL is, without secrets.
    pub(crate) database_url: String,
    /// What Redis says of itself, nothing where that is forbidden, or why it does not answer: of a cluster, what the first
    /// of its primaries says that answers.
    pub(crate) redis: Result<Option<ServerInfo>, String>,
    /// The servers that take writes: one, or the primaries of a cluster.
    pub(crate) nodes: Vec<SeenNode>,
    /// What PostgreSQL says of itself, or why it does not answer.
    pub(crate) database: Result<ServerState, DatabaseError>,
}

/// A server that takes writes.
pub(crate) struct SeenNode {
    pub(crate) node: NodeId,
    /// Where it is; empty where there is no cluster.
    pub(crate) address: String,
    /// What it says of itself, nothing where that is forbidden, or why it does not answer.
    pub(crate) info: Result<Option<ServerInfo>, String>,
}

impl SeenNode {
    async fn ask(redis: &Redis, node: NodeId) -> Self {
        let asked = tokio::time::timeout(PATIENCE, ServerInfo::ask(redis, node)).await;
        let info =
            asked.map_or_else(|_| Err("no answer in time".to_owned()), |info| info.map_err(|error| error.details().to_owned()));
        Self { node, address: redis.address(node).unwrap_or_default(), info }
    }

    /// Returns a text about this server, which begins with its address where there are several.
    pub(crate) fn tell(&self, text: impl Display) -> String {
        if self.address.is_empty() { text.to_string() } else { format!("{}: {text}", self.address) }
    }
}

/// Returns what the first of some servers says that answers.
fn first_info(nodes: &[SeenNode]) -> Result<Option<ServerInfo>, String> {
    let answered = nodes.iter().find(|seen| seen.info.is_ok()).or(nodes.first());
    answered.map_or_else(|| Err("no primary of the cluster is known".to_owned()), |seen| seen.info.clone())
}

impl Look {
    /// Asks both stores what they are.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub(crate) async fn open(settings: &SyncSettings) -> anyhow::Result<Self> {
        let context = Context::unconnected(settings, Metrics::new(&mut Registry::default()), CancellationToken::new())?;
        let redis = async {
            context.redis.connect_within(PATIENCE).await?;
            Ok(join_all(context.redis.nodes().into_iter().map(|node| SeenNode::ask(&context.redis, node))).await)
        };
        let (nodes, database) = tokio::join!(redis, in_time(context.database.server_state()));
        let (redis, nodes) = match nodes {
            Ok(nodes) => (first_info(&nodes), nodes),
            Err(error) => (Err(context.redis.no_cluster().unwrap_or(error)), Vec::new()),
        };
        let session = OwnedSession::new(&context);
        Ok(Self {
            context,
            session,
            redis_url: settings.redis.describe(),
            redis_database: settings.redis.config.database.unwrap_or(0),
            database_url: settings.database.describe(),
            redis,
            nodes,
            database,
        })
    }

    /// Returns Redis's description of itself, where there is one.
    pub(crate) fn info(&self) -> Option<&ServerInfo> {
        self.redis.as_ref().ok()?.as_ref()
    }

    /// Returns whether its keys can be used: it is not a node of a cluster that is spoken to as if it were alone.
    pub(crate) fn is_usable(&self) -> bool {
        self.context.redis.is_clustered() || self.info().is_none_or(|info| !info.is_clustered())
    }

    /// Returns the slots of a cluster that are half moved, and are so still a moment later: a resharding opens each slot for
    /// a moment.
    pub(crate) async fn half_moved_slots(&self) -> Vec<HalfMovedSlot> {
        let mut found = self.context.redis.half_moved_slots().await;
        if !found.is_empty() {
            tokio::time::sleep(MOMENT).await;
            let later = self.context.redis.half_moved_slots().await;
            found.retain(|slot| later.iter().any(|other| (other.slot, &other.to) == (slot.slot, &slot.to)));
        }
        found
    }

    /// Returns the age of an entry, by the clock that its id was made from where that is known.
    pub(crate) fn age(&self, entry: EntryId) -> Duration {
        match self.info().and_then(ServerInfo::clock) {
            Some(clock) => clock.saturating_sub(Duration::from_millis(entry.ms)),
            None => entry.age(),
        }
    }

    /// Returns whose the keys are: this ledger's, another one's, or (nothing) nobody's.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub(crate) async fn owner(&self) -> Result<Option<Result<(), Foreign>>, String> {
        let keys = &self.context.keys;
        let found = match ownership::read(&self.context.redis, keys).await {
            Ok(found) => found,
            Err(error) if ownership::is_forbidden(&error) => {
                let key = keys.owner();
                return Err(format!(
                    "Redis does not let this account use {key}: allow it GET and SET of that key ({})",
                    error.details()
                ));
            }
            Err(error) => return Err(error.details().to_owned()),
        };
        let Some(found) = found else { return Ok(None) };
        let owner = in_time(self.context.database.owner()).await.map_err(|error| error.to_string())?;
        Ok(Some(owner.check(keys, &found)))
    }
}

/// Waits for an answer of PostgreSQL, but not for long.
pub(crate) async fn in_time<T>(work: impl Future<Output = Result<T, DatabaseError>>) -> Result<T, DatabaseError> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(DatabaseError::no_answer()))
}
