//! Which store takes views, as `/readyz`, the log and a gauge tell it.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use prometheus_client::metrics::gauge::Gauge;
use shared::{
    postgres::{Database, DatabaseError},
    readiness::Readiness,
    ticks,
};

use super::gate::Gate;
use crate::metrics::Metrics;

/// How long the start waits to be told whether PostgreSQL is as it is needed.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// How often its tables are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How often PostgreSQL is asked whether it is set up and, while Redis is away and `/readyz` depends on it, whether it would take views.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// How long `/readyz` says so when both stores have refused views.
const REFUSAL_MS: u64 = 5_000;

/// Complaints that follow the last one within this time are for those who look closely.
const COMPLAINT_INTERVAL_MS: u64 = 1_000;

/// The stores of one process.
pub(crate) struct Health {
    gates: Vec<Arc<Gate>>,
    database_answers: AtomicBool,
    in_fallback: AtomicUsize,
    started: Instant,
    /// When views were last refused by both stores, in milliseconds since the start; zero where one has taken some since.
    refused_ms: AtomicU64,
    /// When a complaint was last logged, in milliseconds since the start.
    complained_ms: AtomicU64,
}

impl Health {
    pub(crate) fn new(gates: Vec<Arc<Gate>>) -> Self {
        Self {
            gates,
            database_answers: AtomicBool::new(false),
            in_fallback: AtomicUsize::new(0),
            started: Instant::now(),
            refused_ms: AtomicU64::new(0),
            complained_ms: AtomicU64::new(0),
        }
    }

    /// Ready is who has a store to write to.
    pub(crate) fn readiness(self: &Arc<Self>) -> Readiness {
        let health = Arc::clone(self);
        Readiness::new(move || {
            let ready = health.redis_takes_views() || health.database_answers.load(Relaxed);
            let ready = ready && !health.has_just_refused();
            (!ready).then(|| "no store to write to: neither Redis nor PostgreSQL takes views".to_owned())
        })
    }

    /// PostgreSQL has taken views, or has failed to.
    pub(super) fn database_answered(&self, answered: bool) {
        self.database_answers.store(answered, Relaxed);
    }

    /// A store has taken views, or none has: a Redis that is full, say, looks as if it would, and only a view tells.
    pub(super) fn views_taken(&self, taken: bool) {
        let refused_ms = if taken { 0 } else { self.now_ms().max(1) };
        // Mostly it is zero and stays so, and all workers share it.
        if self.refused_ms.load(Relaxed) != refused_ms {
            self.refused_ms.store(refused_ms, Relaxed);
        }
    }

    /// Whether views were refused, and none taken since. After a while a load balancer may try again, as nothing else would show that a
    /// store is back.
    fn has_just_refused(&self) -> bool {
        let refused_ms = self.refused_ms.load(Relaxed);
        refused_ms != 0 && self.now_ms().saturating_sub(refused_ms) < REFUSAL_MS
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A recorder has begun to write to PostgreSQL, or has gone back to Redis. The first and the last one are news.
    pub(super) fn fallback(&self, begins: bool, metrics: &Metrics) {
        if begins {
            metrics.in_fallback.inc();
            if self.in_fallback.fetch_add(1, Relaxed) == 0 {
                tracing::warn!(store = "postgresql", "Redis does not take views: they are written straight into PostgreSQL");
            }
        } else {
            metrics.in_fallback.dec();
            if self.in_fallback.fetch_sub(1, Relaxed) == 1 {
                tracing::info!(store = "redis", "Redis takes the views again");
            }
        }
    }

    /// Logs what a store did not do. An outage makes every batch fail, many times a second, so only one complaint in a while is a warning.
    pub(super) fn complain(&self, what: &str, error: &dyn Display) {
        let now_ms = self.now_ms();
        let last_ms = self.complained_ms.load(Relaxed);
        if last_ms == 0 || now_ms.saturating_sub(last_ms) >= COMPLAINT_INTERVAL_MS {
            self.complained_ms.store(now_ms.max(1), Relaxed);
            tracing::warn!(%error, "{what}");
        } else {
            tracing::debug!(%error, "{what}");
        }
    }

    /// Waits for the first connections to Redis, or long enough to know that there are none to be had.
    pub(crate) async fn wait_for_redis(&self) {
        join_all(self.gates.iter().map(|gate| gate.wait())).await;
    }

    /// Has every Redis looked at again.
    fn look_again(&self) {
        self.gates.iter().for_each(|gate| gate.look_again());
    }

    fn redis_takes_views(&self) -> bool {
        self.gates.iter().all(|gate| gate.is_open())
    }
}

/// Looks whether PostgreSQL is as it is needed, and says what is not. One that is away, or does not answer soon, is not waited for.
pub(crate) async fn first_look(database: Option<&Database>) -> Option<String> {
    let database = database?;
    let look = async {
        // A standby may not have yet what is missing.
        database.ping().await?;
        database.schema().await
    };
    match tokio::time::timeout(FIRST_LOOK, look).await {
        Ok(Err(DatabaseError::Setup(text))) => Some(text),
        _ => None,
    }
}

/// Asks PostgreSQL now and then while Redis is away: with no views coming in, nothing else would tell whether it could take them.
/// Whether its tables are as they are needed it is asked now and then, too: not everything that goes wrong with them is an error of a
/// statement, and nobody else would notice. And it is asked who it is, by which the gates tell whether the keys in Redis are this database's.
pub(crate) async fn watch_database(health: Arc<Health>, database: Arc<Database>, unfit: Gauge) {
    let mut interval = ticks::every(PING_INTERVAL);
    let mut told = None;
    loop {
        interval.tick().await;
        let set_up = database.schema_no_older_than(LOOK_INTERVAL).await;
        let trouble = match &set_up {
            Err(DatabaseError::Setup(text)) => Some(text.clone()),
            // Away is not wrong: what was known stays known.
            Err(_) => told.clone(),
            Ok(_) => None,
        };
        if trouble != told {
            match &trouble {
                Some(text) => tracing::error!("PostgreSQL cannot take views nor tell of posts: {text}"),
                None => tracing::info!("PostgreSQL is now as it is needed"),
            }
            unfit.set(i64::from(trouble.is_some()));
            told = trouble;
        }
        let before = database.known_owner();
        if set_up.is_ok() && database.owner().await.is_ok_and(|owner| before != Some(owner)) {
            health.look_again();
        }
        let needed = !health.redis_takes_views();
        health.database_answered(needed && set_up.is_ok() && database.ping().await.is_ok());
    }
}
