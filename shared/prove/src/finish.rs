//! The end of a run: everything is mended, everything settles, and everything is looked at.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{http, tokens};
use tokio::time::{Instant, sleep};
use views_core::{ids::PostId, keys::field};

use crate::{
    auditor::letters,
    history::History,
    installation::Installation,
    schedule::{self, Program},
    verify::Found,
    world::{Nature, SECRET, World},
};

/// How long each step of settling may take.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// Posts in one question for counts.
const PAGE: usize = 50;
const CYCLES: usize = 2;

/// Waits until the programs have done their work: the outbox is empty, two cycles have passed, and what was put aside
/// has been offered again. Gives the posts that were created anew then.
pub(crate) async fn settle(installation: &Installation, world: &World, history: &History) -> BTreeSet<String> {
    for proxy in installation.proxies.values() {
        proxy.restore().await;
    }
    if let Some(cluster) = installation.redis.cluster() {
        let mended = cluster.mend().await;
        history.say(format_args!("{mended} slots of the cluster were mended at the end"));
        cluster.until_ok().await;
    }
    if !within_limit(|| async { installation.redis.outbox_length().await == Some(0) }).await {
        let length = installation.redis.outbox_length().await;
        history.violation(format!("OUTBOX: it is not empty long after everything is well: {length:?} entries"));
    }
    let syncds: Vec<_> = schedule::programs()
        .filter(|program| matches!(program, Program::Syncd(_)))
        .map(|program| installation.addresses[&program])
        .collect();
    for cycle in 0..CYCLES {
        run_cycle(syncds[cycle % syncds.len()], history).await;
    }
    offer_dead(installation, history).await;
    let anew = create_anew(installation, world, history).await;
    // What came in by that is to be in the live counts as well, and what is gone in none.
    for syncd in syncds {
        run_cycle(syncd, history).await;
    }
    match installation.redis.outbox_length().await {
        Some(0) => {}
        length => history.violation(format!("OUTBOX: not empty after all cycles: {length:?} entries")),
    }
    anew
}

/// Creates half of the fleeting posts anew, while nothing else happens.
async fn create_anew(installation: &Installation, world: &World, history: &History) -> BTreeSet<String> {
    let client = installation.database.client().await;
    let mut anew = BTreeSet::new();
    for post in world.of(Nature::Fleeting).step_by(2) {
        let (id, author) = (&post.id, &post.authors[0]);
        history.deleted(id);
        let script = format!(
            "begin; delete from application_changes where post_id = '{id}'; delete from posts where id = '{id}'; \
             insert into posts (id, author_id) values ('{id}', '{author}'); commit"
        );
        client.batch_execute(&script).await.expect("cannot create a post anew");
        history.created(id);
        anew.insert(id.clone());
    }
    anew
}

async fn run_cycle(syncd: std::net::SocketAddr, history: &History) {
    let token = tokens::admin(SECRET, "admin");
    let client = http::Client::new(syncd);
    let ask = || async {
        let answer = client.try_post_json("/posts/sync-views", Some(&token), &Value::Null).await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    if !within_limit(ask).await {
        history.violation("CYCLE: no full cycle succeeds although everything is well");
    }
}

/// Has an operator offer all dead letters again: those that the cycles have not brought in, and those of posts that
/// were deleted for a while.
async fn offer_dead(installation: &Installation, history: &History) {
    let dead = letters(installation).await.expect("cannot read the dead letters");
    let passing = dead.iter().filter(|letter| letter.may_pass).count();
    history.say(format_args!("{} dead letters after the cycles, {passing} of them of reasons that pass", dead.len()));
    let (exit, output) = installation.command(&["dead", "retry"]).await;
    let left = letters(installation).await.expect("cannot read the dead letters").len();
    history.say(format_args!("{left} of them after `view-syncd dead retry`"));
    if exit.code() != Some(i32::from(left > 0)) {
        history
            .violation(format!("DEAD: `view-syncd dead retry` leaves {left} letters and ends so: {exit}: {}", output.join("; ")));
    }
}

/// Looks at everything.
pub(crate) async fn look(installation: &Installation, world: &World, anew: BTreeSet<String>) -> Found {
    let client = installation.database.client().await;
    let rows = client.query("select post_id::text, user_id::text from post_views", &[]).await.expect("cannot read the ledger");
    let ledger = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let rows = client.query("select id::text, views_count::bigint from posts", &[]).await.expect("cannot read the posts");
    let counts = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let rows = client.query("select post_id::text, sum(number)::bigint from application_changes group by 1", &[]).await;
    let added = rows.expect("cannot read the application's changes").iter().map(|row| (row.get(0), row.get(1))).collect();
    let posts = world.by_id();
    let keys = installation.redis.keys();
    let (mut sets, mut drift) = (HashMap::new(), HashMap::new());
    for post in posts.keys() {
        let key = keys.views(&PostId::parse(post).expect("the id was made by us"));
        sets.insert(post.clone(), installation.redis.command(&["SMEMBERS", &key]).await.expect("cannot read a set"));
        let key = keys.meta(&PostId::parse(post).expect("the id was made by us"));
        let counts: Option<Vec<Option<i64>>> = installation.redis.command(&["HMGET", &key, field::RECORDED, field::ACKED]).await;
        let counts: Vec<i64> = counts.expect("cannot read a hash").into_iter().map(|count| count.unwrap_or(0)).collect();
        drift.insert(post.clone(), counts[0] - counts[1]);
    }
    let mut live = Vec::new();
    for program in schedule::programs().filter(|program| matches!(program, Program::Ingest(_))) {
        live.push((program.to_string(), live_counts(&http::Client::new(installation.addresses[&program]), world).await));
    }
    let dead = letters(installation).await.expect("cannot read the dead letters");
    Found { posts, ledger, counts, added, live, sets, drift, anew, dead }
}

/// Looks who is taken for the author of posts whose author has changed: in Redis, and by asking in the name of each who
/// was. Done last, for that counts.
pub(crate) async fn look_at_authors(installation: &Installation, world: &World, history: &History) {
    let client = installation.database.client().await;
    for post in world.of(Nature::Reauthored) {
        let author: String = client
            .query_one(&format!("select author_id::text from posts where id = '{}'", post.id), &[])
            .await
            .expect("cannot read an author")
            .get(0);
        let key = installation.redis.keys().meta(&PostId::parse(&post.id).expect("the id was made by us"));
        let known: Option<String> = installation.redis.command(&["HGET", &key, field::AUTHOR]).await.expect("cannot read a hash");
        if known.as_ref().is_some_and(|known| *known != author) {
            history.violation(format!("AUTHOR: post {}: it is by {author}, and Redis says {known:?}", post.id));
        }
        for program in schedule::programs().filter(|program| matches!(program, Program::Ingest(_))) {
            let ingest = http::Client::new(installation.addresses[&program]);
            for candidate in &post.authors {
                let token = tokens::hs256(SECRET, candidate);
                let answer = ingest.try_post_json("/posts/view", Some(&token), &json!({ "postId": post.id })).await;
                let body = answer.ok().and_then(|answer| serde_json::from_str::<Value>(&answer.body).ok()).unwrap_or_default();
                if (body["status"] == "own") != (*candidate == author) {
                    let text = format!("AUTHOR: post {}: it is by {author}, and {program} tells {candidate}: {body}", post.id);
                    history.violation(text);
                }
            }
        }
    }
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
pub(crate) async fn end(installation: &Arc<Installation>, mut supervisors: tokio::task::JoinSet<()>, history: &History) {
    // view-ingest first, as an operator would: what it still records is drained.
    for unit in installation.units.values() {
        unit.end();
    }
    let all = async { while supervisors.join_next().await.is_some() {} };
    if tokio::time::timeout(SETTLE_LIMIT, all).await.is_err() {
        history.violation("EXIT: a program does not end although it was asked to");
    }
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
