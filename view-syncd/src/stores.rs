//! Redis and PostgreSQL: connecting, and waiting until both can be worked with.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use fred::{
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::EventInterface,
};
use prometheus_client::metrics::gauge::Gauge;
use views_core::keys::Keys;
use views_postgres::{Database, DatabaseError};
use views_redis::{
    ownership,
    requirements::{self, Notices, Report},
};

use crate::{
    cli::{STATEMENT_TIMEOUT, SyncSettings},
    engine::Failure,
};

/// The longest that a command in Redis may take. None of ours takes the server more than a few milliseconds.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
/// One task does all the work; a second connection serves while a broken one is being given up.
const CONNECTIONS: usize = 3;
/// A full batch is sorted and joined in memory. Nothing is compiled: the planner takes a statement for so costly that it has the server
/// spend four tenths of a second on compiling what then runs for as long.
const SESSION_OPTIONS: &str = "-c jit=off -c work_mem=64MB";
/// The first pause after a failure, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause; jitter may double it, so that many daemons do not come back all at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause where somebody has locked a whole table.
const LONGEST_LOCK_PAUSE: Duration = Duration::from_secs(1);

/// The connections to both stores.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Redis.
    pub redis: Client,
    /// The names of all keys in it.
    pub keys: Keys,
    /// PostgreSQL.
    pub database: Arc<Database>,
    /// Whether this Redis will do.
    pub watch: RedisWatch,
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

/// Looks whether Redis is as it is needed, and says in the log what is not.
#[derive(Debug, Clone, Default)]
pub struct RedisWatch {
    allow_eviction: bool,
    notices: Arc<Notices>,
    /// Whether the keys belong to another database.
    foreign: Arc<AtomicBool>,
    /// Whether it was in cluster mode when it was last asked.
    clustered: Arc<AtomicBool>,
    /// Whether views are not safe in Redis, for operators.
    pub(crate) unfit: Gauge,
}

impl RedisWatch {
    /// Whether Redis takes writes. A server that loads its data or follows another one can perhaps be read, and no more.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) async fn writable(&self, redis: &Client) -> Result<(), Error> {
        let report = requirements::inspect(redis, self.allow_eviction).await?;
        self.note(&report);
        writable(&report)
    }

    fn note(&self, report: &Report) {
        self.notices.tell(report);
        self.clustered.store(report.is_clustered, Relaxed);
        self.set_misconfigured();
    }

    /// Whether it was in cluster mode when it was last asked.
    pub(crate) fn is_clustered(&self) -> bool {
        self.clustered.load(Relaxed)
    }

    /// Notes whether the keys belong to another database.
    pub(crate) fn note_owner(&self, foreign: bool) {
        if self.foreign.swap(foreign, Relaxed) != foreign {
            self.set_misconfigured();
        }
    }

    fn set_misconfigured(&self) {
        self.unfit.set(i64::from(self.foreign.load(Relaxed) || self.notices.refusal().is_some()));
    }

    /// Looks again with each new connection: Redis may have been started anew with other settings. A daemon that runs only says so,
    /// because nothing would be gained by leaving the views where they are.
    fn follow(&self, redis: &Client) {
        let (watch, followed) = (self.clone(), redis.clone());
        redis.on_reconnect(move |_| {
            let (watch, redis) = (watch.clone(), followed.clone());
            async move {
                // Where the connection is lost again, the next one brings the next look.
                let _ = watch.writable(&redis).await;
                Ok(())
            }
        });
    }
}

fn writable(report: &Report) -> Result<(), Error> {
    // One that may evict views is emptied all the same. This one cannot be: what is stored of it could not be acknowledged.
    let clustered = report.is_clustered.then_some("it is in cluster mode");
    report.pause.or(clustered).map_or(Ok(()), |why| Err(Error::new(ErrorKind::Unknown, why)))
}

impl Stores {
    /// Begins to connect to both, and waits for neither.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub fn open(settings: &SyncSettings) -> anyhow::Result<Self> {
        let mut database = settings.database.clone();
        let options = database.config.get_options().unwrap_or_default();
        let options = format!("{options} {SESSION_OPTIONS}");
        database.config.options(options.trim_start());
        let database = Database::new(&database, settings.posts.clone(), CONNECTIONS, STATEMENT_TIMEOUT)?;
        let redis = views_redis::client(&settings.redis, COMMAND_TIMEOUT)?;
        let watch = RedisWatch { allow_eviction: settings.redis.allow_eviction, ..RedisWatch::default() };
        views_redis::connect(&redis, settings.redis.describe());
        let keys = settings.redis.keys.clone();
        Ok(Self { redis, keys, database: Arc::new(database), watch })
    }

    /// Asks both stores once, and whose the keys are. Where they are nobody's, they become this ledger's.
    ///
    /// # Errors
    /// [`NotReady`].
    pub async fn check(&self) -> Result<(), NotReady> {
        self.check_unowned().await?;
        let owner = self.database.owner().await.map_err(not_ready)?;
        match ownership::take(&self.redis, &self.keys, &owner).await {
            Ok(taken) => taken.map_err(|foreign| NotReady::Setup(foreign.to_string())),
            Err(error) if ownership::is_forbidden(&error) => {
                let key = self.keys.owner();
                Err(NotReady::Setup(format!(
                    "Redis does not let this account use {key}: allow it GET and SET of that key ({error})"
                )))
            }
            Err(error) => Err(NotReady::Away(error.into())),
        }
    }

    /// Asks both stores once, whosever the keys are.
    async fn check_unowned(&self) -> Result<(), NotReady> {
        let redis = self.ask_redis().await;
        if let Err(NotReady::Setup(_)) = redis {
            return redis;
        }
        // Also where Redis is away: what is wrong with PostgreSQL is not cured by waiting for Redis.
        match self.ask_database().await.map_err(not_ready) {
            Ok(()) => redis,
            Err(setup @ NotReady::Setup(_)) => Err(setup),
            Err(away) => redis.and(Err(away)),
        }
    }

    async fn ask_redis(&self) -> Result<(), NotReady> {
        let away = |error: Error| NotReady::Away(error.into());
        let report = requirements::inspect(&self.redis, self.watch.allow_eviction).await.map_err(away)?;
        if let Some(text) = report.refusal {
            return Err(NotReady::Setup(text));
        }
        self.watch.note(&report);
        writable(&report).map_err(away)
    }

    async fn ask_database(&self) -> Result<(), DatabaseError> {
        self.database.ping().await?;
        self.database.schema().await.map(drop)
    }

    /// Waits for both stores, for ever. `before_each_pause` is told how long the next pause is.
    ///
    /// # Errors
    /// The text of [`NotReady::Setup`].
    pub async fn wait(&self, before_each_pause: impl FnMut(Duration)) -> Result<(), String> {
        wait(async || self.check().await, before_each_pause).await?;
        self.watch.follow(&self.redis);
        Ok(())
    }

    /// Waits for both stores, for ever, whosever the keys are.
    ///
    /// # Errors
    /// The text of [`NotReady::Setup`].
    pub(crate) async fn wait_unowned(&self) -> Result<(), String> {
        wait(async || self.check_unowned().await, |_| ()).await
    }
}

fn not_ready(error: DatabaseError) -> NotReady {
    match error {
        DatabaseError::Setup(text) => NotReady::Setup(text),
        error => NotReady::Away(error.into()),
    }
}

async fn wait(check: impl AsyncFn() -> Result<(), NotReady>, mut before_each_pause: impl FnMut(Duration)) -> Result<(), String> {
    let mut pauses = pauses();
    loop {
        match check().await {
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

/// Pauses after failures: capped, with jitter, without an end.
pub(crate) fn pauses() -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE);
    builder.without_max_times().with_jitter().build()
}

/// The next pause after a failure of the drain. A lock is gone without anybody's telling, and to ask for it costs next to nothing.
pub(crate) fn pause_after(failure: &Failure, pauses: &mut ExponentialBackoff) -> Duration {
    let pause = next_pause(pauses);
    if matches!(failure, Failure::Database(DatabaseError::Locked(_))) { pause.min(LONGEST_LOCK_PAUSE) } else { pause }
}

/// The next pause; they never end.
pub(crate) fn next_pause(pauses: &mut ExponentialBackoff) -> Duration {
    pauses.next().unwrap_or(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_never_end() {
        let pauses: Vec<Duration> = pauses().take(100).collect();
        assert_eq!(pauses.len(), 100);
        assert!(pauses.iter().all(|pause| *pause <= 2 * LONGEST_PAUSE));
        assert!(pauses[99] >= LONGEST_PAUSE);
    }
}
