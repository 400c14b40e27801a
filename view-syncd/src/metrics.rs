//! What is counted for operators. Every handle is made once.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabel {
    store: &'static str,
}

/// The numbers of one process.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Pairs that PostgreSQL did not have.
    pub(crate) new: Counter,
    /// Pairs that PostgreSQL had already, or that are the author's own.
    pub(crate) known: Counter,
    /// Pairs of posts that do not exist.
    pub(crate) unknown_post: Counter,
    /// Pairs that PostgreSQL can never take.
    pub(crate) dead: Counter,
    /// Batches that have been stored and acknowledged.
    pub(crate) batches: Counter,
    /// Drain steps that failed.
    pub(crate) drain_failures: Counter,
    /// Seconds from the first look at a batch to the last reply about it.
    pub(crate) batch_seconds: Histogram,
    /// Entries in the outbox, as last seen.
    pub(crate) outbox_entries: Gauge,
    /// Posts whose views wait for locks.
    pub(crate) deferred_posts: Gauge,
    /// Pairs of posts that do not exist, for which there was no more room among the dead.
    pub(crate) dropped: Counter,
    /// Dead letters that could be stored when they were retried.
    pub(crate) retried: Counter,
    /// Scans that came to their end.
    pub(crate) scans: Counter,
    /// Cycles that failed.
    pub(crate) cycle_failures: Counter,
    /// Seconds from a scan's first page to its last.
    pub(crate) scan_seconds: Histogram,
    /// Posts that scans have looked at.
    pub(crate) posts_scanned: Counter,
    /// Sets that were imported into the ledger because somebody else had written them.
    pub(crate) imported_sets: Counter,
    /// Posts whose `acked` was corrected.
    pub(crate) drifts: Counter,
    /// When the last cycle succeeded, in seconds since 1970.
    pub(crate) last_sync: Gauge<f64, AtomicU64>,
    /// Whether this daemon leads.
    pub(crate) leader: Gauge,
    /// Whether Redis answered when it was last asked.
    pub(crate) redis_up: Gauge,
    /// Whether PostgreSQL answered when it was last asked.
    pub(crate) postgres_up: Gauge,
}

/// Registers the gauge of a Redis that is not as it is needed.
pub(crate) fn register_misconfigured(registry: &mut Registry, misconfigured: &Gauge) {
    let help = "1 where Redis does not meet the requirements or its keys have another owner, as the log says; else 0";
    registry.sub_registry_with_prefix("view_syncd").register("redis_unfit", help, misconfigured.clone());
}

impl Metrics {
    /// Makes the handles and registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("view_syncd");
        registry.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));

        let pairs = Family::<OutcomeLabel, Counter>::default();
        registry.register("pairs", "Pairs drained from the outbox or imported from a set, by outcome", pairs.clone());
        let pair = |outcome| pairs.get_or_create_owned(&OutcomeLabel { outcome });

        let up = Family::<StoreLabel, Gauge>::default();
        registry.register("store_up", "1 where the store answered when it was last asked, else 0", up.clone());
        let up = |store| up.get_or_create_owned(&StoreLabel { store });

        let metrics = Self {
            new: pair("new"),
            known: pair("known_or_own"),
            unknown_post: pair("unknown_post"),
            dead: pair("dead"),
            batches: Counter::default(),
            drain_failures: Counter::default(),
            batch_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            outbox_entries: Gauge::default(),
            deferred_posts: Gauge::default(),
            dropped: pair("dropped"),
            retried: pair("revived"),
            scans: Counter::default(),
            cycle_failures: Counter::default(),
            scan_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 20)),
            posts_scanned: Counter::default(),
            imported_sets: Counter::default(),
            drifts: Counter::default(),
            last_sync: Gauge::default(),
            leader: Gauge::default(),
            redis_up: up("redis"),
            postgres_up: up("postgresql"),
        };
        registry.register("batches", "Batches stored and acknowledged", metrics.batches.clone());
        registry.register("drain_failures", "Steps of the drain that failed", metrics.drain_failures.clone());
        registry.register("batch_seconds", "Seconds to store a batch", metrics.batch_seconds.clone());
        registry.register("leader", "1 where this daemon is the leader, 0 where it is a standby", metrics.leader.clone());
        registry.register("outbox_entries", "Entries in the outbox, as last seen", metrics.outbox_entries.clone());
        let help = "Deferred posts: their pairs wait in the outbox for locks that others hold in PostgreSQL";
        registry.register("held_posts", help, metrics.deferred_posts.clone());
        registry.register("scans", "Completed scans", metrics.scans.clone());
        registry.register("cycle_failures", "Cycles that failed", metrics.cycle_failures.clone());
        registry.register("scan_seconds", "Seconds a scan took", metrics.scan_seconds.clone());
        registry.register("posts_scanned", "Posts scanned", metrics.posts_scanned.clone());
        registry.register(
            "unions",
            "Sets imported into the ledger because somebody else had written them",
            metrics.imported_sets.clone(),
        );
        registry.register("drifts_repaired", "Posts whose drift was corrected", metrics.drifts.clone());
        registry.register(
            "last_sync_timestamp_seconds",
            "When the last cycle succeeded, in seconds since 1970",
            metrics.last_sync.clone(),
        );
        metrics
    }
}
