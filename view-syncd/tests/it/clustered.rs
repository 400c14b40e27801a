//! view-syncd with a Redis Cluster.

mod away;
mod commands;
mod half_moved;
mod scan;
pub(crate) mod world;
