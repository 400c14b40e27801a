//! The parts of the benchmark, each of which can be run alone.

mod connections;
mod drain;
mod fairness;
mod growth;
mod latency;
mod memory;
mod redis;
mod scan;
mod throughput;

use std::time::Duration;

use clap::ValueEnum;
use testkit::postgres::PostgresServer;

use crate::{
    population::Population,
    report::Part,
    servers::{Kind, Programs, Server},
};

/// Posts and viewers of the parts that do not say otherwise. So many viewers that no server lives off tokens that it has just seen.
const POSTS: usize = 10_000;
const VIEWERS: usize = 20_000;

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
}

/// What all parts are given.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) programs: Programs,
    /// The servers of the comparison.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) rounds: usize,
    /// How long one measurement takes.
    pub(crate) seconds: u64,
    /// Whether it is only to be seen that everything works.
    pub(crate) quick: bool,
}

impl Name {
    /// The word.
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
        }
    }

    /// Where the part of that word stands among all.
    pub(crate) fn place(word: &str) -> usize {
        let parts = Self::value_variants();
        parts.iter().position(|part| part.as_str() == word).unwrap_or(parts.len())
    }

    /// Measures.
    ///
    /// # Errors
    /// When a server does not answer as it should, or the machine does not let us measure.
    pub(crate) async fn run(self, setting: &Setting) -> anyhow::Result<Part> {
        match self {
            Self::Throughput => throughput::run(setting).await,
            Self::Latency => latency::run(setting).await,
            Self::Redis => redis::run(setting).await,
            Self::Memory => memory::run(setting).await,
            Self::Drain => drain::run(setting).await,
            Self::Scan => scan::run(setting).await,
            Self::Connections => connections::run(setting).await,
            Self::Fairness => fairness::run(setting).await,
            Self::Growth => growth::run(setting).await,
        }
    }
}

impl Setting {
    /// One size for a real run, and a small one to see that it works.
    fn scale<T>(&self, real: T, quick: T) -> T {
        if self.quick { quick } else { real }
    }

    /// How long one measurement takes.
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// view-ingest alone, on stores of its own.
    async fn ingest(&self, postgres: &PostgresServer, population: &Population) -> anyhow::Result<Server> {
        Server::start(Kind::ViewIngest, &self.programs, postgres, population).await
    }
}

/// Tells whoever waits what is being done.
fn say(text: impl std::fmt::Display) {
    println!("    {text}");
}
