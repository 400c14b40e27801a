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

/// The oldest Redis that will do. `EXPIRE … NX`, which view-syncd uses, is the newest command that is needed;
/// view-ingest alone could do with 6.2 (`SMISMEMBER`), but what it records has to be brought on by view-syncd.
const OLDEST: (u32, u32) = (7, 0);

/// What is said of a node of a cluster.
const CLUSTERED: &str = "Redis is in cluster mode (cluster-enabled yes), where a view cannot be acknowledged in one step: give the address of \
    a server without it (cluster-enabled no); Redis Cluster is not supported";

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
    let info: String = match redis.info(None).await {
        Ok(info) => info,
        Err(error) if is_forbidden(&error) => {
            let text = "INFO is forbidden, so neither its version nor its maxmemory-policy nor its persistence can be checked";
            report.warnings.push(format!("{prefix}Redis: {text}"));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let info = Info(&info);
    report.pause = report.pause.or_else(|| info.pause());
    report.is_replica |= info.is_replica();
    report.is_clustered |= !redis.is_clustered() && info.is_clustered();
    let clustered = report.is_clustered.then(|| CLUSTERED.to_owned());
    let refusal = info.too_old().or(clustered).or_else(|| info.eviction().filter(|_| !allow_eviction));
    report.refusal = report.refusal.take().or_else(|| refusal.map(|text| format!("{prefix}{text}")));
    if info.is_without_append_only_file() {
        let warning = match save_points(redis).await {
            Ok(Some(points)) => points.is_empty().then_some("appendonly no, and no save points"),
            // Snapshots may be switched on all the same, so only their absence so far can be told.
            Ok(None) => info.has_saved_nothing().then_some("appendonly no, and no snapshot since its start"),
            Err(error) => return Err(error),
        };
        report.warnings.extend(warning.map(|found| {
            format!(
                "{prefix}Redis keeps nothing on disk ({found}): when it ends, views that are not in PostgreSQL yet are lost. \
                 Set appendonly yes"
            )
        }));
    }
    Ok(())
}

/// Returns the setting `save`; none where nobody may look at it.
async fn save_points(redis: &impl ClientLike) -> Result<Option<String>, Error> {
    let command = CustomCommand::new_static("CONFIG", ClusterHash::FirstKey, false);
    match redis.custom::<Vec<Value>, _>(command, vec!["GET", "save"]).await {
        Ok(reply) => Ok(reply.into_iter().nth(1).and_then(Value::into_string)),
        Err(error) if is_forbidden(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether a command is not to be had here: by an ACL, because the provider has taken it away, or because a
/// proxy does not know it. Anything else is a refusal for now (`LOADING`, `BUSY`) or an outage.
fn is_forbidden(error: &Error) -> bool {
    let details = error.details().to_ascii_lowercase();
    ["noperm", "err ", "invalid", "unsupported"].iter().any(|prefix| details.starts_with(prefix))
}

/// The reply of `INFO`.
struct Info<'a>(&'a str);

impl Info<'_> {
    fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// Why it is too old, if it is. A version that nobody can read is not held against it.
    fn too_old(&self) -> Option<String> {
        // Valkey began as Redis 7.2, which it tells to old clients for ever.
        if self.field("server_name") == Some("valkey") {
            return None;
        }
        let version = self.field("redis_version")?;
        let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
        let found = (numbers.next()?, numbers.next().unwrap_or(0));
        (found < OLDEST).then(|| {
            let (major, minor) = OLDEST;
            format!("Redis {version} is too old: {major}.{minor} or later is needed, or any Valkey. Upgrade the server")
        })
    }

    /// Why it may evict keys that have no time to live, if it may.
    fn eviction(&self) -> Option<String> {
        let policy = self.field("maxmemory_policy").filter(|policy| policy.starts_with("allkeys"))?;
        Some(format!(
            "Redis may evict views that are not in PostgreSQL yet (maxmemory-policy {policy}): set it to noeviction or to one of \
             volatile-*, or accept the loss with --allow-eviction (ALLOW_EVICTION)"
        ))
    }

    fn pause(&self) -> Option<&'static str> {
        if self.field("loading") == Some("1") {
            Some("it is loading its data")
        } else if self.is_replica() {
            Some("it is a replica")
        } else {
            None
        }
    }

    fn is_replica(&self) -> bool {
        self.field("role") == Some("slave")
    }

    fn is_clustered(&self) -> bool {
        self.field("redis_mode") == Some("cluster") || self.field("cluster_enabled") == Some("1")
    }

    fn is_without_append_only_file(&self) -> bool {
        self.field("aof_enabled") == Some("0")
    }

    fn has_saved_nothing(&self) -> bool {
        self.field("rdb_last_bgsave_time_sec") == Some("-1")
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

    #[test]
    fn only_a_policy_that_takes_keys_without_expiry_is_dangerous() {
        let info = "# Memory\r\nmaxmemory_policy:allkeys-lru\r\nx:1\r\n";
        assert!(Info(info).eviction().is_some_and(|text| text.contains("allkeys-lru")));
        for policy in ["noeviction", "volatile-lru"] {
            assert_eq!(Info(&format!("maxmemory_policy:{policy}\r\n")).eviction(), None);
        }
        assert_eq!(Info("").eviction(), None);
    }

    #[test]
    fn versions_are_compared_as_numbers_and_valkey_is_young_enough() {
        for version in ["7.0.0", "7.0.15", "7.4", "8.0.1", "10.0.0", "255.255.255", "unknown"] {
            assert_eq!(Info(&format!("redis_version:{version}\r\n")).too_old(), None, "{version}");
        }
        for version in ["6.2.14", "6.3.4", "5.0", "2.8.19"] {
            let text = Info(&format!("redis_version:{version}\r\n")).too_old().unwrap();
            assert!(text.contains(version) && text.contains("7.0"), "{text}");
        }
        assert_eq!(Info("server_name:valkey\r\nredis_version:7.2.4\r\nvalkey_version:8.0.1\r\n").too_old(), None);
    }

    #[test]
    fn a_node_of_a_cluster_is_known_by_either_field() {
        for info in ["redis_mode:cluster\r\n", "# Cluster\r\ncluster_enabled:1\r\n"] {
            assert!(Info(info).is_clustered(), "{info}");
        }
        for info in ["", "redis_mode:standalone\r\ncluster_enabled:0\r\n", "redis_mode:sentinel\r\n"] {
            assert!(!Info(info).is_clustered(), "{info}");
        }
    }

    #[test]
    fn a_server_that_loads_or_follows_another_takes_no_writes() {
        assert_eq!(Info("loading:0\r\nrole:master\r\n").pause(), None);
        assert_eq!(Info("loading:1\r\nrole:master\r\n").pause(), Some("it is loading its data"));
        assert_eq!(Info("loading:0\r\nasync_loading:0\r\nrole:slave\r\n").pause(), Some("it is a replica"));
    }
}
