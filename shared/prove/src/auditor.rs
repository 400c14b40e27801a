//! Looks again and again, in the midst of everything, whether each acknowledged view is in the outbox, in the ledger,
//! or a dead letter that is offered again.
//!
//! In a cluster, the views of a partition whose outbox a failover has hidden in the midst of a move are nobody's to see
//! until the cluster is mended: they are looked for afterwards.
//!
//! The end of a run alone would forgive too much: where a set says more than the outbox has told, the scan stores the
//! whole set, and so repairs losses that it was not made for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fred::types::Value;
use tokio::time::{Instant, sleep, timeout};
use views_core::ids::PostId;

use crate::{
    application::connect,
    history::History,
    installation::Installation,
    verify::{Letter, Pair, Violation, missing},
    world::{Post, World},
};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(700);
/// A store that does not answer for this long is away; the look is given up.
const PATIENCE: Duration = Duration::from_secs(3);

/// Audits until the time is over. Gives how many looks succeeded.
pub(crate) async fn run(installation: Arc<Installation>, world: Arc<World>, history: Arc<History>, until: Instant) -> u64 {
    let posts = world.by_id();
    let mut reported = BTreeSet::new();
    let mut looks = 0;
    while Instant::now() < until {
        sleep(PAUSE).await;
        if let Ok(Some(lost)) = timeout(PATIENCE, look(&installation, &posts, &history)).await {
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

/// Returns the pairs that are acknowledged and nowhere; nothing where a store is away.
async fn look(installation: &Installation, posts: &BTreeMap<String, Post>, history: &History) -> Option<Vec<Pair>> {
    // In this order: what is acknowledged is in one of the three, what has left the outbox is a dead letter or in the
    // ledger, and what is no dead letter any more is in the ledger.
    let acknowledged = history.asked().acknowledged;
    let mut hidden = installation.redis.hidden().await?;
    let mut stored = outbox(installation).await?;
    stored.extend(letters(installation).await?.into_iter().filter(Letter::is_on_its_way).map(|letter| letter.pair));
    stored.extend(ledger(installation).await?);
    hidden.extend(installation.redis.hidden().await?);
    let keys = installation.redis.keys();
    let is_hidden = |post: &str| PostId::parse(post).is_ok_and(|post| hidden.contains(&keys.partition(&post)));
    Some(missing(&acknowledged, posts, |pair| stored.contains(pair) || is_hidden(&pair.0)))
}

/// Returns the fields of all entries of a stream, with their values.
fn entries(stream: Value) -> impl Iterator<Item = Vec<(String, String)>> {
    let fields = |entry: Value| {
        let fields = entry.into_array().pop().map(Value::into_array).unwrap_or_default();
        fields.chunks(2).filter_map(|field| field[0].as_string().zip(field.get(1)?.as_string())).collect()
    };
    stream.into_array().into_iter().map(fields)
}

async fn outbox(installation: &Installation) -> Option<BTreeSet<Pair>> {
    Some(installation.redis.outboxes().await?.into_iter().flat_map(entries).flatten().collect())
}

/// What is put aside in `views:dead`.
pub(crate) async fn letters(installation: &Installation) -> Option<Vec<Letter>> {
    let letter = |fields: Vec<(String, String)>| {
        let mut letter = Letter::default();
        for (name, value) in fields {
            match name.as_str() {
                "post" => letter.pair.0 = value,
                "viewer" => letter.pair.1 = value,
                "reason" => letter.reason = value,
                "retry" => letter.may_pass = true,
                _ => {}
            }
        }
        letter
    };
    let letters = installation.redis.command(&["XRANGE", installation.redis.keys().dead(), "-", "+"]).await?;
    Some(entries(letters).map(letter).collect())
}

async fn ledger(installation: &Installation) -> Option<Vec<Pair>> {
    let client = connect(installation, "audit").await?;
    let rows = client.query("select post_id::text, user_id::text from post_views", &[]).await.ok()?;
    Some(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
