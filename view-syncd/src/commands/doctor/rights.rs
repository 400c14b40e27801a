//! What this account may do in Redis: each command that the daemon sends is looked up in the server's own rules, and
//! none is run.

use views_core::{ids::PostId, keys::Keys, partition::Partition};
use views_redis::{
    Code, NodeId, RedisError,
    resp::{Commands, Replies, Reply},
    scripts::find_forbidden,
};

use super::check::Checks;
use crate::commands::look::Look;

/// The post whose keys are asked for: it need not be there.
const ANY_POST: &str = "0";

pub(super) async fn check(look: &mut Look, checks: &mut Checks) {
    let keys = look.context.keys.clone();
    match forbidden(look, &keys).await {
        Ok(forbidden) if forbidden.is_empty() => checks.ok("redis-rights", "this account may send all that the daemon sends"),
        Ok(forbidden) => {
            let prefix = if keys.prefix().is_empty() { "" } else { ", with the prefix behind each ~ and &" };
            checks.fail(
                "redis-rights",
                format!(
                    "Redis forbids this account {}: give it what deploy/redis-users.conf grants view-syncd{prefix}",
                    forbidden.join(", ")
                ),
            );
        }
        Err(error) => checks.warn("redis-rights", format!("what this account may do cannot be told: {error}")),
    }
}

/// Returns the commands that this account may not send: of a cluster, to any of its primaries, each of which has rules of its
/// own.
async fn forbidden(look: &mut Look, keys: &Keys) -> Result<Vec<String>, RedisError> {
    let nodes: Vec<NodeId> = look.nodes.iter().filter(|seen| seen.info.is_ok()).map(|seen| seen.node).collect();
    let mut found = Vec::new();
    for node in nodes {
        for name in forbidden_at(look, node, keys).await? {
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    Ok(found)
}

async fn forbidden_at(look: &mut Look, node: NodeId, keys: &Keys) -> Result<Vec<String>, RedisError> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    find_forbidden(&mut commands, &needed(keys));
    look.session.redis.exchange_at(node, &commands, &mut replies).await?;
    match replies.iter().next() {
        Some(Reply::List(found)) => {
            let mut names: Vec<String> = found.iter().filter_map(Reply::text).map(str::to_owned).collect();
            names.dedup();
            Ok(names)
        }
        Some(Reply::Error(error)) if error.code == Code::NoPermission => Ok(vec!["EVAL".to_owned()]),
        Some(Reply::Error(error)) => Err(error.into()),
        _ => Err(RedisError::UnexpectedReply),
    }
}

/// Returns the commands that the daemon and its commands send, but for those that it can do without.
fn needed(keys: &Keys) -> Vec<Vec<String>> {
    let (set, hash) = PostId::parse(ANY_POST).map(|post| (keys.views(&post), keys.meta(&post))).unwrap_or_default();
    let partitions: Vec<Partition> = keys.drained_partitions().collect();
    let outboxes = || partitions.iter().map(|partition| keys.outbox_of(*partition));
    let mut all: Vec<Vec<&str>> = Vec::new();
    let of_all: [&[&str]; 18] = [
        &["PING"],
        &["SELECT", "0"],
        &["SCAN", "0"],
        &["SSCAN", &set, "0"],
        &["SCARD", &set],
        &["SISMEMBER", &set, "x"],
        &["SMISMEMBER", &set, "x"],
        &["SADD", &set, "x"],
        &["SREM", &set, "x"],
        &["HMGET", &hash, "author"],
        &["HEXISTS", &hash, "author"],
        &["HSET", &hash, "author", "x"],
        &["HINCRBY", &hash, "acked", "1"],
        &["EXISTS", &hash],
        &["EXPIRE", &set, "1"],
        &["EXPIRE", &hash, "1"],
        &["TTL", &hash],
        &["UNLINK", &set, &hash],
    ];
    all.extend(of_all.iter().map(|words| words.to_vec()));
    for stream in outboxes().chain([keys.dead()]) {
        all.push(vec!["XLEN", stream]);
        all.push(vec!["XRANGE", stream, "-", "+"]);
        all.push(vec!["XADD", stream, "*", "x", "x"]);
        all.push(vec!["XDEL", stream, "0-1"]);
    }
    all.extend(outboxes().map(|outbox| vec!["XREVRANGE", outbox, "+", "-"]));
    for owner in keys.owners() {
        all.push(vec!["GET", owner]);
        all.push(vec!["SET", owner, "x"]);
        all.push(vec!["SETRANGE", owner, "0", ""]);
    }
    all.push(vec!["PUBLISH", keys.updates(), "x"]);
    all.push(vec!["EVAL", "return 1", "0"]);
    if keys.are_in_cluster() {
        all.extend([vec!["CLUSTER", "SLOTS"], vec!["CLUSTER", "INFO"], vec!["CLUSTER", "NODES"], vec!["ASKING"]]);
    }
    all.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sample of Redis's users.
    const USERS: &str = include_str!("../../../../deploy/redis-users.conf");
    /// Without these, less can be told, and all works.
    const SPARED: [&str; 3] = ["client|id", "info", "config|get"];

    #[test]
    fn each_command_that_is_granted_is_looked_up() {
        let rules = USERS.lines().find_map(|line| line.strip_prefix("user view-syncd ")).unwrap();
        let mut granted: Vec<_> = rules.split(' ').filter_map(|rule| rule.strip_prefix('+')).collect();
        granted.retain(|name| !SPARED.contains(name));
        let mut needed: Vec<_> = needed(&Keys::default()).iter().map(|words| words[0].to_ascii_lowercase()).collect();
        granted.sort_unstable();
        needed.sort_unstable();
        needed.dedup();
        assert_eq!(granted, needed);
    }
}
