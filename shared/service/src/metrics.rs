//! Metrics that both programs have: what a scrape is answered ([`exposition`]), gauges that are read with each scrape
//! ([`gauges`]), and the numbers of the process ([`process`]) and of its pool of connections ([`pool`]).

pub mod exposition;
pub mod gauges;
pub mod pool;
pub mod process;
