//! Whether the Redis behind a connection takes views: it is there, it takes writes, and what it is given is safe.
//!
//! A server that has become a replica answers reads with whatever it holds, and one that loads its data answers
//! commands with errors; to send either of them batches would give stale counts, and a reconnection for every command.
//! So after each connection and each error the server is asked what it is, and it gets nothing else before it has
//! answered well. In a cluster that is so of each node (`nodes`).

mod away_nodes;
mod nodes;
mod proof;
mod requirements;

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

use tokio::sync::{Notify, watch};
use views_redis::{Breaker, Epoch, NodeId, Redis, RedisError};

use self::nodes::{INTERVAL, Nodes, RECONNECTION_PAUSE, RETRY_INTERVAL};
pub(crate) use self::{away_nodes::AwayNodes, proof::Proof, requirements::Requirements};

/// The longest that a command of the hot path may take. One without an answer in this time has failed.
pub(crate) const REDIS_TIMEOUT: Duration = Duration::from_secs(1);

/// The circuit breaker of one worker's connections to Redis: closed while Redis takes views, open while it does not. Those
/// of a cluster's nodes stand behind it.
pub(crate) struct CircuitBreaker {
    redis: Redis,
    requirements: Requirements,
    /// Those of a cluster's nodes.
    nodes: Arc<Nodes>,
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
    fn is_closed(&self, node: NodeId) -> bool {
        self.is_usable() && self.nodes.is_closed(node)
    }

    fn failed(self: Arc<Self>, node: NodeId, error: &RedisError) {
        if self.redis.is_clustered() {
            self.nodes.open(node, &views_redis::in_words(&error.to_string()));
            return;
        }
        tracing::warn!(%error, "Redis does not take a batch");
        self.reconnect();
    }
}

impl CircuitBreaker {
    /// Returns whether Redis takes views, as far as anybody knows: of a cluster, any of its nodes.
    pub(crate) fn takes_views(&self) -> bool {
        self.is_usable() && self.nodes.is_any_closed()
    }

    /// Returns whether the node takes views that has a slot, as far as anybody knows.
    pub(super) fn takes_views_of_slot(&self, slot: u16) -> bool {
        self.is_usable() && self.redis.node_of_slot(slot).is_some_and(|node| self.nodes.is_closed(node))
    }

    fn is_usable(&self) -> bool {
        self.closed.load(Ordering::Relaxed) && self.redis.is_connected()
    }

    pub(crate) fn new(redis: Redis, requirements: Requirements) -> Self {
        Self {
            nodes: Arc::new(Nodes::new(redis.clone(), requirements.clone())),
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
    /// the last one. In a cluster, whoever sends commands has its nodes asked.
    pub(crate) fn find_primary(self: &Arc<Self>) {
        if self.redis.is_clustered() {
            return;
        }
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

    /// Has the server prove that it takes writes, or each node of a cluster, over connections of their own.
    pub(super) async fn prove_writable(&self) -> Proof {
        proof::prove(&self.redis, &self.requirements.keys, REDIS_TIMEOUT).await
    }

    /// Returns how many servers take writes when all is well: one, or the primaries of a cluster.
    pub(super) fn servers(&self) -> usize {
        self.redis.nodes().len()
    }

    /// Returns whether Redis is a cluster.
    pub(super) fn is_clustered(&self) -> bool {
        self.redis.is_clustered()
    }

    /// Returns the nodes of a cluster that take no views, as all workers see them.
    pub(super) fn away_nodes(&self) -> &AwayNodes {
        &self.requirements.away
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
            if self.redis.is_clustered() {
                self.inspect_nodes().await;
                // However many batches have them asked again.
                tokio::time::sleep(RETRY_INTERVAL).await;
            } else {
                self.inspect().await;
            }
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
        self.close(self.requirements.are_met(&report), epoch);
        if report.is_replica {
            self.find_primary();
        }
    }

    /// What is wrong with some nodes of a cluster opens their own circuit breakers.
    async fn inspect_nodes(&self) {
        // Without an answer of any node it may be known all the same that they are no cluster.
        if !self.redis.is_connected() && self.redis.no_cluster().is_none() {
            return;
        }
        let epoch = self.epoch.load(SeqCst);
        let report = self.nodes.inspect().await;
        self.requirements.note(&report);
        let is_theirs = report.foreign.is_none() || self.requirements.database.is_none();
        self.close(is_theirs && self.redis.no_cluster().is_none(), epoch);
    }

    /// Closes the circuit breaker or opens it, by what was found in an epoch.
    fn close(&self, is_closed: bool, epoch: u64) {
        self.closed.store(is_closed, SeqCst);
        if self.epoch.load(SeqCst) != epoch {
            self.closed.store(false, SeqCst);
        }
        self.inspected.send_replace(true);
    }
}
