//! The circuit breakers of the nodes of a cluster: a node is sent commands until something is wrong with it, and then
//! nothing but questions what it is, until it answers well. Of one node, the others feel nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::time::sleep;
use views_redis::{
    NodeId, Redis,
    requirements::{self, Report},
};

use super::requirements::Requirements;

/// How often a server is asked again that does not take views.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// How often a server is asked again that does. Nothing else would tell of a policy that was changed, or of a replica
/// that is only read.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
/// How soon a connection is opened anew that was so within the last [`INTERVAL`], and a node asked for the first time
/// that was open within it. Other connections may do well where those of sessions do not (for want of room for another
/// client, say), and no batch is helped by a reconnection with each try.
pub(super) const RECONNECTION_PAUSE: Duration = Duration::from_secs(1);

/// The circuit breakers of a cluster's nodes. One that nobody has heard of is closed.
pub(super) struct Nodes {
    redis: Redis,
    requirements: Requirements,
    state: Mutex<State>,
    /// How many are open. Mostly none is, and nobody needs the lock.
    open: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// The nodes whose circuit breakers are open, with their addresses.
    open: BTreeMap<NodeId, String>,
    /// When a node's was opened last.
    opened: BTreeMap<NodeId, Instant>,
}

impl Nodes {
    pub(super) fn new(redis: Redis, requirements: Requirements) -> Self {
        Self { redis, requirements, state: Mutex::default(), open: AtomicUsize::new(0) }
    }

    /// Returns whether a node may be sent commands.
    pub(super) fn is_closed(&self, node: NodeId) -> bool {
        self.open.load(SeqCst) == 0 || !self.state().open.contains_key(&node)
    }

    /// Returns whether any node may.
    pub(super) fn is_any_closed(&self) -> bool {
        self.open.load(SeqCst) == 0 || {
            let nodes = self.redis.nodes();
            let state = self.state();
            nodes.iter().any(|node| !state.open.contains_key(node))
        }
    }

    /// Has a node sent nothing more until it answers well. Its slots may be elsewhere by then.
    pub(super) fn open(self: &Arc<Self>, node: NodeId, why: &str) {
        let address = self.redis.address(node).unwrap_or_default();
        // Of one that has no slots, or whose slots others have taken meanwhile, nobody needs to know.
        let is_told = self.has_slots(node);
        let mut state = self.state();
        if state.open.insert(node, address.clone()).is_some() {
            return;
        }
        self.open.store(state.open.len(), SeqCst);
        let last = state.opened.insert(node, Instant::now());
        drop(state);
        if is_told {
            self.requirements.away.add(&address, why);
        }
        let pause = last.filter(|last| last.elapsed() < INTERVAL).map(|_| RECONNECTION_PAUSE);
        let nodes = Arc::clone(self);
        tokio::spawn(async move {
            sleep(pause.unwrap_or_default()).await;
            nodes.probe(node, is_told).await;
        });
    }

    /// Asks a node what it is until it answers well, or has no slots any more; one that had none, for a while.
    async fn probe(&self, node: NodeId, is_told: bool) {
        let until = Instant::now() + INTERVAL;
        loop {
            let has_slots = self.has_slots(node);
            let is_over = if is_told { !has_slots } else { Instant::now() >= until };
            if is_over || self.is_well(node).await {
                let mut state = self.state();
                let address = state.open.remove(&node).unwrap_or_default();
                self.open.store(state.open.len(), SeqCst);
                drop(state);
                if is_told {
                    self.requirements.away.remove(&address, has_slots);
                }
                return;
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    fn has_slots(&self, node: NodeId) -> bool {
        self.redis.nodes().contains(&node)
    }

    async fn is_well(&self, node: NodeId) -> bool {
        let report = requirements::inspect_node(&self.redis, node, self.requirements.allow_eviction).await;
        report.is_ok_and(|report| self.requirements.are_met(&report))
    }

    /// Looks at all nodes, and opens the circuit breakers of those that are not well. Returns what is to be said of all of
    /// them together.
    pub(super) async fn inspect(self: &Arc<Self>) -> Report {
        let (mut all, reports) = self.requirements.inspect_nodes(&self.redis, |node| self.is_closed(node)).await;
        for (node, report) in reports {
            match report {
                // It tells where its slots are by now, with each command.
                Ok(report) if report.is_replica => self.redis.reconnect().await,
                Ok(report) if self.requirements.are_met(&report) => {}
                // What it is not has been said.
                Ok(report) => self.open(node, report.pause.unwrap_or("it is not as it is needed")),
                // Others may have taken its slots while it was asked.
                Err(_) if !self.has_slots(node) => {}
                Err(error) => self.open(node, &views_redis::in_words(error.details().trim_start_matches("AWAY "))),
            }
        }
        // That is said of the nodes.
        all.pause = None;
        all
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
