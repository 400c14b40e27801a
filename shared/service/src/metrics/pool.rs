//! The gauges of a pool of connections to PostgreSQL.

use prometheus_client::registry::Registry;

use super::gauges::{register, register_labelled};

/// How the connections of a pool are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// Connections that are open and that nobody uses.
    pub idle: usize,
    /// Connections that are used.
    pub in_use: usize,
    /// How many wait for a connection.
    pub waiting: usize,
    /// How many connections there may be.
    pub limit: usize,
}

/// Registers the gauges of a pool.
pub fn register_pool(registry: &mut Registry, read: impl Fn() -> PoolUse + Clone + Send + Sync + 'static) {
    let (connections, waiting, limit) = (read.clone(), read.clone(), read);
    let states = ("state", ["idle", "in_use"]);
    register_labelled(registry, "postgres_pool_connections", "Open connections to PostgreSQL", states, move || {
        let PoolUse { idle, in_use, .. } = connections();
        [idle, in_use]
    });
    let help = "Tasks that wait for a connection to PostgreSQL";
    register(registry, "postgres_pool_waiting", help, move || waiting().waiting);
    let help = "Connections to PostgreSQL that there may be";
    register(registry, "postgres_pool_limit", help, move || limit().limit);
}
