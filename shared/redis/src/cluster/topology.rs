//! What is known of a cluster: its nodes, which of them has which slot, and whether any of them answers.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use fred::types::config::{Config, Server};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use super::{
    refresh::{self, Answer},
    silence::SilentNodes,
    slot_map::{NodeId, SlotMap},
};

/// How often the nodes are asked where nothing suggests that anything has changed.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often, where none answers.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// How soon they are asked again at the earliest, whatever suggests it.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// The pause before a node is asked again that has not answered in time.
const SILENCE_INTERVAL: Duration = Duration::from_millis(500);
/// How long one is asked that has no slots.
const LONGEST_WITHOUT_SLOTS: Duration = Duration::from_secs(60);

/// What follows when nodes are found, or lost for a reason.
pub(crate) type Listener<T> = Box<dyn Fn(T) + Send + Sync>;

/// What is known of a cluster.
pub(crate) struct Topology {
    pub(crate) config: Config,
    state: RwLock<State>,
    is_up: watch::Sender<bool>,
    /// Whether none answered the last time, when one did the time before. On a machine that is very busy, all may be too
    /// slow for once, while sessions get on.
    has_missed: AtomicBool,
    /// Why this is no cluster, where that has turned out.
    no_cluster: Mutex<Option<String>>,
    wanted: Arc<Notify>,
    pub(super) silent: SilentNodes,
    /// How often they were asked.
    turn: AtomicUsize,
    on_found: Mutex<Vec<Listener<()>>>,
    on_lost: Mutex<Vec<Listener<String>>>,
}

#[derive(Default)]
struct State {
    /// All addresses that have been heard of. They keep their places, by which nodes are known.
    servers: Vec<Server>,
    /// The nodes that were there when they were last asked, replicas among them.
    members: Vec<NodeId>,
    slots: Arc<SlotMap>,
}

impl Topology {
    pub(crate) fn new(config: Config) -> Arc<Self> {
        Arc::new(Self {
            config,
            state: RwLock::default(),
            is_up: watch::Sender::new(false),
            has_missed: AtomicBool::new(false),
            no_cluster: Mutex::default(),
            wanted: Arc::default(),
            silent: SilentNodes::default(),
            turn: AtomicUsize::new(0),
            on_found: Mutex::default(),
            on_lost: Mutex::default(),
        })
    }

    /// Asks the nodes again and again, for as long as anybody has the topology.
    pub(crate) fn follow(self: &Arc<Self>) {
        let (topology, wanted) = (Arc::downgrade(self), Arc::clone(&self.wanted));
        tokio::spawn(async move {
            while let Some(has_answer) = refresh(&topology).await {
                let pause = if has_answer { INTERVAL } else { RETRY_INTERVAL };
                // Either way they are asked again.
                let _ = tokio::time::timeout(pause, wanted.notified()).await;
                tokio::time::sleep(SHORTEST_PAUSE).await;
            }
        });
    }

    /// Has the nodes asked soon: something suggests that a slot is elsewhere by now.
    pub(crate) fn refresh_soon(&self) {
        self.wanted.notify_one();
    }

    /// Has a function called whenever nodes are found after none answered, or other ones have the slots.
    pub(crate) fn on_found(&self, listener: Listener<()>) {
        lock(&self.on_found).push(listener);
    }

    /// Has a function called, with the reason, whenever no node answers.
    pub(crate) fn on_lost(&self, listener: Listener<String>) {
        lock(&self.on_lost).push(listener);
    }

    /// Returns whether a node answered when they were last asked.
    pub(crate) fn is_up(&self) -> bool {
        *self.is_up.borrow()
    }

    /// Waits until a node has answered, but not for longer than that.
    pub(crate) async fn wait(&self, patience: Duration) {
        // Whoever asks next sees whether one has.
        let _ = tokio::time::timeout(patience, self.is_up.subscribe().wait_for(|is_up| *is_up)).await;
    }

    /// Returns why the servers are no cluster, where that has turned out.
    pub(crate) fn no_cluster(&self) -> Option<String> {
        lock(&self.no_cluster).clone()
    }

    /// Returns which node has which slot.
    pub(crate) fn slots(&self) -> Arc<SlotMap> {
        Arc::clone(&self.read().slots)
    }

    /// Returns the nodes that have slots.
    pub(crate) fn primaries(&self) -> Vec<NodeId> {
        self.slots().primaries()
    }

    /// Notes that a node has not answered in time, and has it asked until it answers. One that has no slots any more, because
    /// a replica has taken its place, say, may be gone for ever: connections to it hang for a while longer.
    pub(super) fn note_silent(self: &Arc<Self>, node: NodeId) {
        if !self.silent.add(node) {
            return;
        }
        let topology = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut without_slots: Option<Instant> = None;
            loop {
                sleep(SILENCE_INTERVAL).await;
                // With the last session, the last one ends that waits.
                let Some(topology) = topology.upgrade() else { return };
                // Another node may have its slots by now.
                topology.refresh_soon();
                let has_slots = topology.primaries().contains(&node);
                without_slots = if has_slots { None } else { without_slots.or_else(|| Some(Instant::now())) };
                let is_gone = without_slots.is_some_and(|since| since.elapsed() > LONGEST_WITHOUT_SLOTS);
                let is_over = match topology.server(node).filter(|_| !is_gone) {
                    Some(server) => refresh::answers(&topology.config, &server).await,
                    None => true,
                };
                if is_over {
                    topology.silent.remove(node);
                    return;
                }
            }
        });
    }

    /// Returns the address of a node.
    pub(crate) fn server(&self, node: NodeId) -> Option<Server> {
        self.read().servers.get(node.place()).cloned()
    }

    /// Returns the addresses to be asked: of the members, or where these do not answer, those of the settings, too. By now,
    /// one of the latter may belong to another cluster, or none.
    fn candidates(&self) -> Vec<Server> {
        let state = self.read();
        let mut servers: Vec<Server> = state.members.iter().filter_map(|node| state.servers.get(node.place())).cloned().collect();
        if !servers.is_empty() && self.is_up() && !self.has_missed.load(Relaxed) {
            return servers;
        }
        for seed in self.config.server.hosts() {
            if !servers.contains(&seed) {
                servers.push(seed);
            }
        }
        servers
    }

    /// Notes that a slot is at another node, as one has said. Returns that node.
    pub(crate) fn moved(&self, slot: u16, server: &Server) -> Option<NodeId> {
        let node = self.node(server)?;
        let mut state = self.write();
        if state.slots.owner(slot) != Some(node) {
            Arc::make_mut(&mut state.slots).set(slot, node);
            // Of a move of many slots, this is perhaps the first that is heard of.
            self.refresh_soon();
        }
        Some(node)
    }

    /// Returns the node at an address.
    pub(crate) fn node(&self, server: &Server) -> Option<NodeId> {
        if let Some(place) = self.read().servers.iter().position(|known| known == server) {
            return NodeId::at(place);
        }
        let mut state = self.write();
        state.add(server)
    }

    fn take(&self, answer: Answer) {
        *lock(&self.no_cluster) = answer.no_cluster;
        let Some(ranges) = answer.ranges else {
            if self.is_up() && !self.has_missed.swap(true, Relaxed) {
                return;
            }
            self.note_lost(&answer.failure.unwrap_or_default());
            return;
        };
        let (mut slots, mut members) = (SlotMap::default(), Vec::new());
        let mut state = self.write();
        for range in ranges {
            let nodes: Vec<NodeId> = range.nodes.iter().filter_map(|server| state.add(server)).collect();
            if let Some(primary) = nodes.first() {
                (range.first..=range.last).for_each(|slot| slots.set(slot, *primary));
            }
            members.extend(nodes);
        }
        members.sort_unstable();
        members.dedup();
        self.has_missed.store(false, Relaxed);
        let has_changed = slots.primaries() != state.slots.primaries();
        (state.members, state.slots) = (members, Arc::new(slots));
        drop(state);
        if !self.is_up.send_replace(true) || has_changed {
            lock(&self.on_found).iter().for_each(|listener| listener(()));
        }
    }

    fn note_lost(&self, failure: &str) {
        self.is_up.send_replace(false);
        lock(&self.on_lost).iter().for_each(|listener| listener(failure.to_owned()));
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, server: &Server) -> Option<NodeId> {
        let place = self.servers.iter().position(|known| known == server).unwrap_or(self.servers.len());
        let node = NodeId::at(place)?;
        if place == self.servers.len() {
            self.servers.push(server.clone());
        }
        Some(node)
    }
}

/// Asks the nodes. Returns whether one has answered; nothing where nobody wants to know any more.
async fn refresh(topology: &Weak<Topology>) -> Option<bool> {
    let topology = topology.upgrade()?;
    let turn = topology.turn.fetch_add(1, Relaxed);
    let answer = refresh::ask(&topology.config, topology.candidates(), turn).await;
    let has_answer = answer.ranges.is_some();
    topology.take(answer);
    Some(has_answer)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topology").field("is_up", &self.is_up()).finish_non_exhaustive()
    }
}
