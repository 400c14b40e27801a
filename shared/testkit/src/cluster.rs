//! A Redis Cluster: primaries with their replicas, slots that move, and failovers.
//!
//! The kit speaks with each node by itself, over connections of its own, so that it can tell what a node says from what a
//! client library makes of it.

mod forming;
mod members;
mod node;
mod shards;
mod slots;
mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fred::prelude::{Builder, Client, ClientLike, Config, ReconnectPolicy};
use fred::types::Value;
use fred::util::redis_keyslot;
use tokio::time::{Instant, sleep};

pub use self::forming::ClusterBuilder;
pub use self::members::{Member, OpenSlot, Way};
pub use self::node::Node;
pub use self::slots::Stop;
use crate::{SOON, eventually};

/// How many slots there are.
pub const SLOTS: u16 = 16_384;
/// A failover by itself takes the node time-out, an election and a look around. On a busy machine, an election may fail.
pub const FAILOVER_DEADLINE: Duration = Duration::from_secs(120);

/// How long a client waits for an answer.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before a command is sent again that no node could take.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A Redis Cluster on free ports of 127.0.0.1. Dropping it removes everything.
pub struct Cluster {
    nodes: Vec<Node>,
    /// How many primaries there were at the start. Each had the replicas that have the same place modulo this.
    shards: usize,
    /// Which node a slot was found at last.
    found: Mutex<HashMap<u16, usize>>,
}

impl Cluster {
    /// Starts three primaries with a replica each, and waits until all of them are well.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// For other sizes, a password, TLS, and further settings.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// Returns the URL for clients, with the password if there is one: `redis-cluster://…`, or `rediss-cluster://…` with
    /// TLS. The first node is its only seed.
    pub fn url(&self) -> String {
        self.url_of(&[&self.nodes[0]])
    }

    /// Returns the URL with other seeds, of which there is at least one.
    pub fn url_of(&self, seeds: &[&Node]) -> String {
        let (first, others) = seeds.split_first().expect("a URL has a seed");
        let scheme = if first.has_tls { "rediss-cluster" } else { "redis-cluster" };
        let others: Vec<String> = others.iter().map(|node| format!("node={}", node.address())).collect();
        let query = if others.is_empty() { String::new() } else { format!("?{}", others.join("&")) };
        format!("{scheme}://{}{}{query}", first.credentials(), first.address())
    }

    /// Returns a connected client, which reconnects for ever and belongs to the current runtime. It takes the ports without TLS.
    pub async fn client(&self) -> Client {
        let seeds: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.server.port())).collect();
        let url = format!("redis-cluster://{}{}?node={}", self.nodes[0].credentials(), seeds[0], seeds[1..].join("&node="));
        let config = Config::from_url(url.trim_end_matches("?node=")).expect("the URL is valid");
        let client = Builder::from_config(config)
            .with_performance_config(|config| config.default_command_timeout = COMMAND_TIMEOUT)
            .with_connection_config(|config| config.max_redirections = 20)
            .set_policy(ReconnectPolicy::new_constant(0, 50))
            .build()
            .expect("the configuration is valid");
        client.init().await.unwrap_or_else(|error| panic!("cannot connect to the cluster: {error}"));
        client
    }

    /// Returns a node: the primaries of the start first, then their replicas in the same order.
    pub fn node(&self, place: usize) -> &Node {
        &self.nodes[place]
    }

    /// Returns all nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the addresses of all nodes, as clients are told them.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// Ends a node by SIGKILL and waits for its end.
    pub async fn kill(&self, node: &Node) {
        node.server.kill().await;
    }

    /// Starts a node again, killing it first if it runs. What it has lost by that depends on its append-only file.
    pub async fn restart(&self, node: &Node) {
        node.server.restart().await;
    }

    /// Freezes a node: connections stay open and nothing answers.
    pub fn pause(&self, node: &Node) {
        node.server.pause();
    }

    /// Lets a frozen node go on.
    pub fn resume(&self, node: &Node) {
        node.server.resume();
    }

    /// Returns what each node that answers says of itself, with its place.
    pub async fn members(&self) -> Vec<(usize, Member)> {
        let mut found = Vec::new();
        for (place, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.server.is_running()) {
            if let Ok(members) = node.members().await {
                found.extend(members.into_iter().find(|member| member.is_myself).map(|member| (place, member)));
            }
        }
        found
    }

    /// Returns the primary that has a slot, as soon as one says so that answers.
    pub async fn primary_of(&self, slot: u16) -> &Node {
        let description = format!("a primary has slot {slot}");
        let place = eventually(&description, FAILOVER_DEADLINE, || async {
            let members = self.members().await;
            owner_of(&members, slot).ok_or_else(|| format!("{members:?}"))
        });
        &self.nodes[place.await]
    }

    /// Returns the primary that has a slot now, if one that answers says so.
    pub async fn owner_of(&self, slot: u16) -> Option<&Node> {
        owner_of(&self.members().await, slot).map(|place| &self.nodes[place])
    }

    /// Returns the primary that has the slot of a key.
    pub async fn primary_of_key(&self, key: &str) -> &Node {
        self.primary_of(slot_of(key)).await
    }

    /// Returns the nodes that say that they are primaries and have slots.
    pub async fn primaries(&self) -> Vec<&Node> {
        let members = self.members().await;
        members
            .iter()
            .filter(|(_, member)| member.is_primary() && !member.slots.is_empty())
            .map(|(place, _)| &self.nodes[*place])
            .collect()
    }

    /// Returns the nodes that say that they are replicas of a primary.
    pub async fn replicas_of(&self, primary: &Node) -> Vec<&Node> {
        let members = self.members().await;
        let of = |member: &Member| member.primary.as_deref() == Some(primary.id());
        members.iter().filter(|(_, member)| of(member)).map(|(place, _)| &self.nodes[*place]).collect()
    }

    /// Has a replica take the place of its primary, which is well (`CLUSTER FAILOVER`), and waits until it has.
    pub async fn fail_over(&self, replica: &Node) {
        self.promote(replica, &["CLUSTER", "FAILOVER"]).await;
    }

    /// Has a replica take the place of its primary without asking it (`CLUSTER FAILOVER FORCE`), and waits until it has.
    pub async fn fail_over_by_force(&self, replica: &Node) {
        self.promote(replica, &["CLUSTER", "FAILOVER", "FORCE"]).await;
    }

    async fn promote(&self, replica: &Node, command: &[&str]) {
        eventually("the replica is a primary", FAILOVER_DEADLINE, || async {
            if replica.is_primary().await? {
                return Ok(());
            }
            replica.command(command).await?;
            // One that fails is given up by the node, and asked for again here.
            let is_done = crate::within(Duration::from_secs(5), || async { replica.is_primary().await.unwrap_or(false) });
            is_done.await
        })
        .await;
    }

    /// Waits until every node that runs finds the cluster well, all slots are at primaries that answer, and all replicas
    /// are in step.
    pub async fn until_ok(&self) {
        eventually("the cluster is well", FAILOVER_DEADLINE, || self.is_well()).await;
    }

    /// Returns the same at once.
    ///
    /// # Errors
    /// What is not well.
    pub async fn is_well(&self) -> Result<(), String> {
        let members = self.members().await;
        for node in self.nodes.iter().filter(|node| node.server.is_running()) {
            let state = node.look(&["CLUSTER", "INFO"]).await?.into_string().unwrap_or_default();
            if !state.contains("cluster_state:ok") {
                return Err(format!("{} says {state}", node.address()));
            }
            // All agree about the owners.
            for member in node.members().await? {
                let own = members.iter().find(|(place, _)| self.nodes[*place].id == member.id);
                if own.is_some_and(|(_, own)| own.slots != member.slots) {
                    return Err(format!("{} has other slots for {} than this", node.address(), member.id));
                }
            }
        }
        if let Some(slot) = (0..SLOTS).find(|slot| owner_of(&members, *slot).is_none()) {
            return Err(format!("nobody has slot {slot}"));
        }
        for (place, _) in members.iter().filter(|(_, member)| !member.is_primary()) {
            if !self.nodes[*place].is_in_step().await {
                return Err(format!("the replica {} is not in step", self.nodes[*place].address()));
            }
        }
        Ok(())
    }

    /// Sends a command to the node that has its first key, wherever that is by now, and returns the answer.
    ///
    /// # Panics
    /// When the answer is an error, or none comes within [`SOON`].
    pub async fn command(&self, words: &[&str]) -> Value {
        self.try_command(words).await.unwrap_or_else(|error| panic!("{}: {error}", words.join(" ")))
    }

    /// Sends a command to the node that has its first key, wherever that is by now.
    ///
    /// # Errors
    /// The error that a node has answered, or why none has.
    pub async fn try_command(&self, words: &[&str]) -> Result<Value, String> {
        let slot = slot_of(words.get(1).expect("a command with a key"));
        let deadline = Instant::now() + SOON;
        let (mut place, mut asking) = (self.guess(slot), false);
        loop {
            let node = &self.nodes[place];
            let error = match node.exchange(words, asking).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if Instant::now() > deadline {
                return Err(error);
            }
            let said: Vec<&str> = error.split_whitespace().collect();
            let named = said.get(2).and_then(|address| self.place_at(address));
            match (said.first().copied(), named) {
                (Some("MOVED"), Some(named)) => {
                    self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(slot, named);
                    (place, asking) = (named, false);
                }
                (Some("ASK"), Some(named)) => (place, asking) = (named, true),
                (Some("TRYAGAIN"), _) => sleep(RETRY_PAUSE).await,
                (Some("CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | wire::AWAY), _) => {
                    sleep(RETRY_PAUSE).await;
                    (place, asking) = ((place + 1) % self.nodes.len(), false);
                }
                _ => return Err(error),
            }
        }
    }

    /// Does the same with many commands that may be repeated, at once where the nodes that have their keys are known.
    pub async fn try_commands(&self, commands: &[&[&str]]) -> Vec<Result<Value, String>> {
        let places: Vec<usize> = commands.iter().map(|words| self.guess(slot_of(words[1]))).collect();
        let mut answers: Vec<Option<Value>> = vec![None; commands.len()];
        for (place, node) in self.nodes.iter().enumerate() {
            let own = || places.iter().enumerate().filter(|(_, own)| **own == place).map(|(command, _)| command);
            let pipeline: Vec<&[&str]> = own().map(|command| commands[command]).collect();
            let answered = if pipeline.is_empty() { Ok(Vec::new()) } else { node.pipeline(&pipeline).await };
            for (command, answer) in own().zip(answered.unwrap_or_default()) {
                answers[command] = answer.ok();
            }
        }
        let mut all = Vec::new();
        for (words, answer) in commands.iter().zip(answers) {
            all.push(match answer {
                Some(answer) => Ok(answer),
                None => self.try_command(words).await,
            });
        }
        all
    }

    fn guess(&self, slot: u16) -> usize {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).get(&slot).copied();
        found.unwrap_or_default()
    }

    fn place_at(&self, address: &str) -> Option<usize> {
        let (_, port) = address.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        self.nodes.iter().position(|node| [node.server.port(), node.announced].contains(&port))
    }
}

/// Returns the slot of a key.
pub fn slot_of(key: &str) -> u16 {
    redis_keyslot(key.as_bytes())
}

/// Returns the place of the primary that has a slot. A primary that was away for a while may not know yet that another
/// one has its slots: the later claim counts.
fn owner_of(members: &[(usize, Member)], slot: u16) -> Option<usize> {
    let claims = members.iter().filter(|(_, member)| member.is_primary() && member.has(slot));
    claims.max_by_key(|(_, member)| member.epoch).map(|(place, _)| *place)
}
