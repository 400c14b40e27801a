//! What belongs to the process: the clients of both stores, the settings, and what operators see. Every part of the
//! work holds it.

pub mod backoff;
pub(crate) mod half_moved;
pub mod health;
pub mod progress;
pub mod redis_watch;
pub mod startup;
pub(crate) mod store_failures;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use views_core::keys::Keys;
use views_postgres::{Database, DatabaseError};
use views_redis::{Code, Redis, RedisError};

use self::{half_moved::HalfMoved, health::Health, progress::Progress, redis_watch::RedisWatch, store_failures::StoreFailures};
use crate::{
    cli::{STATEMENT_TIMEOUT, SyncSettings, WorkSettings},
    error::Failure,
    metrics::Metrics,
};

/// The longest that a command in Redis may take. None of ours takes the server more than a few milliseconds.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
/// A drain stores a batch by two statements side by side.
const DRAIN_CONNECTIONS: usize = 2;
/// For the warm-up, and for when a broken connection is being given up.
const MORE_CONNECTIONS: usize = 1;
/// A full batch is sorted and joined in memory. Nothing is compiled: the planner takes a statement for so costly that
/// it has the server spend four tenths of a second on compiling what then runs for as long.
const SESSION_OPTIONS: &str = "-c jit=off -c work_mem=64MB";

/// What belongs to the process.
#[derive(Debug)]
pub struct Context {
    /// Redis, for what is sent seldom.
    pub(crate) redis: Redis,
    /// How often it has connected.
    pub(crate) reconnections: Arc<AtomicU64>,
    pub(crate) redis_watch: RedisWatch,
    /// The names of all keys.
    pub(crate) keys: Keys,
    pub(crate) database: Arc<Database>,
    pub(crate) settings: WorkSettings,
    pub(crate) metrics: Metrics,
    /// Cancelled when the process is to stop.
    pub(crate) stop: CancellationToken,
    pub(crate) health: Health,
    pub(crate) progress: Progress,
    pub(crate) store_failures: StoreFailures,
    pub(crate) half_moved: HalfMoved,
}

impl Context {
    /// Begins to connect to both stores, and waits for neither.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub fn open(settings: &SyncSettings, metrics: Metrics, stop: CancellationToken) -> anyhow::Result<Arc<Self>> {
        let context = Self::unconnected(settings, metrics, stop)?;
        context.redis.connect(settings.redis.describe());
        Ok(context)
    }

    /// Does the same without connecting to Redis.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub fn unconnected(settings: &SyncSettings, metrics: Metrics, stop: CancellationToken) -> anyhow::Result<Arc<Self>> {
        let mut database = settings.database.clone();
        let options = database.config.get_options().unwrap_or_default();
        let options = format!("{options} {SESSION_OPTIONS}");
        database.config.options(options.trim_start());
        let drains = if settings.redis.keys.are_in_cluster() { settings.work.drains } else { 1 };
        let connections = drains * DRAIN_CONNECTIONS + MORE_CONNECTIONS;
        let database = Database::new(&database, settings.posts.clone(), connections, STATEMENT_TIMEOUT)?;
        let redis = Redis::new(&settings.redis, COMMAND_TIMEOUT)?;
        let redis_watch = RedisWatch::new(settings.redis.allow_eviction);
        redis_watch.note_losses(&redis);
        let reconnections = Arc::new(AtomicU64::new(0));
        let connected = Arc::clone(&reconnections);
        redis.on_connected(move || {
            connected.fetch_add(1, SeqCst);
        });
        Ok(Arc::new(Self {
            redis,
            reconnections,
            redis_watch,
            keys: settings.redis.keys.clone(),
            database: Arc::new(database),
            settings: settings.work,
            metrics,
            stop,
            health: Health::new(&settings.redis.keys),
            progress: Progress::default(),
            store_failures: StoreFailures::default(),
            half_moved: HalfMoved::default(),
        }))
    }

    /// Returns PostgreSQL, for those who begin to run for leases.
    #[must_use]
    pub fn database(&self) -> Arc<Database> {
        Arc::clone(&self.database)
    }

    /// Ends the work at a point where that is safe.
    ///
    /// # Errors
    /// [`Failure::Stopped`] when the process is to stop.
    pub(crate) fn checkpoint(&self) -> Result<(), Failure> {
        self.progress.made();
        if self.stop.is_cancelled() { Err(Failure::Stopped) } else { Ok(()) }
    }

    /// Returns whether an error is that of one post: its keys hold something else or, in a cluster, the node that has them
    /// is away or refuses.
    pub(crate) fn is_of_one_post(&self, error: &RedisError) -> bool {
        error.code().is_some_and(|code| code.is_about_the_key() || self.is_of_some_nodes(code))
    }

    /// Returns whether it is only a node of a cluster that is away or refuses.
    pub(crate) fn is_node_away(&self, error: &RedisError) -> bool {
        error.code().is_some_and(|code| self.is_of_some_nodes(code))
    }

    /// Returns whether an error is that of one node of a cluster.
    pub(crate) fn is_of_some_nodes(&self, code: Code) -> bool {
        self.redis.is_clustered() && code.is_about_a_node()
    }

    /// Notes a failure for operators: in the metrics of the store that failed, and in the health, of which `note` knows
    /// the part.
    pub(crate) fn note_failure(&self, failure: &Failure, note: impl Fn(&Health, Option<String>)) {
        self.store_failures.note(failure);
        match failure {
            Failure::Stopped => return,
            Failure::Foreign(_) => {}
            Failure::Redis(_) => {
                self.metrics.redis_up.set(0);
            }
            Failure::Database(error) => {
                self.metrics.postgres_up.set(0);
                if matches!(error, DatabaseError::Setup(_)) {
                    self.metrics.postgres_misconfigured.set(1);
                }
            }
        }
        note(&self.health, Some(failure.obstacle()));
    }
}
