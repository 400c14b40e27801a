//! Redis itself: whether it answers, what it is, and whether it keeps what it is given.

use fred::error::Error;
use views_redis::{
    NodeId,
    requirements::{ALL_OR_NOTHING, CLUSTERED, FULL_COVERAGE, UNINFORMED, setting, volatile},
    server_info::{Memory, ServerInfo},
};

use super::check::Checks;
use crate::commands::{
    look::{Look, SeenNode},
    output,
};

/// From how much of its memory on a server is nearly full.
const NEARLY_FULL_PERCENT: u64 = 90;

pub(super) async fn check(look: &Look, allow_eviction: bool, checks: &mut Checks) {
    let url = &look.redis_url;
    if let Err(error) = &look.redis {
        let advice = "start it, or mend --redis-url (REDIS_URL)";
        return checks.fail("redis", format!("{url} cannot be reached ({error}): {advice}"));
    }
    let mut of_nodes = Vec::new();
    for node in &look.nodes {
        let mut of_node = Checks::default();
        check_node(look, node, allow_eviction, &mut of_node).await;
        of_nodes.push((node.address.clone(), of_node));
    }
    checks.add_all(of_nodes);
}

/// Looks at one server.
async fn check_node(look: &Look, node: &SeenNode, allow_eviction: bool, checks: &mut Checks) {
    let url = &look.redis_url;
    let is_clustered = look.context.redis.is_clustered();
    let info = match &node.info {
        Ok(Some(info)) => info,
        Ok(None) => return checks.warn("redis", format!("{url} answers, but {UNINFORMED}: allow INFO, or see to them yourself")),
        Err(error) => return checks.fail("redis", format!("cannot be reached ({error}): start it")),
    };
    match info.pause() {
        None if is_clustered => {
            checks.ok("redis", format!("{} at {url}, a cluster of {} primaries", info.version(), look.nodes.len()));
        }
        None => checks.ok("redis", format!("{} at {url}", info.version())),
        Some(pause) if info.is_replica() => {
            let advice = "give the address of its primary, or those of the sentinels, with --redis-url (REDIS_URL)";
            checks.fail("redis", format!("{url} takes no writes: {pause}: {advice}"));
        }
        Some(pause) => checks.fail("redis", format!("{url} takes no writes: {pause}: wait until that is done")),
    }
    checks.unfit_or("redis-version", info.too_old(), "is new enough");
    if is_clustered {
        checks.ok("redis-mode", "in cluster mode, as --redis-url (REDIS_URL) says");
    } else {
        checks.unfit_or("redis-mode", info.is_clustered().then(|| CLUSTERED.to_owned()), "not in cluster mode");
    }
    check_eviction(info, allow_eviction, checks);
    if let Err(error) = check_settings(look, node.node, info, checks).await {
        checks.fail("redis-settings", format!("the settings of Redis cannot be read: {}", error.details()));
    }
    check_saving(info, checks);
    check_memory(info, checks);
}

fn check_eviction(info: &ServerInfo, is_allowed: bool, checks: &mut Checks) {
    let policy = info.field("maxmemory_policy").unwrap_or("not known");
    match info.eviction() {
        None => checks.ok("redis-eviction", format!("maxmemory-policy {policy} keeps what is not in PostgreSQL yet")),
        Some(_) if is_allowed => checks.warn(
            "redis-eviction",
            format!(
                "Redis may evict views that are not in PostgreSQL yet (maxmemory-policy {policy}), which --allow-eviction puts up with: set \
                 maxmemory-policy noeviction"
            ),
        ),
        Some(text) => checks.unfit("redis-eviction", text),
    }
}

/// Looks at what is told by settings alone.
async fn check_settings(look: &Look, node: NodeId, info: &ServerInfo, checks: &mut Checks) -> Result<(), Error> {
    let redis = &look.context.redis;
    checks.warn_or("redis-persistence", volatile(redis, node, info).await?, "what it is given is kept on disk");
    let replicas = info.number("connected_slaves").unwrap_or(0);
    let needed = setting(redis, node, "min-replicas-to-write").await?.and_then(|text| text.parse::<u64>().ok());
    let told = output::counted(replicas, "replica", "replicas");
    let has_others = replicas > 0 || look.redis_url.contains("-sentinel://");
    match needed {
        Some(needed) if needed > info.number("min_slaves_good_slaves").unwrap_or(replicas) => checks.fail(
            "redis-replicas",
            format!("{told}, of which min-replicas-to-write demands {needed} that keep up: Redis refuses views until they are back. Start them"),
        ),
        Some(0) if has_others => checks.warn(
            "redis-replicas",
            format!(
                "{told}, of which none has to be there: a failover loses views that it has not been sent. Set min-replicas-to-write 1 and \
                 min-replicas-max-lag 3 on every server"
            ),
        ),
        _ if redis.is_clustered() && replicas == 0 => {
            let text = "none: when this primary ends, its posts are served by PostgreSQL alone until it is back. Give it a replica";
            checks.warn("redis-replicas", text);
        }
        _ => checks.ok("redis-replicas", told),
    }
    if redis.is_clustered() {
        let needs_all = setting(redis, node, FULL_COVERAGE).await?.as_deref() == Some("yes");
        checks.warn_or(
            "redis-coverage",
            needs_all.then(|| ALL_OR_NOTHING.to_owned()),
            "a part that is away leaves the others alone",
        );
    }
    Ok(())
}

fn check_saving(info: &ServerInfo, checks: &mut Checks) {
    for (field, what) in [("rdb_last_bgsave_status", "snapshot"), ("aof_last_write_status", "append-only file")] {
        if info.field(field).is_some_and(|status| status != "ok") {
            let text = format!("Redis could not write its {what} last: see to its disk, and to the log of Redis");
            checks.fail("redis-persistence", text);
        }
    }
}

fn check_memory(info: &ServerInfo, checks: &mut Checks) {
    let Some(Memory { used, most }) = info.memory() else { return checks.ok("redis-memory", "maxmemory sets no bound") };
    let percent = used.saturating_mul(100) / most;
    let text =
        if percent >= 100 { "all of maxmemory is in use".to_owned() } else { format!("{percent} % of maxmemory are in use") };
    if percent >= NEARLY_FULL_PERCENT {
        checks.warn(
            "redis-memory",
            format!("{text}: raise maxmemory, or shorten --view-ttl (VIEW_TTL), before Redis refuses views"),
        );
    } else {
        checks.ok("redis-memory", text);
    }
}
