//! What a server tells of itself: the reply of `INFO`.

use std::time::Duration;

use fred::error::Error;

use crate::{NodeId, Redis};

/// The oldest Redis that will do. `EXPIRE … NX`, which view-syncd uses, is the newest command that is needed;
/// view-ingest alone could do with 6.2 (`SMISMEMBER`), but what it records has to be brought on by view-syncd.
const OLDEST: (u32, u32) = (7, 0);

/// The reply of `INFO`.
#[derive(Debug, Clone)]
pub struct ServerInfo(String);

/// What a server has of the memory that it may use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// How much it uses.
    pub used: u64,
    /// How much it may use.
    pub most: u64,
}

impl ServerInfo {
    /// Asks a server, which is one of [`Redis::nodes`]. Returns nothing where that is forbidden.
    ///
    /// # Errors
    /// Redis's error, where it is away.
    pub async fn ask(redis: &Redis, node: NodeId) -> Result<Option<Self>, Error> {
        match redis.send_at(node, &["INFO"]).await {
            Ok(info) => Ok(Some(Self(info.into_string().unwrap_or_default()))),
            Err(error) if is_forbidden(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns a field's text.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// Returns a field's number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    /// Returns the name and the version, such as `Redis 7.0.15`.
    #[must_use]
    pub fn version(&self) -> String {
        // Valkey began as Redis 7.2, which it tells to old clients for ever.
        match (self.field("server_name"), self.field("valkey_version"), self.field("redis_version")) {
            (Some("valkey"), Some(version), _) => format!("Valkey {version}"),
            (_, _, version) => format!("Redis {}", version.unwrap_or("of an unknown version")),
        }
    }

    /// Returns the server's clock, as time since 1970.
    #[must_use]
    pub fn clock(&self) -> Option<Duration> {
        self.number("server_time_usec").map(Duration::from_micros)
    }

    /// Returns how much memory it uses and may use; nothing where it may use all.
    #[must_use]
    pub fn memory(&self) -> Option<Memory> {
        let (used, most) = (self.number("used_memory")?, self.number("maxmemory")?);
        (most > 0).then_some(Memory { used, most })
    }

    /// Returns how many keys a database has.
    #[must_use]
    pub fn keys(&self, database: u8) -> u64 {
        let keyspace = self.field(&format!("db{database}"));
        keyspace.and_then(|text| text.strip_prefix("keys=")?.split(',').next()?.parse().ok()).unwrap_or(0)
    }

    /// Why it is too old, if it is. A version that nobody can read is not held against it.
    #[must_use]
    pub fn too_old(&self) -> Option<String> {
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
    #[must_use]
    pub fn eviction(&self) -> Option<String> {
        let policy = self.field("maxmemory_policy").filter(|policy| policy.starts_with("allkeys"))?;
        Some(format!(
            "Redis may evict views that are not in PostgreSQL yet (maxmemory-policy {policy}): set it to noeviction or to one of \
             volatile-*, or accept the loss with --allow-eviction (ALLOW_EVICTION)"
        ))
    }

    /// Why it takes no writes for now, if it takes none.
    #[must_use]
    pub fn pause(&self) -> Option<&'static str> {
        if self.field("loading") == Some("1") {
            Some("it is loading its data")
        } else if self.is_replica() {
            Some("it is a replica")
        } else {
            None
        }
    }

    /// Returns whether it follows another server.
    #[must_use]
    pub fn is_replica(&self) -> bool {
        self.field("role") == Some("slave")
    }

    /// Returns whether it is a node of a cluster.
    #[must_use]
    pub fn is_clustered(&self) -> bool {
        self.field("redis_mode") == Some("cluster") || self.field("cluster_enabled") == Some("1")
    }

    pub(crate) fn is_without_append_only_file(&self) -> bool {
        self.field("aof_enabled") == Some("0")
    }

    pub(crate) fn has_saved_nothing(&self) -> bool {
        self.field("rdb_last_bgsave_time_sec") == Some("-1")
    }
}

/// Returns whether a command is not to be had here: by an ACL, because the provider has taken it away, or because a
/// proxy does not know it. Anything else is a refusal for now (`LOADING`, `BUSY`) or an outage.
#[must_use]
pub fn is_forbidden(error: &Error) -> bool {
    let details = error.details().to_ascii_lowercase();
    ["noperm", "err ", "invalid", "unsupported"].iter().any(|prefix| details.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> ServerInfo {
        ServerInfo(text.to_owned())
    }

    #[test]
    fn only_a_policy_that_takes_keys_without_expiry_is_dangerous() {
        let dangerous = info("# Memory\r\nmaxmemory_policy:allkeys-lru\r\nx:1\r\n");
        assert!(dangerous.eviction().is_some_and(|text| text.contains("allkeys-lru")));
        for policy in ["noeviction", "volatile-lru"] {
            assert_eq!(info(&format!("maxmemory_policy:{policy}\r\n")).eviction(), None);
        }
        assert_eq!(info("").eviction(), None);
    }

    #[test]
    fn versions_are_compared_as_numbers_and_valkey_is_young_enough() {
        for version in ["7.0.0", "7.0.15", "7.4", "8.0.1", "10.0.0", "255.255.255", "unknown"] {
            assert_eq!(info(&format!("redis_version:{version}\r\n")).too_old(), None, "{version}");
        }
        for version in ["6.2.14", "6.3.4", "5.0", "2.8.19"] {
            let text = info(&format!("redis_version:{version}\r\n")).too_old().unwrap();
            assert!(text.contains(version) && text.contains("7.0"), "{text}");
        }
        let valkey = info("server_name:valkey\r\nredis_version:7.2.4\r\nvalkey_version:8.0.1\r\n");
        assert_eq!((valkey.too_old(), valkey.version()), (None, "Valkey 8.0.1".to_owned()));
        assert_eq!(info("redis_version:7.0.15\r\n").version(), "Redis 7.0.15");
    }

    #[test]
    fn a_node_of_a_cluster_is_known_by_either_field() {
        for text in ["redis_mode:cluster\r\n", "# Cluster\r\ncluster_enabled:1\r\n"] {
            assert!(info(text).is_clustered(), "{text}");
        }
        for text in ["", "redis_mode:standalone\r\ncluster_enabled:0\r\n", "redis_mode:sentinel\r\n"] {
            assert!(!info(text).is_clustered(), "{text}");
        }
    }

    #[test]
    fn a_server_that_loads_or_follows_another_takes_no_writes() {
        assert_eq!(info("loading:0\r\nrole:master\r\n").pause(), None);
        assert_eq!(info("loading:1\r\nrole:master\r\n").pause(), Some("it is loading its data"));
        assert_eq!(info("loading:0\r\nasync_loading:0\r\nrole:slave\r\n").pause(), Some("it is a replica"));
    }

    #[test]
    fn memory_clock_and_keys_are_read() {
        let all =
            info("server_time_usec:1700000000250000\r\nused_memory:75\r\nmaxmemory:100\r\ndb0:keys=7,expires=6,avg_ttl=1\r\n");
        assert_eq!(all.clock(), Some(Duration::from_millis(1_700_000_000_250)));
        assert_eq!(all.memory(), Some(Memory { used: 75, most: 100 }));
        assert_eq!((all.keys(0), all.keys(1)), (7, 0));
        assert_eq!(info("used_memory:75\r\nmaxmemory:0\r\n").memory(), None);
    }
}
