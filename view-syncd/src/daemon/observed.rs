//! What a scrape reads where it stands: nobody counts it.

use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use views_postgres::PoolStatus;
use views_service::{
    metrics::{
        gauges,
        pool::{PoolUse, register_pool},
        process,
    },
    readiness::Readiness,
};

use crate::{context::Context, metrics::PREFIX};

/// Registers what is read with each scrape.
pub(super) fn register(registry: &mut Registry, context: &Arc<Context>, readiness: &Arc<Readiness>, interval: Duration) {
    process::register(registry);
    context.health.register(registry);
    context.half_moved.register(registry);
    let registry = registry.sub_registry_with_prefix(PREFIX);
    let readiness = Arc::clone(readiness);
    let help = "1 where /readyz is 200, else 0";
    gauges::register(registry, "ready", help, move || i64::from(readiness.obstacle().is_none()));
    let help = "How often all posts are compared with PostgreSQL, as set";
    gauges::register(registry, "cycle_interval_seconds", help, move || interval.as_secs_f64());
    let database = Arc::clone(&context.database);
    register_pool(registry, move || {
        let PoolStatus { idle, in_use, waiting, limit } = database.pool_status();
        PoolUse { idle, in_use, waiting, limit }
    });
}
