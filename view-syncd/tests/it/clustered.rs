//! view-syncd with a Redis Cluster.

mod commands;
mod half_moved;
mod scan;
mod world;
