//! Whether the Redis behind a connection takes views: it is there, it takes writes, and what it is given is safe.
//!
//! A server that has become a replica answers reads with whatever it holds, and one that loads its data answers
//! commands with errors; to send either of them batches would give stale counts, and a reconnection for every command.
//! So after each connection and each error the server is asked what it is, and it gets nothing else before it has
//! answered well.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{self, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use fred::error::Error;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, watch};
use views_core::{keys::Keys, owner::Owner};
use views_postgres::Database;
use views_redis::{
    Breaker, Code, Epoch, NodeId, Redis, RedisError, Session, ownership,
    requirements::{self, Notices, Report},
    resp::{Commands, Replies, Reply},
    scripts,
};

/// The longest that a command of the hot path may take. One without an answer in this time has failed.
pub(crate) const REDIS_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a server is asked again that does not take views.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// How often a server is asked again that does. Nothing else would tell of a policy that was changed, or of a replica
/// that is only read.
const INTERVAL: Duration = Duration::from_secs(5);
/// How soon a connection is opened anew that was so within the last [`INTERVAL`]. The client library's connections may
/// do well where those of sessions do not (for want of room for another client, say), and no batch is helped by a
/// reconnection with each try.
const RECONNECTION_PAUSE: Duration = Duration::from_secs(1);
/// How long PostgreSQL may take to tell, for the first time, whose the keys must be.
const OWNER_PATIENCE: Duration = Duration::from_millis(500);

/// What a Redis must be, for the whole process.
#[derive(Clone)]
pub(crate) struct Requirements {
    /// Whether it may evict views.
    pub(crate) allow_eviction: bool,
    /// The database that can take the views instead, and whose the keys must be. Without one, a Redis that may lose
    /// views is better than nothing, for a view that is refused is lost for certain.
    pub(crate) database: Option<Arc<Database>>,
    /// The names of all keys.
    pub(crate) keys: Keys,
    /// What has been said about it.
    pub(crate) notices: Arc<Notices>,
    /// Whether it is not as it is needed, for operators.
    pub(crate) misconfigured: Gauge,
}

impl Requirements {
    fn note(&self, report: &Report) {
        self.notices.tell(report);
        self.misconfigured.set(i64::from(report.refusal.is_some() || report.foreign.is_some()));
    }

    fn are_met(&self, report: &Report) -> bool {
        let is_fit = report.refusal.is_none() && report.foreign.is_none();
        report.pause.is_none() && (is_fit || self.database.is_none())
    }

    /// Looks at the server, and at whose the keys are.
    async fn inspect(&self, redis: &Redis) -> Result<Report, Error> {
        let mut report = requirements::inspect(redis, self.allow_eviction).await?;
        if report.pause.is_some() || report.is_clustered {
            // It would answer with an error, for which the client library gives the connection up. What was known stays
            // known.
            report.foreign = self.notices.foreign();
            return Ok(report);
        }
        let Some(owner) = self.owner().await else { return Ok(report) };
        match ownership::read(redis, &self.keys).await {
            // Nobody's: a view-syncd makes them its ledger's.
            Ok(None) => {}
            Ok(Some(found)) => {
                report.foreign = owner.check(&self.keys, &found).err().map(|foreign| foreign.to_string());
                if let Some(database) = self.database.as_ref().filter(|_| report.foreign.is_some()) {
                    // By the next look, PostgreSQL has been asked again.
                    database.invalidate_owner();
                }
            }
            Err(error) if ownership::is_forbidden(&error) => {
                let key = self.keys.owner();
                report
                    .warnings
                    .push(format!("Redis does not let this account read {key}, so nobody can tell whose the keys are"));
            }
            Err(error) => return Err(error),
        }
        Ok(report)
    }

    /// Whose the keys must be. As long as PostgreSQL has never answered, nobody knows.
    async fn owner(&self) -> Option<Owner> {
        let database = self.database.as_ref()?;
        if let Some(owner) = database.known_owner() {
            return Some(owner);
        }
        tokio::time::timeout(OWNER_PATIENCE, database.owner()).await.ok()?.ok()
    }
}

/// The circuit breaker of one connection to Redis: closed while Redis takes views, open while it does not.
pub(crate) struct CircuitBreaker {
    redis: Redis,
    requirements: Requirements,
    closed: AtomicBool,
    /// Grows whenever something is wrong with the connection: an answer from before that is worth nothing.
    epoch: Epoch,
    changed: Notify,
    /// Whether the connection is about to be opened anew. What the server says meanwhile, perhaps not the next one says.
    reconnecting: AtomicBool,
    /// When that began for the last time.
    reconnected: Mutex<Option<Instant>>,
    /// Why the last connection could not be opened, or was lost.
    lost: Mutex<Option<String>>,
    /// Turns true when the server has been asked for the first time.
    inspected: watch::Sender<bool>,
}

impl Breaker for CircuitBreaker {
    fn is_closed(&self, _node: NodeId) -> bool {
        self.takes_views()
    }

    fn failed(self: Arc<Self>, _node: NodeId, error: &RedisError) {
        tracing::warn!(%error, "Redis does not take a batch");
        self.reconnect();
    }
}

impl CircuitBreaker {
    /// Returns whether Redis takes views, as far as anybody knows.
    pub(crate) fn takes_views(&self) -> bool {
        self.closed.load(Ordering::Relaxed) && self.redis.is_connected()
    }

    pub(crate) fn new(redis: Redis, requirements: Requirements) -> Self {
        Self {
            redis,
            requirements,
            closed: AtomicBool::new(false),
            epoch: Epoch::default(),
            changed: Notify::new(),
            reconnecting: AtomicBool::new(false),
            reconnected: Mutex::new(None),
            lost: Mutex::new(None),
            inspected: watch::Sender::new(false),
        }
    }

    /// Waits until it is known what Redis is, but no longer than for an answer.
    pub(crate) async fn wait(&self) {
        // Whoever asks next sees whether it is closed.
        let _ = tokio::time::timeout(REDIS_TIMEOUT, self.inspected.subscribe().wait_for(|inspected| *inspected)).await;
    }

    /// Follows the connection, which is yet to be opened, from a task of its own.
    pub(crate) fn follow(self: &Arc<Self>) {
        let (connected, failed) = (Arc::clone(self), Arc::clone(self));
        // The loss of the last connection has tripped it; to trip it again would turn away what a quick answer has let in.
        self.redis.on_connected(move || connected.changed.notify_one());
        self.redis.on_lost(move |details, _| {
            *failed.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(details.to_owned());
            failed.trip();
        });
        tokio::spawn(Arc::clone(self).watch());
    }

    /// Has the server asked again: it is to be measured by something new.
    pub(crate) fn inspect_again(&self) {
        self.changed.notify_one();
    }

    /// Returns the count of what has happened to the connection. A connection of a session that was opened before has
    /// no part in what the circuit breaker says now.
    pub(super) fn epoch(&self) -> Epoch {
        Epoch::clone(&self.epoch)
    }

    /// Has the connection opened anew, and the server asked again what it is: it did not answer, or not as the server
    /// that was asked.
    pub(crate) fn reconnect(self: &Arc<Self>) {
        self.trip();
        if self.reconnecting.swap(true, SeqCst) {
            return;
        }
        let last = self.reconnected().replace(Instant::now());
        let pause = last.filter(|last| last.elapsed() < INTERVAL).map(|_| RECONNECTION_PAUSE);
        let breaker = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(pause.unwrap_or_default()).await;
            breaker.redis.reconnect().await;
            breaker.reconnecting.store(false, SeqCst);
            breaker.changed.notify_one();
        });
    }

    /// Has the connection opened anew, now and then: the server is well, but takes no writes, so that another one may
    /// be in its place. Whoever has put it there (sentinels, a proxy, a name) does not always end the connections to
    /// the last one.
    pub(crate) fn find_primary(self: &Arc<Self>) {
        let last = *self.reconnected();
        if last.is_none_or(|last| last.elapsed() >= INTERVAL) {
            self.reconnect();
        }
    }

    /// Returns why there is no connection to the server, if there is none.
    pub(super) fn why_disconnected(&self) -> Option<String> {
        let why = || self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (!self.redis.is_connected()).then(|| why().unwrap_or_else(|| "there is no connection yet".to_owned()))
    }

    /// Has the server prove that it takes writes, over a connection of its own. A user who may not do what the proof
    /// takes is believed.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) async fn prove_writable(&self) -> Result<(), RedisError> {
        let prove = async {
            let mut session = Session::new(&self.redis, REDIS_TIMEOUT, Epoch::default());
            let (mut commands, mut replies) = (Commands::default(), Replies::default());
            scripts::prove_writable(&mut commands, &self.requirements.keys);
            session.exchange(&commands, &mut replies).await?;
            let refusal = replies.iter().find_map(Reply::error).filter(|error| error.code != Code::NoPermission);
            refusal.map_or(Ok(()), |error| Err(error.into()))
        };
        tokio::time::timeout(REDIS_TIMEOUT, prove).await.unwrap_or(Err(RedisError::Timeout))
    }

    fn reconnected(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.reconnected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trip(&self) {
        self.epoch.fetch_add(1, SeqCst);
        self.closed.store(false, SeqCst);
        self.changed.notify_one();
    }

    async fn watch(self: Arc<Self>) {
        loop {
            self.inspect().await;
            let pause = if self.closed.load(SeqCst) { INTERVAL } else { RETRY_INTERVAL };
            // Either way the server is asked again.
            let _ = tokio::time::timeout(pause, self.changed.notified()).await;
        }
    }

    async fn inspect(self: &Arc<Self>) {
        if !self.redis.is_connected() || self.reconnecting.load(SeqCst) {
            return;
        }
        let epoch = self.epoch.load(SeqCst);
        // An error is one of the connection, which the log has already.
        let Ok(report) = self.requirements.inspect(&self.redis).await else { return };
        self.requirements.note(&report);
        self.closed.store(self.requirements.are_met(&report), SeqCst);
        if self.epoch.load(SeqCst) != epoch {
            self.closed.store(false, SeqCst);
        }
        self.inspected.send_replace(true);
        if report.is_replica {
            self.find_primary();
        }
    }
}
