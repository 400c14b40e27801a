//! What this project needs of a Redis, and what an operator should know about the one that is there.
//!
//! Nearly all of it comes from one `INFO`. Where a managed Redis forbids even that, nothing can be told, and the work
//! goes on.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use fred::{
    error::{Error, ErrorKind},
    types::Value,
};
use futures_util::future::join_all;
use views_core::log_names;

use crate::{
    NodeId, Redis,
    server_info::{ServerInfo, is_forbidden},
};

/// What is said of a node of a cluster, where the settings name a single server.
pub const CLUSTERED: &str = "Redis is in cluster mode (cluster-enabled yes), where a view cannot be acknowledged in one step: give the address of \
    a server without it (cluster-enabled no), or that of the cluster as redis-cluster:// (rediss-cluster:// with TLS)";
/// The setting by which a cluster that lacks some slots serves none.
pub const FULL_COVERAGE: &str = "cluster-require-full-coverage";
/// What is said of that.
pub const ALL_OR_NOTHING: &str =
    "when one part of the cluster is away, all of it takes no views (cluster-require-full-coverage yes): set it to no";

/// What `CLUSTER INFO` says of a node that serves no slot: others are away without which it does not, or most of them are.
const CLUSTER_FAILED: &str = "cluster_state:fail";
/// What is said of that.
const CLUSTER_DOWN: &str = "its cluster is down, as it sees it (cluster_state fail)";

/// What is said of a server that forbids `INFO`.
pub const UNINFORMED: &str =
    "Redis: INFO is forbidden, so neither its version nor its maxmemory-policy nor its persistence can be checked";

/// How long the first answer of a cluster's nodes is waited for.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

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
    /// What is said of those primaries of a cluster begins with one of these that could not be looked at: they are away.
    pub unseen: Vec<String>,
}

/// Looks at the server, or at every primary of a cluster, all at once. Of a cluster, those that are away are passed over,
/// unless all are; and a pause is only one where none of them takes writes, otherwise it is something to know.
///
/// # Errors
/// Redis's error, where it is away.
pub async fn inspect(redis: &Redis, allow_eviction: bool) -> Result<Report, Error> {
    if !redis.is_clustered() {
        let mut report = Report::default();
        inspect_server(redis, NodeId::ONLY, allow_eviction, "", &mut report).await?;
        return Ok(report);
    }
    // Whoever has just begun to connect knows of no node yet.
    redis.wait_for_nodes(FIRST_ANSWER).await;
    if let Some(refusal) = redis.no_cluster() {
        return Ok(Report { refusal: Some(refusal), ..Report::default() });
    }
    let inspected = join_all(redis.nodes().into_iter().map(|node| async move {
        let prefix = prefix(redis, node);
        let mut report = Report::default();
        let inspected = inspect_server(redis, node, allow_eviction, &prefix, &mut report).await;
        (prefix, inspected.map(|()| report))
    }));
    combined(inspected.await)
}

/// Returns what the primaries of a cluster are together.
///
/// # Errors
/// That of one of them, where all are away.
fn combined(inspected: Vec<(String, Result<Report, Error>)>) -> Result<Report, Error> {
    let (mut all, mut reports) = (Report::default(), Vec::new());
    let mut away = Error::new(ErrorKind::Unknown, "no node of the cluster is known yet");
    for (prefix, inspected) in inspected {
        match inspected {
            Ok(report) => reports.push((prefix, report)),
            Err(error) => {
                away = error;
                all.unseen.push(prefix);
            }
        }
    }
    let takes_writes = reports.iter().any(|(_, report)| report.pause.is_none());
    if reports.is_empty() {
        return Err(away);
    }
    for (prefix, report) in reports {
        all.refusal = all.refusal.or(report.refusal);
        match report.pause {
            Some(pause) if takes_writes => all.warnings.push(format!("{prefix}Redis takes no writes: {pause}")),
            pause => {
                all.pause = all.pause.or(pause);
                all.is_replica |= report.is_replica;
            }
        }
        all.warnings.extend(report.warnings);
    }
    Ok(all)
}

impl Report {
    /// Keeps what was said before of a primary that could not be looked at now.
    pub fn keep_unseen(&mut self, refusal: Option<String>) {
        let is_unseen = |refusal: &String| self.unseen.iter().any(|prefix| refusal.starts_with(prefix));
        self.refusal = self.refusal.take().or(refusal.filter(is_unseen));
    }
}

fn prefix(redis: &Redis, node: NodeId) -> String {
    redis.address(node).map_or_else(String::new, |address| format!("{address}: "))
}

/// Looks at one primary of a cluster.
///
/// # Errors
/// Redis's error, where it is away.
pub async fn inspect_node(redis: &Redis, node: NodeId, allow_eviction: bool) -> Result<Report, Error> {
    let mut report = Report::default();
    inspect_server(redis, node, allow_eviction, &prefix(redis, node), &mut report).await?;
    report.pause = report.pause.or(cluster_trouble(redis, node).await?);
    Ok(report)
}

/// Returns why a node of a cluster serves no slot, if it serves none.
async fn cluster_trouble(redis: &Redis, node: NodeId) -> Result<Option<&'static str>, Error> {
    if !redis.is_clustered() {
        return Ok(None);
    }
    match redis.send_at(node, &["CLUSTER", "INFO"]).await {
        Ok(info) => Ok(info.as_str().is_some_and(|info| info.contains(CLUSTER_FAILED)).then_some(CLUSTER_DOWN)),
        Err(error) if is_forbidden(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn inspect_server(
    redis: &Redis,
    node: NodeId,
    allow_eviction: bool,
    prefix: &str,
    report: &mut Report,
) -> Result<(), Error> {
    let Some(info) = ServerInfo::ask(redis, node).await? else {
        report.warnings.push(format!("{prefix}{UNINFORMED}"));
        return Ok(());
    };
    report.pause = report.pause.or_else(|| info.pause());
    report.is_replica |= info.is_replica();
    report.is_clustered |= !redis.is_clustered() && info.is_clustered();
    let clustered = report.is_clustered.then(|| CLUSTERED.to_owned());
    let refusal = info.too_old().or(clustered).or_else(|| info.eviction().filter(|_| !allow_eviction));
    report.refusal = report.refusal.take().or_else(|| refusal.map(|text| format!("{prefix}{text}")));
    report.warnings.extend(volatile(redis, node, &info).await?.map(|warning| format!("{prefix}{warning}")));
    if redis.is_clustered() && setting(redis, node, FULL_COVERAGE).await?.as_deref() == Some("yes") {
        report.warnings.push(format!("{prefix}{ALL_OR_NOTHING}"));
    }
    Ok(())
}

/// Why a server keeps nothing on disk, if it keeps nothing.
///
/// # Errors
/// Redis's error, where it is away.
pub async fn volatile(redis: &Redis, node: NodeId, info: &ServerInfo) -> Result<Option<String>, Error> {
    if !info.is_without_append_only_file() {
        return Ok(None);
    }
    let found = match setting(redis, node, "save").await? {
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
pub async fn setting(redis: &Redis, node: NodeId, name: &str) -> Result<Option<String>, Error> {
    match redis.send_at(node, &["CONFIG", "GET", name]).await {
        Ok(reply) => Ok(reply.into_array().into_iter().nth(1).and_then(Value::into_string)),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn node(address: &str, report: Report) -> (String, Result<Report, Error>) {
        (format!("{address}: "), Ok(report))
    }

    fn loading() -> Report {
        Report { pause: Some("it is loading its data"), ..Report::default() }
    }

    fn away() -> (String, Result<Report, Error>) {
        ("b:2: ".to_owned(), Err(Error::new(ErrorKind::Unknown, "AWAY b:2: no answer")))
    }

    #[test]
    fn a_node_that_is_away_or_takes_no_writes_is_not_in_the_way_of_the_others() {
        let all = combined(vec![node("a:1", loading()), away(), node("c:3", Report::default())]).unwrap();
        assert_eq!(all.unseen, ["b:2: "]);
        assert_eq!((all.pause, all.warnings), (None, vec!["a:1: Redis takes no writes: it is loading its data".to_owned()]));
    }

    #[test]
    fn where_no_node_takes_writes_that_is_a_pause_and_where_none_answers_an_error() {
        let all = combined(vec![node("a:1", loading()), away()]).unwrap();
        assert_eq!((all.pause, all.warnings), (Some("it is loading its data"), Vec::new()));
        assert_eq!(combined(vec![away(), away()]).unwrap_err().details(), "AWAY b:2: no answer");
        assert_eq!(combined(Vec::new()).unwrap_err().details(), "no node of the cluster is known yet");
    }

    #[test]
    fn what_one_node_must_not_be_given_none_is_given() {
        let unfit = Report { refusal: Some("a:1: it evicts".to_owned()), is_replica: true, ..Report::default() };
        let all = combined(vec![node("a:1", unfit), node("c:3", Report::default())]).unwrap();
        assert_eq!((all.refusal.as_deref(), all.unseen.len()), (Some("a:1: it evicts"), 0));
    }

    #[test]
    fn what_was_wrong_with_a_node_stays_so_until_it_is_looked_at_again() {
        let after = |before: &str| {
            let mut all = combined(vec![node("a:1", Report::default()), away()]).unwrap();
            all.keep_unseen(Some(before.to_owned()));
            all.refusal
        };
        assert_eq!(after("b:2: it evicts").as_deref(), Some("b:2: it evicts"));
        assert_eq!(after("a:1: it evicts"), None);
    }
}
