//! Redis and PostgreSQL: connecting, and waiting until both can be worked with.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use fred::{clients::Client, interfaces::ClientLike, types::InfoKind};
use shared::postgres::{Database, DatabaseError};

use crate::{
    cli::{STATEMENT_TIMEOUT, SyncSettings},
    engine::Failure,
};

/// The longest that a command in Redis may take. None of ours takes the server more than a few milliseconds.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
/// One task does all the work; a second connection serves while a broken one is being given up.
const CONNECTIONS: usize = 2;
/// The first pause after a failure, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause; jitter may double it, so that many daemons do not come back all at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The connections to both stores.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Redis.
    pub redis: Client,
    /// PostgreSQL.
    pub database: Arc<Database>,
    allow_eviction: bool,
}

/// Why a store cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// It is away. Waiting helps.
    #[error(transparent)]
    Away(Failure),
    /// It is not set up for this program. The text says what to do.
    #[error("{0}")]
    Setup(String),
}

impl Stores {
    /// Begins to connect to both, and waits for neither.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub fn open(settings: &SyncSettings) -> anyhow::Result<Self> {
        let database = Database::new(&settings.database, settings.posts.clone(), CONNECTIONS, STATEMENT_TIMEOUT)?;
        let redis = shared::redis::client(&settings.redis, COMMAND_TIMEOUT)?;
        shared::redis::connect(&redis, settings.redis.describe());
        Ok(Self { redis, database: Arc::new(database), allow_eviction: settings.allow_eviction })
    }

    /// Asks both stores once.
    ///
    /// # Errors
    /// [`NotReady`].
    pub async fn check(&self) -> Result<(), NotReady> {
        let away = |error: fred::error::Error| NotReady::Away(error.into());
        let memory: String = self.redis.info(Some(InfoKind::Memory)).await.map_err(away)?;
        if let Some(policy) = eviction_policy(&memory).filter(|_| !self.allow_eviction) {
            return Err(NotReady::Setup(format!(
                "Redis may evict views that are not in PostgreSQL yet (maxmemory-policy {policy}): set it to noeviction or to one of \
                 volatile-*, or accept the loss with --allow-eviction (ALLOW_EVICTION)"
            )));
        }
        match self.ask_database().await {
            Ok(()) => Ok(()),
            Err(DatabaseError::Setup(text)) => Err(NotReady::Setup(text)),
            Err(error) => Err(NotReady::Away(error.into())),
        }
    }

    async fn ask_database(&self) -> Result<(), DatabaseError> {
        self.database.ping().await?;
        self.database.schema().await.map(drop)
    }

    /// Waits for both stores, for ever. `before_each_pause` is told how long the next pause is.
    ///
    /// # Errors
    /// The text of [`NotReady::Setup`].
    pub async fn wait(&self, mut before_each_pause: impl FnMut(Duration)) -> Result<(), String> {
        let mut pauses = pauses();
        loop {
            match self.check().await {
                Ok(()) => return Ok(()),
                Err(NotReady::Setup(text)) => return Err(text),
                Err(NotReady::Away(failure)) => {
                    let pause = next_pause(&mut pauses);
                    tracing::warn!("waiting: {failure}");
                    before_each_pause(pause);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// The policy that `INFO memory` tells, where it lets Redis evict keys that have no time to live.
fn eviction_policy(info: &str) -> Option<&str> {
    let policy = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"))?.trim();
    policy.starts_with("allkeys").then_some(policy)
}

/// Pauses after failures: capped, with jitter, without an end.
pub(crate) fn pauses() -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE);
    builder.without_max_times().with_jitter().build()
}

/// The next pause; they never end.
pub(crate) fn next_pause(pauses: &mut ExponentialBackoff) -> Duration {
    pauses.next().unwrap_or(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_policy_that_takes_keys_without_expiry_is_dangerous() {
        assert_eq!(eviction_policy("# Memory\r\nmaxmemory_policy:allkeys-lru\r\nx:1\r\n"), Some("allkeys-lru"));
        for policy in ["noeviction", "volatile-lru"] {
            assert_eq!(eviction_policy(&format!("maxmemory_policy:{policy}\r\n")), None);
        }
        assert_eq!(eviction_policy(""), None);
    }

    #[test]
    fn pauses_grow_to_a_limit_and_never_end() {
        let pauses: Vec<Duration> = pauses().take(100).collect();
        assert_eq!(pauses.len(), 100);
        assert!(pauses.iter().all(|pause| *pause <= 2 * LONGEST_PAUSE));
        assert!(pauses[99] >= LONGEST_PAUSE);
    }
}
