//! What a Redis must be, for views to be entrusted to it.

use std::{sync::Arc, time::Duration};

use fred::error::Error;
use futures_util::future::join_all;
use prometheus_client::metrics::gauge::Gauge;
use views_core::{keys::Keys, owner::Owner, partition};
use views_postgres::Database;
use views_redis::{
    NodeId, Redis, ownership,
    requirements::{self, Notices, Report},
};

use super::away_nodes::AwayNodes;

/// How long PostgreSQL may take to tell, for the first time, whose the keys must be.
const OWNER_PATIENCE: Duration = Duration::from_millis(500);

/// What a Redis must be, for the whole process.
#[derive(Clone)]
pub(crate) struct Requirements {
    /// Whether it may evict views.
    pub(crate) allow_eviction: bool,
    /// The database that can take the views instead, and whose the keys must be. Without one, a Redis that may lose
    /// views is better than nothing, for a view that is refused is lost for certain.
    pub(crate) database: Option<Arc<Database>>,
    /// The names of all keys.
    pub(crate) keys: Keys,
    /// What has been said about it.
    pub(crate) notices: Arc<Notices>,
    /// Whether it is not as it is needed, for operators.
    pub(crate) misconfigured: Gauge,
    /// Which nodes of a cluster take no views.
    pub(crate) away: Arc<AwayNodes>,
}

impl Requirements {
    pub(super) fn note(&self, report: &Report) {
        self.notices.tell(report);
        self.misconfigured.set(i64::from(report.refusal.is_some() || report.foreign.is_some()));
    }

    /// Returns whether a server, or a node of a cluster, may be entrusted with views now.
    pub(super) fn are_met(&self, report: &Report) -> bool {
        let is_fit = report.refusal.is_none() && report.foreign.is_none();
        report.pause.is_none() && (is_fit || self.database.is_none())
    }

    /// Looks at the server, and at whose the keys are.
    pub(super) async fn inspect(&self, redis: &Redis) -> Result<Report, Error> {
        let mut report = requirements::inspect(redis, self.allow_eviction).await?;
        if report.pause.is_some() || report.is_clustered {
            // It would answer with an error, for which the client library gives the connection up. What was known stays
            // known.
            report.foreign = self.notices.foreign();
            return Ok(report);
        }
        self.look_at_owner(redis, &mut report).await?;
        Ok(report)
    }

    /// Looks at all primaries of a cluster, side by side, and at whose the keys are, where the node that knows may be asked.
    /// Returns what is to be said of all together, and what came of each.
    pub(super) async fn inspect_nodes(
        &self,
        redis: &Redis,
        may_be_asked: impl Fn(NodeId) -> bool,
    ) -> (Report, Vec<(NodeId, Result<Report, Error>)>) {
        let mut all = Report { refusal: redis.no_cluster(), ..Report::default() };
        if all.refusal.is_some() {
            return (all, Vec::new());
        }
        let inspect = |node| async move { (node, requirements::inspect_node(redis, node, self.allow_eviction).await) };
        let reports = join_all(redis.nodes().into_iter().map(inspect)).await;
        for report in reports.iter().filter_map(|(_, report)| report.as_ref().ok()) {
            all.refusal = all.refusal.take().or_else(|| report.refusal.clone());
            all.warnings.extend(report.warnings.iter().cloned());
        }
        let node = redis.node_of_slot(partition::slot(self.keys.owner().as_bytes()));
        let is_there =
            node.is_some_and(|node| may_be_asked(node) && reports.iter().any(|(at, report)| *at == node && report.is_ok()));
        if !is_there || self.look_at_owner(redis, &mut all).await.is_err() {
            // What was known stays known.
            all.foreign = self.notices.foreign();
        }
        (all, reports)
    }

    /// Looks at whose the keys are.
    async fn look_at_owner(&self, redis: &Redis, report: &mut Report) -> Result<(), Error> {
        let Some(owner) = self.owner().await else { return Ok(()) };
        match ownership::read(redis, &self.keys).await {
            // Nobody's: a view-syncd makes them its ledger's.
            Ok(None) => {}
            Ok(Some(found)) => {
                report.foreign = owner.check(&self.keys, &found).err().map(|foreign| foreign.to_string());
                if let Some(database) = self.database.as_ref().filter(|_| report.foreign.is_some()) {
                    // By the next look, PostgreSQL has been asked again.
                    database.invalidate_owner();
                }
            }
            Err(error) if ownership::is_forbidden(&error) => {
                let key = self.keys.owner();
                report
                    .warnings
                    .push(format!("Redis does not let this account read {key}, so nobody can tell whose the keys are"));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whose the keys must be. As long as PostgreSQL has never answered, nobody knows.
    async fn owner(&self) -> Option<Owner> {
        let database = self.database.as_ref()?;
        if let Some(owner) = database.known_owner() {
            return Some(owner);
        }
        tokio::time::timeout(OWNER_PATIENCE, database.owner()).await.ok()?.ok()
    }
}
