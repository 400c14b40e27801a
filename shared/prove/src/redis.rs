//! Redis as the proof itself reaches it, past all proxies: a server, or a cluster.

use std::collections::BTreeSet;

use fred::{
    clients::Client,
    interfaces::ClientLike,
    types::{ClusterHash, CustomCommand, FromValue, Value},
};
use testkit::{cluster::Cluster, redis::RedisServer};
use views_core::{keys::Keys, partition::Partition};

use crate::{history::History, schedule::Layout};

/// A Redis that has answered has written it down.
const SERVER_SETTINGS: [(&str, &str); 2] = [("appendonly", "yes"), ("appendfsync", "always")];
/// So has a node, into the system's memory, which survives the death of the process. If it waited for the disk, a slow
/// one would have others take it for dead.
const NODE_SETTINGS: [(&str, &str); 2] = [("appendonly", "yes"), ("appendfsync", "no")];
/// Longer than a node of a busy machine is silent by itself: what one that lives acknowledges while its replica takes its
/// place is lost.
const NODE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// What the programs keep their keys in.
pub(crate) enum Redis {
    Alone { server: RedisServer, client: Client },
    Cluster(Cluster),
}

impl Redis {
    pub(crate) async fn start(layout: Layout) -> Self {
        match layout {
            Layout::Alone => {
                let server = RedisServer::start_with(&SERVER_SETTINGS).await;
                Self::Alone { client: server.client().await, server }
            }
            Layout::Cluster => {
                Self::Cluster(Cluster::builder().node_timeout(NODE_TIMEOUT).settings(&NODE_SETTINGS).start().await)
            }
        }
    }

    /// Returns the URL for programs.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Alone { server, .. } => server.url(),
            Self::Cluster(cluster) => {
                let seeds: Vec<_> = cluster.nodes().iter().collect();
                cluster.url_of(&seeds)
            }
        }
    }

    /// Returns the names of everything in it.
    pub(crate) fn keys(&self) -> Keys {
        match self {
            Self::Alone { .. } => Keys::default(),
            Self::Cluster(_) => Keys::default().in_cluster(),
        }
    }

    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        match self {
            Self::Alone { .. } => None,
            Self::Cluster(cluster) => Some(cluster),
        }
    }

    pub(crate) fn server(&self) -> Option<&RedisServer> {
        match self {
            Self::Alone { server, .. } => Some(server),
            Self::Cluster(_) => None,
        }
    }

    /// Returns the ports of all servers.
    pub(crate) fn ports(&self) -> Vec<u16> {
        match self {
            Self::Alone { server, .. } => vec![server.port()],
            Self::Cluster(cluster) => cluster.nodes().iter().map(|node| node.server().port()).collect(),
        }
    }

    /// Sends a command with a key. Gives nothing where Redis is away, or answers with an error or something else.
    pub(crate) async fn command<T: FromValue>(&self, words: &[&str]) -> Option<T> {
        let (name, arguments) = words.split_first().expect("a command has a name");
        let answer = match self {
            Self::Alone { client, .. } => {
                let command = CustomCommand::new((*name).to_owned(), ClusterHash::FirstKey, false);
                let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
                client.custom(command, arguments).await.ok()
            }
            Self::Cluster(cluster) => cluster.try_command(words).await.ok(),
        };
        answer.and_then(|answer| answer.convert().ok())
    }

    /// Returns how many entries are in all outboxes together.
    pub(crate) async fn outbox_length(&self) -> Option<u64> {
        let keys = self.keys();
        let outboxes: Vec<[&str; 2]> = keys.drained_partitions().map(|partition| ["XLEN", keys.outbox_of(partition)]).collect();
        let lengths: Vec<u64> = self.commands(&outboxes).await?;
        Some(lengths.into_iter().sum())
    }

    /// Returns all outboxes.
    pub(crate) async fn outboxes(&self) -> Option<Vec<Value>> {
        let keys = self.keys();
        let outbox = |partition| ["XRANGE", keys.outbox_of(partition), "-", "+"];
        let outboxes: Vec<[&str; 4]> = keys.drained_partitions().map(outbox).collect();
        self.commands(&outboxes).await
    }

    /// Sends commands with a key each. Gives nothing where one of them is not answered.
    async fn commands<T: FromValue, const WORDS: usize>(&self, commands: &[[&str; WORDS]]) -> Option<Vec<T>> {
        if let Self::Cluster(cluster) = self {
            let commands: Vec<&[&str]> = commands.iter().map(|words| &words[..]).collect();
            let answers = cluster.try_commands(&commands).await;
            return answers.into_iter().map(|answer| answer.ok()?.convert().ok()).collect();
        }
        let mut answers = Vec::new();
        for words in commands {
            answers.push(self.command(words).await?);
        }
        Some(answers)
    }

    /// Returns the partitions whose outbox, or a part of it, is at a node that no client is sent to: a failover in the
    /// midst of a move leaves such keys, until the cluster is mended.
    pub(crate) async fn hidden(&self) -> Option<BTreeSet<Partition>> {
        let Self::Cluster(cluster) = self else { return Some(BTreeSet::new()) };
        let keys = self.keys();
        let slots: Vec<(u16, Partition)> = keys
            .drained_partitions()
            .map(|partition| (testkit::cluster::slot_of(keys.outbox_of(partition)), partition))
            .collect();
        let numbers: Vec<u16> = slots.iter().map(|(slot, _)| *slot).collect();
        let hidden = cluster.hidden(&numbers).await.ok()?;
        Some(slots.into_iter().filter(|(slot, _)| hidden.contains(slot)).map(|(_, partition)| partition).collect())
    }

    /// Keeps what the servers have logged.
    pub(crate) fn save_logs(&self, history: &History) {
        match self {
            Self::Alone { server, .. } => history.append("redis.log", &server.log()),
            Self::Cluster(cluster) => {
                for node in cluster.nodes() {
                    history.append(&format!("redis-{}.log", node.server().port()), &node.server().log());
                }
            }
        }
    }
}
