//! Looks again and again, in the midst of everything, whether each acknowledged view is in the outbox or in the ledger.
//!
//! The end of a run alone would forgive too much: where a set says more than the outbox has told, the scan stores the whole set, and so
//! repairs losses that it was not made for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fred::{interfaces::StreamsInterface, types::Value};
use shared::keys::Keys;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;

use crate::{
    cluster::Cluster,
    history::History,
    verify::{Pair, Violation, missing},
    world::World,
};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(700);
/// A store that does not answer for this long is away; the look is given up.
const PATIENCE: Duration = Duration::from_secs(3);

/// Audits until the time is over. Gives how many looks succeeded.
pub(crate) async fn run(cluster: Arc<Cluster>, world: Arc<World>, history: Arc<History>, until: Instant) -> u64 {
    let posts = world.authors();
    let mut reported = BTreeSet::new();
    let mut looks = 0;
    while Instant::now() < until {
        sleep(PAUSE).await;
        if let Ok(Some(lost)) = timeout(PATIENCE, look(&cluster, &posts, &history)).await {
            looks += 1;
            for pair in lost {
                if reported.insert(pair.clone()) {
                    history.lost(Violation::Unstored(pair, history.now_ms()));
                }
            }
        }
    }
    looks
}

/// The pairs that are acknowledged and nowhere; nothing where a store is away.
async fn look(cluster: &Cluster, posts: &BTreeMap<String, String>, history: &History) -> Option<Vec<Pair>> {
    // In this order: what is acknowledged is in one of the two, and what has left the outbox is in the ledger.
    let acknowledged = history.asked().acknowledged;
    let mut stored = outbox(cluster).await?;
    stored.extend(ledger(cluster).await?);
    Some(missing(&acknowledged, posts, |pair| stored.contains(pair)))
}

async fn outbox(cluster: &Cluster) -> Option<BTreeSet<Pair>> {
    let entries: Value = cluster.direct.xrange(Keys::default().outbox(), "-", "+", None).await.ok()?;
    let mut pairs = BTreeSet::new();
    for entry in entries.into_array() {
        let fields = entry.into_array().pop().map(Value::into_array).unwrap_or_default();
        for pair in fields.chunks(2) {
            let [post, viewer] = pair else { continue };
            pairs.extend(post.as_string().zip(viewer.as_string()));
        }
    }
    Some(pairs)
}

async fn ledger(cluster: &Cluster) -> Option<Vec<Pair>> {
    let (client, connection) = tokio_postgres::connect(&cluster.database.url(), NoTls).await.ok()?;
    tokio::spawn(connection);
    let rows = client.query("select post_id::text, user_id::text from post_views", &[]).await.ok()?;
    Some(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
