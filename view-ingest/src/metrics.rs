//! What is counted for operators. Every handle is made once; the hot path only adds to numbers.

mod histogram;
mod worker;

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use views_service::metrics::gauges;

use self::worker::Workers;
pub(crate) use self::worker::{Route, WorkerMetrics};
use crate::record::request::Status;

/// What every name begins with.
pub(crate) const PREFIX: &str = "view_ingest";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// The numbers of one process, shared by its workers but for those that each counts for itself.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Views that were new.
    pub(crate) counted: Counter,
    /// Views whose viewer had seen the post before.
    pub(crate) duplicate: Counter,
    /// Views of the author.
    pub(crate) own: Counter,
    /// Views of posts that do not exist.
    pub(crate) not_found: Counter,
    /// Views that were refused because their account had sent too many.
    pub(crate) rate_limited: Counter,
    /// Counts that were read.
    pub(crate) reads: Counter,
    /// Views and reads that no store could take.
    pub(crate) failed: Counter,
    /// What the worker whose copy this is counts for itself: requests and batches. Only its own thread adds to it.
    pub(crate) worker: Arc<WorkerMetrics>,
    workers: Arc<[Arc<WorkerMetrics>]>,
    /// Seconds from a query for posts to the last reply about them.
    pub(crate) lookup_seconds: Histogram,
    /// Posts looked up in PostgreSQL and found.
    pub(crate) lookups_found: Counter,
    /// Posts looked up in PostgreSQL and not found.
    pub(crate) lookups_missing: Counter,
    /// Posts that could not be looked up.
    pub(crate) lookups_unavailable: Counter,
    /// Views that PostgreSQL has taken because Redis was away.
    pub(crate) bypassed: Counter,
    /// How many recorders write to PostgreSQL because Redis is away.
    pub(crate) in_fallback: Gauge,
    /// Whether Redis is not as it is needed.
    pub(crate) redis_misconfigured: Gauge,
    /// Whether PostgreSQL's tables are not as they are needed.
    pub(crate) postgres_misconfigured: Gauge,
    /// Connections that are open.
    pub(crate) connections: Gauge,
    /// Connections that gave way to others.
    pub(crate) evicted: Counter,
    /// Connections closed because an answer was not taken.
    pub(crate) not_taken: Counter,
    /// Connections and requests turned away because too many were there already.
    pub(crate) turned_away: Counter,
}

impl Metrics {
    /// Makes the handles of a process with so many workers, and registers them.
    pub(crate) fn new(registry: &mut Registry, workers: usize) -> Self {
        let registry = registry.sub_registry_with_prefix(PREFIX);
        gauges::register_build(registry, env!("CARGO_PKG_VERSION"));
        let workers: Arc<[Arc<WorkerMetrics>]> = (0..workers.max(1)).map(|_| Arc::default()).collect();
        registry.register_collector(Box::new(Workers(Arc::clone(&workers))));

        let views = Family::<StatusLabel, Counter>::default();
        registry.register("views", "Views by verdict; failed: no store took them", views.clone());
        let view = |status| views.get_or_create_owned(&StatusLabel { status });

        let lookups = Family::<OutcomeLabel, Counter>::default();
        registry.register(
            "first_touches",
            "Posts looked up in PostgreSQL because Redis did not know them, by outcome",
            lookups.clone(),
        );
        let lookup = |outcome| lookups.get_or_create_owned(&OutcomeLabel { outcome });

        let metrics = Self {
            counted: view("counted"),
            duplicate: view("duplicate"),
            own: view("own"),
            not_found: view("not_found"),
            failed: view("failed"),
            reads: Counter::default(),
            worker: Arc::clone(&workers[0]),
            workers,
            lookup_seconds: Histogram::new(exponential_buckets(0.000_5, 2.0, 14)),
            lookups_found: lookup("found"),
            lookups_missing: lookup("missing"),
            lookups_unavailable: lookup("unavailable"),
            bypassed: Counter::default(),
            in_fallback: Gauge::default(),
            redis_misconfigured: Gauge::default(),
            postgres_misconfigured: Gauge::default(),
            connections: Gauge::default(),
            evicted: Counter::default(),
            not_taken: Counter::default(),
            rate_limited: Counter::default(),
            turned_away: Counter::default(),
        };
        let help = "Views refused because their viewer had sent more than --viewer-rate allows";
        registry.register("views_rate_limited", help, metrics.rate_limited.clone());
        registry.register("count_reads", "Live counts read", metrics.reads.clone());
        let help = "Seconds from a query for posts that Redis does not know to the last reply about them";
        registry.register("lookup_seconds", help, metrics.lookup_seconds.clone());
        registry.register(
            "bypassed_views",
            "Views that the fallback stored in PostgreSQL while Redis was away",
            metrics.bypassed.clone(),
        );
        let help = "Recorders in fallback: they store views in PostgreSQL because Redis is away";
        registry.register("recorders_in_fallback", help, metrics.in_fallback.clone());
        let help = "1 where Redis does not meet the requirements or its keys have another owner, as the log says; else 0";
        registry.register("redis_unfit", help, metrics.redis_misconfigured.clone());
        let help = "1 where the tables in PostgreSQL do not meet the requirements, as the log says; else 0";
        registry.register("postgres_unfit", help, metrics.postgres_misconfigured.clone());
        registry.register("connections", "Open connections", metrics.connections.clone());
        let help = "Idle or incomplete connections closed to admit new ones";
        registry.register("connections_evicted", help, metrics.evicted.clone());
        let help = "Connections closed because the client did not read a response in time";
        registry.register("answers_not_taken", help, metrics.not_taken.clone());
        registry.register(
            "turned_away",
            "Connections and requests refused because a limit was reached",
            metrics.turned_away.clone(),
        );
        metrics
    }

    /// Counts one verdict, where a batch's sums are not at hand.
    pub(crate) fn count(&self, status: Status) {
        match status {
            Status::Counted => self.counted.inc(),
            Status::Duplicate => self.duplicate.inc(),
            Status::Own => self.own.inc(),
            Status::NotFound => self.not_found.inc(),
            Status::Read => self.reads.inc(),
        };
    }

    /// Returns the same for the worker with this number.
    pub(crate) fn at(&self, worker_id: usize) -> Self {
        Self { worker: Arc::clone(&self.workers[worker_id]), ..self.clone() }
    }
}
