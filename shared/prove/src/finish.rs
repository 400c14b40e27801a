//! The end of a run: everything is mended, everything settles, and everything is looked at.

use std::{collections::HashMap, sync::Arc, time::Duration};

use fred::{interfaces::StreamsInterface, types::Value as RedisValue};
use serde_json::Value;
use shared::keys::Keys;
use testkit::{http, tokens};
use tokio::time::{Instant, sleep};

use crate::{
    cluster::Cluster,
    history::History,
    schedule::{self, Program},
    verify::Found,
    world::{SECRET, World},
};

/// How long each step of settling may take.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// Posts in one question for counts.
const PAGE: usize = 50;
const CYCLES: usize = 2;

/// Waits until the programs have done their work: the outbox is empty, and two cycles have passed.
pub(crate) async fn settle(cluster: &Cluster, history: &History) {
    for proxy in cluster.proxies.values() {
        proxy.restore().await;
    }
    if !within_limit(|| async { outbox_length(cluster).await == Some(0) }).await {
        let length = outbox_length(cluster).await;
        history.violation(format!("OUTBOX: it is not empty long after everything is well: {length:?} entries"));
    }
    let syncds: Vec<_> = schedule::programs()
        .filter(|program| matches!(program, Program::Syncd(_)))
        .map(|program| cluster.addresses[&program])
        .collect();
    let token = tokens::admin(SECRET, "admin");
    for cycle in 0..CYCLES {
        let client = http::Client::new(syncds[cycle % syncds.len()]);
        let ask = || async {
            let answer = client.try_post_json("/posts/sync-views", Some(&token), &Value::Null).await;
            answer.is_ok_and(|answer| answer.status == 200)
        };
        if !within_limit(ask).await {
            history.violation("CYCLE: no full cycle succeeds although everything is well");
        }
    }
    match outbox_length(cluster).await {
        Some(0) => {}
        length => history.violation(format!("OUTBOX: not empty after two cycles: {length:?} entries")),
    }
}

/// Looks at everything.
pub(crate) async fn look(cluster: &Cluster, world: &World) -> Found {
    let client = cluster.database.client().await;
    let rows = client.query("select post_id::text, user_id::text from post_views", &[]).await.expect("cannot read the ledger");
    let ledger = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let rows = client.query("select id::text, views_count::bigint from posts", &[]).await.expect("cannot read the posts");
    let counts = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let posts = world.authors();
    let mut live = Vec::new();
    for program in schedule::programs().filter(|program| matches!(program, Program::Ingest(_))) {
        live.push((program.to_string(), live_counts(&http::Client::new(cluster.addresses[&program]), world).await));
    }
    let dead: Vec<(String, RedisValue)> =
        cluster.direct.xrange(Keys::default().dead(), "-", "+", None).await.expect("cannot read the dead");
    let dead = dead.iter().map(|(id, fields)| format!("{id}: {fields:?}")).collect();
    Found { posts, ledger, counts, live, dead }
}

async fn live_counts(client: &http::Client, world: &World) -> HashMap<String, i64> {
    let mut counts = HashMap::new();
    for page in world.posts.chunks(PAGE) {
        let ids: Vec<&str> = page.iter().map(|post| post.id.as_str()).collect();
        let path = format!("/posts/views?ids={}", ids.join(","));
        let answer = client.try_request("GET", &path, &[], "").await;
        let answer = answer.ok().and_then(|answer| serde_json::from_str::<Value>(&answer.body).ok()).unwrap_or_default();
        let views = answer["views"].as_object().into_iter().flatten();
        counts.extend(views.filter_map(|(post, count)| Some((post.clone(), count.as_i64()?))));
    }
    counts
}

/// Ends all programs in peace.
pub(crate) async fn end(cluster: &Arc<Cluster>, mut supervisors: tokio::task::JoinSet<()>, history: &History) {
    // view-ingest first, as an operator would: what it still records is drained.
    for unit in cluster.units.values() {
        unit.end();
    }
    let all = async { while supervisors.join_next().await.is_some() {} };
    if tokio::time::timeout(SETTLE_LIMIT, all).await.is_err() {
        history.violation("EXIT: a program does not end although it was asked to");
    }
}

async fn outbox_length(cluster: &Cluster) -> Option<i64> {
    cluster.direct.xlen(Keys::default().outbox()).await.ok()
}

async fn within_limit<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) -> bool {
    let deadline = Instant::now() + SETTLE_LIMIT;
    while !condition().await {
        if Instant::now() > deadline {
            return false;
        }
        sleep(POLL).await;
    }
    true
}
