//! The start of a cluster. Each step is one command to each node, and a look whether all of them know.

use std::time::Duration;

use super::{Cluster, Node, SLOTS};
use crate::eventually;
use crate::redis::{RedisBuilder, RedisServer};
use crate::tls::Certificates;

/// It takes about three seconds: for the first two after its start, a primary takes no writes.
const FORMING_DEADLINE: Duration = Duration::from_secs(60);
const DEFAULT_PRIMARIES: usize = 3;
const DEFAULT_REPLICAS: usize = 1;
const DEFAULT_NODE_TIMEOUT: Duration = Duration::from_secs(1);

/// Settings of a [`Cluster`] that is yet to start.
pub struct ClusterBuilder {
    primaries: usize,
    replicas: usize,
    node_timeout: Duration,
    server: RedisBuilder,
    password: Option<String>,
    has_tls: bool,
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        let server = RedisServer::builder().settings(&[
            ("cluster-enabled", "yes"),
            // A node that nobody has met does not know its address.
            ("cluster-announce-ip", "127.0.0.1"),
            // What is left of the slots goes on without those that are away.
            ("cluster-require-full-coverage", "no"),
            // A primary keeps its replica, and stays one without slots.
            ("cluster-allow-replica-migration", "no"),
            // Usually a primary waits for more replicas before it sends its data.
            ("repl-diskless-sync-delay", "0"),
        ]);
        Self {
            primaries: DEFAULT_PRIMARIES,
            replicas: DEFAULT_REPLICAS,
            node_timeout: DEFAULT_NODE_TIMEOUT,
            server,
            password: None,
            has_tls: false,
        }
    }
}

impl ClusterBuilder {
    /// So many primaries, which share the slots evenly. Without three of them, none is replaced by itself: it takes a
    /// majority of them to find one dead.
    pub fn primaries(self, number: usize) -> Self {
        Self { primaries: number, ..self }
    }

    /// So many replicas of each primary.
    pub fn replicas(self, number: usize) -> Self {
        Self { replicas: number, ..self }
    }

    /// How long a node has to be silent until others take it for dead.
    pub fn node_timeout(self, timeout: Duration) -> Self {
        Self { node_timeout: timeout, ..self }
    }

    /// Additional lines of `redis.conf` of all nodes, such as `("appendonly", "yes")`; a later one overrides an earlier
    /// one and the kit's own.
    pub fn settings(self, settings: &[(&str, &str)]) -> Self {
        Self { server: self.server.settings(settings), ..self }
    }

    /// Demands a password, of characters that need no escape in a URL.
    pub fn password(self, password: &str) -> Self {
        let server = self.server.password(password).settings(&[("masterauth", password)]);
        Self { server, password: Some(password.to_owned()), ..self }
    }

    /// Serves clients with TLS, on ports of their own; the nodes speak with each other in TLS, too.
    pub fn tls(self, certificates: &Certificates) -> Self {
        let server = self.server.tls(certificates).settings(&[("tls-cluster", "yes"), ("tls-replication", "yes")]);
        Self { server, has_tls: true, ..self }
    }

    /// Starts all nodes and waits until each of them finds the cluster well, and every replica is in step.
    pub async fn start(self) -> Cluster {
        let timeout = self.node_timeout.as_millis().to_string();
        let server = self.server.settings(&[("cluster-node-timeout", &timeout)]);
        let number = self.primaries * (1 + self.replicas);
        let servers: Vec<_> = (0..number).map(|_| tokio::spawn(server.clone().start())).collect();
        let mut nodes = Vec::new();
        for server in servers {
            let server = server.await.expect("a node starts");
            let announced = server.tls_port().unwrap_or_else(|| server.port());
            let mut node = Node { server, id: String::new(), password: self.password.clone(), announced, has_tls: self.has_tls };
            node.id = node.must(&["CLUSTER", "MYID"]).await;
            nodes.push(node);
        }
        let cluster = Cluster { nodes, shards: self.primaries, found: std::sync::Mutex::default() };
        cluster.share_slots(self.primaries).await;
        cluster.meet().await;
        for (place, replica) in cluster.nodes.iter().enumerate().skip(self.primaries) {
            replica.must(&["CLUSTER", "REPLICATE", cluster.node(place % self.primaries).id()]).await;
        }
        eventually("the cluster is formed", FORMING_DEADLINE, || cluster.is_well()).await;
        cluster
    }
}

impl Cluster {
    async fn share_slots(&self, primaries: usize) {
        for (place, node) in self.nodes.iter().enumerate() {
            // Otherwise, nodes with the same epoch have to agree on another one first.
            node.must(&["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()]).await;
            if place < primaries {
                let bound = |place: usize| usize::from(SLOTS) * place / primaries;
                let (first, last) = (bound(place).to_string(), (bound(place + 1) - 1).to_string());
                node.must(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
            }
        }
    }

    /// Introduces each node to each other one, which rumours alone would take longer for.
    async fn meet(&self) {
        for (place, node) in self.nodes.iter().enumerate() {
            for other in &self.nodes[place + 1..] {
                let (port, bus) = (other.announced.to_string(), other.server.cluster_port().to_string());
                node.must(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
            }
        }
        for node in &self.nodes {
            eventually("a node knows all others", FORMING_DEADLINE, || async {
                let members = node.members().await?;
                let are_all = members.len() == self.nodes.len() && members.iter().all(super::Member::is_well);
                if are_all { Ok(()) } else { Err(format!("{members:?}")) }
            })
            .await;
        }
    }
}

impl Node {
    async fn must(&self, words: &[&str]) -> String {
        let answer = self.command(words).await.unwrap_or_else(|error| panic!("{}: {error}", words.join(" ")));
        answer.into_string().unwrap_or_default()
    }
}
