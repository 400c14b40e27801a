//! What is counted for operators. Every handle is made once.

use std::sync::atomic::AtomicU64;

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

/// What every name begins with.
pub(crate) const PREFIX: &str = "view_syncd";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabel {
    store: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Posts that were left for later, by what they wait for.
#[derive(Debug, Clone)]
pub(crate) struct Deferrals {
    /// A lock on the post's row.
    pub(crate) row_locked: Counter,
    /// A lock on what one of its pairs needs.
    pub(crate) pair_locked: Counter,
    /// Room in the column of its count.
    pub(crate) count_full: Counter,
}

/// What a scan has found different in Redis and in PostgreSQL.
#[derive(Debug, Clone)]
pub(crate) struct Differences {
    /// Another count.
    pub(crate) count: Counter,
    /// Another author.
    pub(crate) author: Counter,
    /// A key without a time to live.
    pub(crate) ttl: Counter,
    /// A set with viewers whom the ledger lacks, as it has fewer views than it had.
    pub(crate) set: Counter,
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
    /// Pairs in a batch.
    pub(crate) batch_pairs: Histogram,
    /// Times that a post was left for later.
    pub(crate) deferrals: Deferrals,
    /// Dead letters, as last seen.
    pub(crate) dead_letters: Gauge,
    /// Pairs of posts that do not exist, for which there was no more room among the dead.
    pub(crate) dropped: Counter,
    /// Dead letters that could be stored when they were retried.
    pub(crate) retried: Counter,
    /// Scans that came to their end.
    pub(crate) scans: Counter,
    /// Cycles that failed.
    pub(crate) cycle_failures: Counter,
    /// Seconds that a cycle took that did not fail.
    pub(crate) cycle_seconds: Histogram,
    /// Posts that the last cycle brought into order.
    pub(crate) posts_successful: Gauge,
    /// Posts that it could not bring into order.
    pub(crate) posts_with_errors: Gauge,
    /// Seconds from a scan's first page to its last.
    pub(crate) scan_seconds: Histogram,
    /// Posts that scans have looked at.
    pub(crate) posts_scanned: Counter,
    /// Sets that were imported into the ledger because somebody else had written them.
    pub(crate) imported_sets: Counter,
    /// What scans have found different.
    pub(crate) differences: Differences,
    /// Posts whose `recorded` less `acked` was found to disagree with the outbox.
    pub(crate) drifts_found: Counter,
    /// Posts whose `acked` was corrected.
    pub(crate) drifts: Counter,
    /// When the last cycle succeeded, in seconds since 1970.
    pub(crate) last_sync: Gauge<f64, AtomicU64>,
    /// Whether this daemon leads.
    pub(crate) leader: Gauge,
    /// How many partitions it drains.
    pub(crate) partitions: Gauge,
    /// Whether Redis answered when it was last asked.
    pub(crate) redis_up: Gauge,
    /// Whether PostgreSQL answered when it was last asked.
    pub(crate) postgres_up: Gauge,
    /// Whether PostgreSQL's tables are not as they are needed.
    pub(crate) postgres_misconfigured: Gauge,
}

/// Registers the gauge of a Redis that is not as it is needed.
pub(crate) fn register_misconfigured(registry: &mut Registry, misconfigured: &Gauge) {
    let help = "1 where Redis does not meet the requirements or its keys have another owner, as the log says; else 0";
    registry.sub_registry_with_prefix(PREFIX).register("redis_unfit", help, misconfigured.clone());
}

/// Lowers the gauge of what Redis held when it was last asked, of which more may have been taken since than there was
/// then.
pub(crate) fn lower(gauge: &Gauge, by: i64) {
    gauge.set(gauge.get().saturating_sub(by).max(0));
}

impl Metrics {
    /// Makes the handles and registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix(PREFIX);
        gauges::register_build(registry, env!("CARGO_PKG_VERSION"));

        let pairs = Family::<OutcomeLabel, Counter>::default();
        let help = "Pairs drained from the outbox or imported from a set, by outcome. new: rows that the ledger got. known_or_own: \
                    duplicates, and authors' own. dead: dead letters. dropped: of unknown posts, without room among these. revived: \
                    dead letters that were stored";
        registry.register("pairs", help, pairs.clone());
        let pair = |outcome| pairs.get_or_create_owned(&OutcomeLabel { outcome });

        let up = Family::<StoreLabel, Gauge>::default();
        registry.register("store_up", "1 where the store answered when it was last asked, else 0", up.clone());
        let up = |store| up.get_or_create_owned(&StoreLabel { store });

        let deferrals = Family::<ReasonLabel, Counter>::default();
        let help =
            "Times that a post's pairs were left in the outbox for later, by what they wait for: a lock, or room for the count";
        registry.register("posts_deferred", help, deferrals.clone());
        let deferral = |reason| deferrals.get_or_create_owned(&ReasonLabel { reason });

        let differences = Family::<KindLabel, Counter>::default();
        let help = "Posts of which a scan found something otherwise in Redis than in PostgreSQL, which is mended: count, author, a key \
                    without ttl, a set with viewers whom the ledger has lost";
        registry.register("differences", help, differences.clone());
        let difference = |kind| differences.get_or_create_owned(&KindLabel { kind });

        let posts = Family::<ResultLabel, Gauge>::default();
        registry.register("last_cycle_posts", "Posts with views in the last cycle that did not fail, by result", posts.clone());
        let posts = |result| posts.get_or_create_owned(&ResultLabel { result });

        let metrics = Self {
            new: pair("new"),
            known: pair("known_or_own"),
            unknown_post: pair("unknown_post"),
            dead: pair("dead"),
            batches: Counter::default(),
            drain_failures: Counter::default(),
            batch_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            batch_pairs: Histogram::new(exponential_buckets(1.0, 4.0, 10)),
            deferrals: Deferrals {
                row_locked: deferral("row_locked"),
                pair_locked: deferral("pair_locked"),
                count_full: deferral("count_full"),
            },
            dead_letters: Gauge::default(),
            dropped: pair("dropped"),
            retried: pair("revived"),
            scans: Counter::default(),
            cycle_failures: Counter::default(),
            cycle_seconds: Histogram::new(exponential_buckets(0.01, 2.0, 18)),
            posts_successful: posts("successful"),
            posts_with_errors: posts("error"),
            scan_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 20)),
            posts_scanned: Counter::default(),
            imported_sets: Counter::default(),
            differences: Differences {
                count: difference("count"),
                author: difference("author"),
                ttl: difference("ttl"),
                set: difference("set"),
            },
            drifts_found: Counter::default(),
            drifts: Counter::default(),
            last_sync: Gauge::default(),
            leader: Gauge::default(),
            partitions: Gauge::default(),
            redis_up: up("redis"),
            postgres_up: up("postgresql"),
            postgres_misconfigured: Gauge::default(),
        };
        registry.register("batches", "Batches stored and acknowledged", metrics.batches.clone());
        registry.register("drain_failures", "Steps of the drain that failed", metrics.drain_failures.clone());
        registry.register("batch_seconds", "Seconds to store a batch", metrics.batch_seconds.clone());
        registry.register("batch_pairs", "Pairs in a batch", metrics.batch_pairs.clone());
        registry.register("leader", "1 where this daemon is the leader, 0 where it is a standby", metrics.leader.clone());
        let help = "Partitions that this daemon drains: of the 65 of a cluster or, without one, the only one";
        registry.register("partitions", help, metrics.partitions.clone());
        let help = "Pairs that could not be stored and are kept for an operator, as last seen: view-syncd dead list";
        registry.register("dead_letters", help, metrics.dead_letters.clone());
        registry.register("scans", "Completed scans", metrics.scans.clone());
        registry.register("cycle_failures", "Cycles that failed", metrics.cycle_failures.clone());
        registry.register("cycle_seconds", "Seconds a cycle took that did not fail", metrics.cycle_seconds.clone());
        registry.register("scan_seconds", "Seconds a scan took", metrics.scan_seconds.clone());
        registry.register("posts_scanned", "Posts scanned", metrics.posts_scanned.clone());
        registry.register(
            "unions",
            "Sets imported into the ledger because somebody else had written them",
            metrics.imported_sets.clone(),
        );
        let help = "Posts whose recorded less acked pairs were found to disagree with the outbox";
        registry.register("drifts_found", help, metrics.drifts_found.clone());
        registry.register("drifts_repaired", "Posts whose drift was corrected", metrics.drifts.clone());
        registry.register(
            "last_sync_timestamp_seconds",
            "When the last cycle succeeded, in seconds since 1970",
            metrics.last_sync.clone(),
        );
        let help = "1 where the tables in PostgreSQL do not meet the requirements, as the log says; else 0";
        registry.register("postgres_unfit", help, metrics.postgres_misconfigured.clone());
        metrics
    }
}
