//! Which store takes views, as `/readyz`, the log and gauges tell it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use prometheus_client::metrics::gauge::Gauge;
use views_core::{log_names, ticks};
use views_postgres::{Database, DatabaseError};
use views_redis::RedisError;
use views_service::{checks::Check, readiness::Readiness};

use crate::{
    metrics::Metrics,
    record::{breaker::CircuitBreaker, database_state::DatabaseState, read_limit::READ_QUERIES},
};

/// How long the start waits to be told whether PostgreSQL is as it is needed.
const FIRST_CHECK: Duration = Duration::from_secs(2);
/// How often its tables are looked at.
const SCHEMA_INTERVAL: Duration = Duration::from_secs(5);
/// How often it is asked whether PostgreSQL is set up and, while nobody knows of a store that takes views, whether one does.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Redis proves with each so many of these that it takes writes, where no views show it.
const PROVE_EVERY: u32 = 5;

/// How many connections to PostgreSQL are kept open: as many as reads may use, one for a view, and one for who looks
/// after the stores. To open one takes several times as long as a look-up.
const OPEN_CONNECTIONS: usize = READ_QUERIES + 2;

/// The stores of one process.
pub(crate) struct Health {
    breakers: Vec<Arc<CircuitBreaker>>,
    /// Whether PostgreSQL takes views, as far as is known. It is asked only where Redis does not take them.
    database_takes_views: AtomicBool,
    /// Whether PostgreSQL has stored views since it was last looked whether it would.
    database_has_stored: AtomicBool,
    in_fallback: AtomicUsize,
    started: Instant,
    /// Whether Redis has stored views since it was last proven that it would.
    redis_has_stored: AtomicBool,
    /// Why Redis, which answers, does not take writes, as far as is known; in a cluster, by the addresses of its nodes.
    redis_refusals: Mutex<BTreeMap<Option<String>, String>>,
    /// Why PostgreSQL is not as it is needed, or does not do what it is asked to, as far as is known.
    pub(crate) database: DatabaseState,
    /// When both stores last refused views, in milliseconds since the start; zero where one has taken some since, or
    /// has proven that it would. Nothing is known of either at the start.
    refused_ms: AtomicU64,
}

impl Health {
    pub(crate) fn new(breakers: Vec<Arc<CircuitBreaker>>) -> Self {
        Self {
            breakers,
            database_takes_views: AtomicBool::new(false),
            database_has_stored: AtomicBool::new(false),
            in_fallback: AtomicUsize::new(0),
            redis_has_stored: AtomicBool::new(false),
            redis_refusals: Mutex::default(),
            database: DatabaseState::default(),
            started: Instant::now(),
            refused_ms: AtomicU64::new(1),
        }
    }

    /// Ready is who has a store to write to.
    pub(crate) fn readiness(self: &Arc<Self>) -> Readiness {
        let health = Arc::clone(self);
        Readiness::new(move || {
            let ready = health.redis_seems_available() || health.database_takes_views.load(Relaxed);
            let ready = ready && health.refused_ms.load(Relaxed) == 0;
            (!ready).then(|| "no store to write to: neither Redis nor PostgreSQL takes views".to_owned())
        })
    }

    /// Returns which store takes views now, as far as is known: Redis, PostgreSQL, or none; one of them is true.
    pub(crate) fn takes_views(&self) -> [bool; 3] {
        let none = self.refused_ms.load(Relaxed) != 0;
        let in_fallback = self.in_fallback.load(Relaxed) > 0 || !self.redis_seems_available();
        let has_database = self.in_fallback.load(Relaxed) > 0 || self.database_takes_views.load(Relaxed);
        match (none, in_fallback) {
            (false, false) => [true, false, false],
            (false, true) if has_database => [false, true, false],
            _ => [false, false, true],
        }
    }

    /// Redis has stored views.
    pub(super) fn redis_has_stored(&self) {
        // Mostly it is zero and stays so, and all workers share it.
        if self.refused_ms.load(Relaxed) != 0 {
            self.refused_ms.store(0, Relaxed);
        }
        if !self.redis_has_stored.load(Relaxed) {
            self.redis_has_stored.store(true, Relaxed);
            // What one node of a cluster has stored tells nothing of another one.
            if !self.is_clustered() {
                self.refusals().clear();
            }
        }
    }

    /// Redis, which answers, has refused to store views; in a cluster, one of its nodes has.
    pub(super) fn redis_has_refused(&self, node: Option<String>, error: &RedisError) {
        self.redis_has_stored.store(false, Relaxed);
        self.refusals().insert(node, error.to_string());
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<Option<String>, String>> {
        self.redis_refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns why Redis, which answers, does not take writes; in a cluster, why some of its nodes do not.
    pub(super) fn redis_refusal(&self) -> Option<String> {
        let refusals = self.refusals();
        let texts =
            refusals.iter().map(|(node, text)| node.as_ref().map_or_else(|| text.clone(), |node| format!("{node}: {text}")));
        let texts: Vec<String> = texts.collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    /// Returns whether all of Redis refuses to store views.
    fn redis_refuses(&self) -> bool {
        let refusals = self.refusals().len();
        refusals > 0 && self.breakers.first().is_none_or(|breaker| refusals >= breaker.servers())
    }

    fn is_clustered(&self) -> bool {
        self.breakers.first().is_some_and(|breaker| breaker.is_clustered())
    }

    /// Returns why some nodes of a cluster take no views; nothing where all do.
    pub(super) fn away_nodes(&self) -> Option<String> {
        self.breakers.first().and_then(|breaker| breaker.away_nodes().describe())
    }

    /// Returns how many servers take no views that would be written to: the one that there is, or primaries of a cluster.
    pub(crate) fn away_servers(&self) -> usize {
        let nodes = self.breakers.first().map_or(0, |breaker| breaker.away_nodes().number());
        if self.redis_seems_available() { nodes } else { nodes.max(1) }
    }

    /// Returns why a connection to Redis is not there, if one is not.
    pub(super) fn why_redis_is_disconnected(&self) -> Option<String> {
        self.breakers.iter().find_map(|breaker| breaker.why_disconnected())
    }

    /// Returns which store takes new views, as far as is known.
    pub(super) fn writes_to(&self) -> &'static str {
        let in_fallback = self.in_fallback.load(Relaxed) > 0;
        let refuses = self.redis_refuses();
        if self.refused_ms.load(Relaxed) != 0 {
            "none"
        } else if self.redis_seems_available() && !in_fallback && !refuses {
            "redis"
        } else if in_fallback || self.database_takes_views.load(Relaxed) || (refuses && self.database.check().is(Check::UP)) {
            "postgresql"
        } else {
            "none"
        }
    }

    /// Has Redis prove that it takes writes, where nothing has shown it since the last time.
    pub(super) async fn prove_redis(&self) {
        if !self.redis_seems_available() {
            return;
        }
        let has_stored = self.redis_has_stored.swap(false, Relaxed);
        let is_doubtful = self.is_clustered() && !self.refusals().is_empty();
        if has_stored && !is_doubtful {
            return;
        }
        if let Some(breaker) = self.breakers.first() {
            let proof = breaker.prove_writable().await;
            if is_doubtful || !self.redis_has_stored.load(Relaxed) {
                *self.refusals() = proof.refusals.into_iter().map(|(node, error)| (node, error.to_string())).collect();
            }
        }
    }

    /// PostgreSQL has stored views.
    pub(super) fn database_has_stored(&self) {
        self.database_takes_views.store(true, Relaxed);
        self.database_has_stored.store(true, Relaxed);
        self.database.note_refusal(None);
        self.refused_ms.store(0, Relaxed);
    }

    /// PostgreSQL has not done what Redis did not do. Whether these were views, which no store has taken then.
    pub(super) fn database_has_failed(&self, has_views: bool) {
        self.database_takes_views.store(false, Relaxed);
        self.database_has_stored.store(false, Relaxed);
        if has_views {
            self.refused_ms.store(self.now_ms().max(1), Relaxed);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A recorder has begun to write to PostgreSQL, or has gone back to Redis. The first and the last one are news.
    pub(super) fn fallback(&self, begins: bool, metrics: &Metrics) {
        if begins {
            metrics.in_fallback.inc();
            if self.in_fallback.fetch_add(1, Relaxed) == 0 {
                tracing::warn!(name: log_names::STATE, store = "postgresql", "Redis does not take views: they are written straight into PostgreSQL");
            }
        } else {
            metrics.in_fallback.dec();
            if self.in_fallback.fetch_sub(1, Relaxed) == 1 {
                tracing::info!(store = "redis", "Redis takes the views again");
            }
        }
    }

    /// Waits for the first connections to Redis, or long enough to know that there are none to be had.
    pub(crate) async fn wait_for_redis(&self) {
        join_all(self.breakers.iter().map(|breaker| breaker.wait())).await;
    }

    /// Has every Redis looked at again.
    fn inspect_again(&self) {
        self.breakers.iter().for_each(|breaker| breaker.inspect_again());
    }

    /// Returns whether Redis is there and is what it has to be, which does not tell that it takes writes: it may be full.
    pub(crate) fn redis_seems_available(&self) -> bool {
        self.breakers.iter().all(|breaker| breaker.takes_views())
    }

    /// Asks the stores whether they take views, where nobody knows: with no views coming in, nothing else would tell.
    pub(crate) async fn probe(&self, database: Option<&Database>) {
        let refused_ms = self.refused_ms.load(Relaxed);
        let seems_well = self.redis_seems_available();
        // What has stored views since the last look need not be asked.
        let has_stored = self.database_has_stored.swap(false, Relaxed);
        if refused_ms == 0 && (seems_well || has_stored) {
            self.database_takes_views.store(has_stored, Relaxed);
            // What it would say now, nobody knows.
            self.database.note_refusal(None);
            return;
        }
        let redis = seems_well
            && match self.breakers.first() {
                Some(breaker) => breaker.prove_writable().await.takes_writes,
                None => false,
            };
        let database = match database {
            Some(database) if !redis => takes_views(database, &self.database).await,
            _ => false,
        };
        self.database_takes_views.store(database, Relaxed);
        if redis || database {
            // Unless views have been refused meanwhile.
            let _ = self.refused_ms.compare_exchange(refused_ms, 0, Relaxed, Relaxed);
        }
    }
}

async fn takes_views(database: &Database, state: &DatabaseState) -> bool {
    // Whether the session may write is asked first, as that costs no try.
    if database.ping().await.is_err() {
        return false;
    }
    let refusal = database.refuses_all().await.unwrap_or_else(Some);
    let takes = refusal.is_none();
    state.note_refusal(refusal.map(|error| error.to_string()));
    takes
}

/// Looks whether PostgreSQL is as it is needed, and says what is not. One that is away, or does not answer soon, is not
/// waited for.
pub(crate) async fn first_check(database: Option<&Database>) -> Option<String> {
    let database = database?;
    let look = async {
        // Each new connection has the tables looked at anew, which the first view is not to wait for.
        database.keep_open(OPEN_CONNECTIONS).await;
        // A standby may not have yet what is missing.
        database.ping().await?;
        database.schema().await
    };
    match tokio::time::timeout(FIRST_CHECK, look).await {
        Ok(Err(DatabaseError::Setup(text))) => Some(text),
        _ => None,
    }
}

/// Looks now and then whether PostgreSQL's tables are as they are needed (not everything that goes wrong with them is
/// an error of a statement, and nobody else would notice), and where nobody knows of a store that takes views, whether
/// one does. And PostgreSQL is asked who it is, by which the circuit breakers tell whether the keys in Redis are this
/// database's.
pub(crate) async fn watch_stores(health: Arc<Health>, database: Option<Arc<Database>>, misconfigured: Gauge) {
    let mut interval = ticks::every(PROBE_INTERVAL);
    let mut last = None;
    loop {
        interval.tick().await;
        if let Some(database) = &database {
            watch_tables(database, &misconfigured, &mut last).await;
            health.database.note_trouble(last.clone());
            let before = database.known_owner();
            if last.is_none() && database.owner().await.is_ok_and(|owner| before != Some(owner)) {
                health.inspect_again();
            }
        }
        health.probe(database.as_deref()).await;
    }
}

/// Has Redis prove that it takes writes, where nothing else shows it: now and then, and soon again where it did not.
pub(crate) async fn watch_redis(health: Arc<Health>) {
    let mut interval = ticks::every(PROBE_INTERVAL);
    // The start has had it prove that.
    let mut pause = PROVE_EVERY;
    loop {
        interval.tick().await;
        if pause == 0 || health.redis_refusal().is_some() {
            health.prove_redis().await;
            pause = PROVE_EVERY;
        }
        pause -= 1;
    }
}

/// Keeps some connections to PostgreSQL open, for ever.
pub(crate) async fn keep_connections(database: Arc<Database>) {
    let mut interval = ticks::every(PROBE_INTERVAL);
    loop {
        interval.tick().await;
        database.keep_open(OPEN_CONNECTIONS).await;
    }
}

async fn watch_tables(database: &Database, misconfigured: &Gauge, last: &mut Option<String>) {
    let trouble = match database.schema_no_older_than(SCHEMA_INTERVAL).await {
        Err(DatabaseError::Setup(text)) => Some(text),
        // Away is not wrong: what was known stays known.
        Err(_) => last.clone(),
        Ok(_) => None,
    };
    if trouble != *last {
        match &trouble {
            Some(text) => tracing::error!(name: log_names::STATE, "PostgreSQL cannot take views nor tell of posts: {text}"),
            None => tracing::info!("PostgreSQL is now as it is needed"),
        }
        misconfigured.set(i64::from(trouble.is_some()));
        *last = trouble;
    }
}
