//! view-syncd with a Redis Cluster.

mod scan;
mod world;
