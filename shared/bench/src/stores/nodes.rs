//! A Redis that a server works on: one server, or the primaries of a cluster.

use std::time::Duration;

use anyhow::Context;
use fred::{
    clients::Client as Redis,
    interfaces::{ClientLike, KeysInterface, StreamsInterface},
    types::{CustomCommand, InfoKind, Value},
};
use testkit::{
    cluster::{Cluster, ClusterBuilder, Node},
    eventually,
    redis::RedisServer,
};
use views_core::keys::Keys;

use super::info_field;

/// What docs/redis-ha.md demands of Redis. A rewrite of the append-only file would hit one server's measurement and not
/// another's.
const SETTINGS: [(&str, &str); 4] = [
    ("appendonly", "yes"),
    ("appendfsync", "everysec"),
    ("auto-aof-rewrite-percentage", "0"),
    ("maxmemory-policy", "noeviction"),
];
/// Longer than any node of a busy machine is silent.
const NODE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long Redis may take to write an append-only file with nothing in it.
const LONGEST_REWRITE: Duration = Duration::from_secs(60);

/// A Redis, and what its keys are called.
pub(crate) struct Nodes {
    kind: Kind,
    /// Reaches every key.
    pub(crate) redis: Redis,
    /// One client for each server.
    each: Vec<Redis>,
    pub(crate) keys: Keys,
}

enum Kind {
    One(RedisServer),
    Cluster(Cluster),
}

impl Nodes {
    /// Starts a single server.
    pub(crate) async fn one() -> Self {
        let server = RedisServer::start_with(&SETTINGS).await;
        let redis = server.client().await;
        Self { each: vec![redis.clone()], redis, kind: Kind::One(server), keys: Keys::default() }
    }

    /// Starts a cluster of so many primaries, without replicas: these would take their share of the same processors.
    pub(crate) async fn cluster(primaries: usize) -> Self {
        Self::of(Cluster::builder().primaries(primaries).replicas(0).node_timeout(NODE_TIMEOUT)).await
    }

    /// Starts a cluster of three primaries with a replica each, which soon takes the place of one that is away.
    pub(crate) async fn cluster_with_replicas() -> Self {
        Self::of(Cluster::builder()).await
    }

    async fn of(builder: ClusterBuilder) -> Self {
        let cluster = builder.settings(&SETTINGS).start().await;
        let mut each = Vec::new();
        for node in cluster.nodes() {
            each.push(node.server().client().await);
        }
        Self { redis: cluster.client().await, each, kind: Kind::Cluster(cluster), keys: Keys::default().in_cluster() }
    }

    /// Returns the URL for the programs.
    pub(crate) fn url(&self) -> String {
        match &self.kind {
            Kind::One(server) => server.url(),
            Kind::Cluster(cluster) => cluster.url(),
        }
    }

    /// Returns the cluster, if it is one.
    pub(crate) fn as_cluster(&self) -> Option<&Cluster> {
        match &self.kind {
            Kind::One(_) => None,
            Kind::Cluster(cluster) => Some(cluster),
        }
    }

    /// Returns the port of the first server.
    pub(crate) fn port(&self) -> u16 {
        self.servers()[0].port()
    }

    /// Returns the processes.
    pub(crate) fn pids(&self) -> anyhow::Result<Vec<u32>> {
        self.servers().iter().map(|server| server.pid().context("Redis has ended")).collect()
    }

    /// Empties all servers, and their append-only files with them, which would grow and grow otherwise.
    pub(crate) async fn forget(&self) -> anyhow::Result<()> {
        for node in &self.each {
            let () = node.flushall(false).await?;
            let _: Value = node.custom(CustomCommand::new_static("BGREWRITEAOF", None, false), Vec::<&str>::new()).await?;
        }
        for node in &self.each {
            eventually("Redis rewrites its file", LONGEST_REWRITE, || async {
                let info: String = node.info(Some(InfoKind::Persistence)).await.ok()?;
                let names = ["aof_rewrite_in_progress", "aof_rewrite_scheduled"];
                names.iter().all(|name| info_field(&info, name) == Some(0)).then_some(())
            })
            .await;
        }
        Ok(())
    }

    /// Removes the outboxes: nobody drains them meanwhile.
    pub(crate) async fn forget_outbox(&self) -> anyhow::Result<()> {
        for partition in self.keys.partitions() {
            let () = self.redis.del(self.keys.outbox_of(partition)).await?;
        }
        Ok(())
    }

    /// Returns the entries in the outboxes.
    pub(crate) async fn outbox(&self) -> anyhow::Result<u64> {
        let pipeline = self.redis.pipeline();
        for partition in self.keys.partitions() {
            let () = pipeline.xlen(self.keys.outbox_of(partition)).await?;
        }
        Ok(pipeline.all::<Vec<u64>>().await?.iter().sum())
    }

    fn servers(&self) -> Vec<&RedisServer> {
        match &self.kind {
            Kind::One(server) => vec![server],
            Kind::Cluster(cluster) => cluster.nodes().iter().map(Node::server).collect(),
        }
    }
}
