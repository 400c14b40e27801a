//! A look at both stores that changes nothing, not even whose the keys are: where one is away, that is told, and what
//! the other one says all the same.

pub(crate) mod dead;
pub(crate) mod keyspace;
pub(crate) mod writes;

use std::{future::Future, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use views_core::owner::Foreign;
use views_postgres::{DatabaseError, observe::ServerState};
use views_redis::{NodeId, ownership, server_info::ServerInfo};

use crate::{cli::SyncSettings, context::Context, entry_id::EntryId, metrics::Metrics, owned_session::OwnedSession};

/// How long either store is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

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
    /// What Redis says of itself, nothing where that is forbidden, or why it does not answer.
    pub(crate) redis: Result<Option<ServerInfo>, String>,
    /// What PostgreSQL says of itself, or why it does not answer.
    pub(crate) database: Result<ServerState, DatabaseError>,
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
            ServerInfo::ask(&context.redis, NodeId::ONLY).await.map_err(|error| error.details().to_owned())
        };
        let (redis, database) = tokio::join!(redis, in_time(context.database.server_state()));
        let session = OwnedSession::new(&context);
        Ok(Self {
            context,
            session,
            redis_url: settings.redis.describe(),
            redis_database: settings.redis.config.database.unwrap_or(0),
            database_url: settings.database.describe(),
            redis,
            database,
        })
    }

    /// Returns Redis's description of itself, where there is one.
    pub(crate) fn info(&self) -> Option<&ServerInfo> {
        self.redis.as_ref().ok()?.as_ref()
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
