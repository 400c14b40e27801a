//! What a scrape reads where it stands: nobody counts it.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use views_postgres::{Database, PoolStatus};
use views_service::{
    metrics::{
        gauges,
        pool::{PoolUse, register_pool},
        process,
    },
    readiness::Readiness,
};

use crate::{
    metrics::PREFIX,
    record::{health::Health, request::RequestSender, unverified::UnverifiedPosts},
};

/// Registers what is read with each scrape.
pub(crate) fn register(
    registry: &mut Registry,
    health: &Arc<Health>,
    readiness: &Arc<Readiness>,
    queues: &[RequestSender],
    unverified: &UnverifiedPosts,
    database: Option<&Arc<Database>>,
) {
    process::register(registry);
    let registry = registry.sub_registry_with_prefix(PREFIX);
    let readiness = Arc::clone(readiness);
    let help = "1 where /readyz is 200, else 0";
    gauges::register(registry, "ready", help, move || i64::from(readiness.obstacle().is_none()));
    let stores = Arc::clone(health);
    let help = "1 for the store that takes views now, else 0; none: views are refused";
    gauges::register_labelled(registry, "active_store", help, ("store", ["redis", "postgresql", "none"]), move || {
        stores.takes_views().map(i64::from)
    });
    let redis = Arc::clone(health);
    let help = "1 where every worker is connected to a Redis that is as it is needed, of a cluster to any node, as far as is known; else 0";
    gauges::register(registry, "redis_up", help, move || i64::from(redis.redis_seems_available()));
    let redis = Arc::clone(health);
    let help = "Primaries of Redis that take no views as far as any worker knows, of a cluster or the only one";
    gauges::register(registry, "redis_nodes_away", help, move || redis.away_servers());
    let queues = queues.to_vec();
    let help = "Requests that wait in the workers' queues, by kind";
    gauges::register_labelled(registry, "queued_requests", help, ("kind", ["view", "read", "viewed"]), move || {
        let lengths = queues.iter().map(RequestSender::lengths);
        lengths.fold([0; 3], |sum, lengths| std::array::from_fn(|kind| sum[kind] + lengths[kind]))
    });
    let unverified = unverified.clone();
    let help =
        "Posts accepted while PostgreSQL could not be asked whether they exist; past --max-unseen-posts, views of others get 503";
    gauges::register(registry, "unverified_posts", help, move || unverified.taken());
    if let Some(database) = database {
        let health = Arc::clone(health);
        let help = "1 where PostgreSQL answered when it was last asked, else 0";
        gauges::register(registry, "postgres_up", help, move || i64::from(health.database.answers()));
        let database = Arc::clone(database);
        register_pool(registry, move || {
            let PoolStatus { idle, in_use, waiting, limit } = database.pool_status();
            PoolUse { idle, in_use, waiting, limit }
        });
    }
}
