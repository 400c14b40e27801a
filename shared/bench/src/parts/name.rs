//! The words with which the parts are asked for, in the order in which their results are shown.

use clap::ValueEnum;

/// A part, by the word with which it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// view-ingest beside the floor and its peers, single views and batches: requests per second, latency, CPU, memory
    Throughput,
    /// A hundred views at once, and the slowest answers under a steady load
    Latency,
    /// What a view costs Redis
    Redis,
    /// What views take of memory
    Memory,
    /// From the outbox into PostgreSQL, against a plain INSERT
    Drain,
    /// What the scan of a million posts costs, and whether clients feel it
    Scan,
    /// What ten thousand idle connections cost
    Connections,
    /// What an honest client feels of hostile ones
    Fairness,
    /// The same at one, ten and a hundred times as many posts, viewers and connections
    Growth,
    /// A Redis Cluster of one, two and three primaries against one server, and its drain by one and two view-syncd
    Cluster,
}

impl Name {
    /// Returns the word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::Redis => "redis",
            Self::Memory => "memory",
            Self::Drain => "drain",
            Self::Scan => "scan",
            Self::Connections => "connections",
            Self::Fairness => "fairness",
            Self::Growth => "growth",
            Self::Cluster => "cluster",
        }
    }

    /// Returns where the part of that word stands among all.
    pub(crate) fn place(word: &str) -> usize {
        let parts = Self::value_variants();
        parts.iter().position(|part| part.as_str() == word).unwrap_or(parts.len())
    }
}
