//! What is counted for operators. Every handle is made once; the hot path only adds to numbers.

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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

/// The numbers of one process, shared by its workers.
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
    /// Answers by the first digit of their status, from 1 on.
    pub(crate) answers: [Counter; 5],
    /// Requests that wait for Redis together.
    pub(crate) batch_size: Histogram,
    /// Seconds from the first command of a batch to its last reply.
    pub(crate) batch_seconds: Histogram,
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
    /// Makes the handles and registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix(PREFIX);
        registry.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));

        let views = Family::<StatusLabel, Counter>::default();
        registry.register("views", "Views by verdict; failed: no store took them", views.clone());
        let view = |status| views.get_or_create_owned(&StatusLabel { status });

        let answers = Family::<ClassLabel, Counter>::default();
        registry.register("http_responses", "HTTP responses by the class of their status", answers.clone());
        let answer = |class| answers.get_or_create_owned(&ClassLabel { class });

        let lookups = Family::<OutcomeLabel, Counter>::default();
        registry.register("first_touches", "Look-ups of posts in PostgreSQL by outcome", lookups.clone());
        let lookup = |outcome| lookups.get_or_create_owned(&OutcomeLabel { outcome });

        let metrics = Self {
            counted: view("counted"),
            duplicate: view("duplicate"),
            own: view("own"),
            not_found: view("not_found"),
            failed: view("failed"),
            reads: Counter::default(),
            answers: [answer("1xx"), answer("2xx"), answer("3xx"), answer("4xx"), answer("5xx")],
            batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            batch_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 15)),
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
        registry.register("batch_size", "Views and reads in a batch", metrics.batch_size.clone());
        registry.register(
            "batch_seconds",
            "Seconds from the first command of a batch to its last reply",
            metrics.batch_seconds.clone(),
        );
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

    /// Counts an answer.
    pub(crate) fn answered(&self, status: u16) {
        if let Some(counter) = self.answers.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.inc();
        }
    }
}
