//! The parts of the benchmark, each of which can be run alone.

mod cluster;
mod connections;
mod drain;
mod fairness;
mod growth;
mod latency;
mod memory;
mod redis;
mod scan;
mod throughput;

pub(crate) mod name;
pub(crate) mod setting;

use self::{name::Name, setting::Setting};
use crate::report::Part;

/// Measures one part.
///
/// # Errors
/// When a server does not answer as it should, or the machine does not let us measure.
pub(crate) async fn run(part: Name, setting: &Setting) -> anyhow::Result<Part> {
    match part {
        Name::Throughput => throughput::run(setting).await,
        Name::Latency => latency::run(setting).await,
        Name::Redis => redis::run(setting).await,
        Name::Memory => memory::run(setting).await,
        Name::Drain => drain::run(setting).await,
        Name::Scan => scan::run(setting).await,
        Name::Connections => connections::run(setting).await,
        Name::Fairness => fairness::run(setting).await,
        Name::Growth => growth::run(setting).await,
        Name::Cluster => cluster::run(setting).await,
    }
}
