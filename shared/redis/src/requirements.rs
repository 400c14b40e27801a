//! What this project needs of a Redis, and what an operator should know about the one that is there.
//!
//! Nearly all of it comes from one `INFO`. Where a managed Redis forbids even that, nothing can be told, and the work
//! goes on.

use std::sync::{Mutex, PoisonError};

use fred::{
    clients::Client,
    error::Error,
    interfaces::{ClientLike, ClusterInterface},
    types::{ClusterHash, CustomCommand, Value},
};
use views_core::log_names;

use crate::server_info::{ServerInfo, is_forbidden};

/// What is said of a node of a cluster.
pub const CLUSTERED: &str = "Redis is in cluster mode (cluster-enabled yes), where a view cannot be acknowledged in one step: give the address of \
    a server without it (cluster-enabled no); Redis Cluster is not supported";

/// What is said of a server that forbids `INFO`.
pub const UNINFORMED: &str =
    "Redis: INFO is forbidden, so neither its version nor its maxmemory-policy nor its persistence can be checked";

/// What is known of a Redis, or of all primaries of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Why views must not be entrusted to it, and what to do about that. Waiting does not help.
    pub refusal: Option<String>,
    /// Why the keys in it are not this installation's to use, and what to do about that.
    pub foreign: Option<String>,
    /// Whether it is a node of a cluster that is spoken to as if it were alone: what is recorded there cannot be settled.
    pub is_clustered: bool,
    /// Why it takes no writes for now. That passes, or it is another server's turn.
    pub pause: Option<&'static str>,
    /// Whether that is because it is a replica: then there is a primary somewhere, or will be.
    pub is_replica: bool,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// Looks at the server, or at every primary of a cluster.
///
/// # Errors
/// Redis's error, where it is away.
pub async fn inspect(redis: &Client, allow_eviction: bool) -> Result<Report, Error> {
    let mut report = Report::default();
    if !redis.is_clustered() {
        inspect_server(redis, allow_eviction, "", &mut report).await?;
        return Ok(report);
    }
    for node in redis.cached_cluster_state().map(|state| state.unique_primary_nodes()).unwrap_or_default() {
        let prefix = format!("{node}: ");
        inspect_server(&redis.with_cluster_node(node), allow_eviction, &prefix, &mut report).await?;
    }
    Ok(report)
}

async fn inspect_server(redis: &impl ClientLike, allow_eviction: bool, prefix: &str, report: &mut Report) -> Result<(), Error> {
    let Some(info) = ServerInfo::ask(redis).await? else {
        report.warnings.push(format!("{prefix}{UNINFORMED}"));
        return Ok(());
    };
    report.pause = report.pause.or_else(|| info.pause());
    report.is_replica |= info.is_replica();
    report.is_clustered |= !redis.is_clustered() && info.is_clustered();
    let clustered = report.is_clustered.then(|| CLUSTERED.to_owned());
    let refusal = info.too_old().or(clustered).or_else(|| info.eviction().filter(|_| !allow_eviction));
    report.refusal = report.refusal.take().or_else(|| refusal.map(|text| format!("{prefix}{text}")));
    report.warnings.extend(volatile(redis, &info).await?.map(|warning| format!("{prefix}{warning}")));
    Ok(())
}

/// Why a server keeps nothing on disk, if it keeps nothing.
///
/// # Errors
/// Redis's error, where it is away.
pub async fn volatile(redis: &impl ClientLike, info: &ServerInfo) -> Result<Option<String>, Error> {
    if !info.is_without_append_only_file() {
        return Ok(None);
    }
    let found = match setting(redis, "save").await? {
        Some(points) => points.is_empty().then_some("appendonly no, and no save points"),
        // Snapshots may be switched on all the same, so only their absence so far can be told.
        None => info.has_saved_nothing().then_some("appendonly no, and no snapshot since its start"),
    };
    Ok(found.map(|found| {
        format!(
            "Redis keeps nothing on disk ({found}): when it ends, views that are not in PostgreSQL yet are lost. Set appendonly yes"
        )
    }))
}

/// Returns a setting of the server; none where nobody may look at it.
///
/// # Errors
/// Redis's error, where it is away.
pub async fn setting(redis: &impl ClientLike, name: &'static str) -> Result<Option<String>, Error> {
    let command = CustomCommand::new_static("CONFIG", ClusterHash::FirstKey, false);
    match redis.custom::<Vec<Value>, _>(command, vec!["GET", name]).await {
        Ok(reply) => Ok(reply.into_iter().nth(1).and_then(Value::into_string)),
        Err(error) if is_forbidden(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes what reports say into the log, each finding once until it changes.
#[derive(Debug, Default)]
pub struct Notices(Mutex<Report>);

impl Notices {
    /// Logs what is new in a report.
    pub fn tell(&self, report: &Report) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.refusal != report.refusal {
            match &report.refusal {
                Some(text) => tracing::error!(name: log_names::STATE, "{text}"),
                None => tracing::info!("Redis is now as it is needed"),
            }
        }
        if last.foreign != report.foreign {
            match &report.foreign {
                Some(text) => tracing::error!(name: log_names::STATE, "{text}"),
                None => tracing::info!("the keys in Redis are no longer another database's"),
            }
        }
        for warning in report.warnings.iter().filter(|warning| !last.warnings.contains(warning)) {
            tracing::warn!(name: log_names::STATE, "{warning}");
        }
        match report.pause {
            Some(why) if last.pause != report.pause => tracing::warn!(name: log_names::STATE, "Redis takes no writes: {why}"),
            None if last.pause.is_some() => tracing::info!("Redis takes writes again"),
            _ => {}
        }
        last.clone_from(report);
    }

    /// Why the keys are not this installation's to use, as last told.
    #[must_use]
    pub fn foreign(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).foreign.clone()
    }

    /// Why Redis takes no writes for now, as last told.
    #[must_use]
    pub fn pause(&self) -> Option<&'static str> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pause
    }

    /// Why views must not be entrusted to Redis, as last told.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refusal.clone()
    }
}
