//! What a view leaves in Redis, and what many at once leave.

use std::collections::{BTreeSet, HashMap};

use testkit::{http::Client, process::Daemon};
use tokio::task::JoinSet;

use crate::support::{Ingest, World, meta, set, token, verdict, viewers};

const DAY: i64 = 24 * 3600;
/// What a test may take between the setting of a lifetime and its reading.
const LEEWAY: i64 = 120;

/// Sends views at once, each by a viewer to a client, and counts the verdicts.
async fn storm(views: impl Iterator<Item = (Client, String)>) -> HashMap<String, usize> {
    let mut running = JoinSet::new();
    for (http, viewer) in views {
        let token = token(&viewer);
        running.spawn(async move { http.post_json("/posts/view", Some(&token), &serde_json::json!({ "postId": "p" })).await });
    }
    let mut verdicts = HashMap::new();
    while let Some(response) = running.join_next().await {
        let verdict = verdict(&response.unwrap());
        *verdicts.entry(verdict.split(' ').next().unwrap().to_owned()).or_default() += 1;
    }
    verdicts
}

#[tokio::test]
async fn two_hundred_concurrent_views_by_a_hundred_viewers_count_a_hundred() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest().await;
    let twice = viewers(100).into_iter().chain(viewers(100));
    let verdicts = storm(twice.map(|viewer| (app.http.clone(), viewer))).await;
    assert_eq!(verdicts, HashMap::from([("counted".to_owned(), 100), ("duplicate".to_owned(), 100)]));
    assert_eq!(app.count("p").await, 100);
    assert_eq!(world.size("p").await, 100);
    let outbox = world.outbox().await;
    assert_eq!((outbox.len(), distinct(&outbox)), (100, 100));
    assert_eq!(world.meta("p", "recorded").await.as_deref(), Some("100"));
}

#[tokio::test]
async fn the_same_storm_on_two_processes_leaves_a_hundred_viewers() {
    let world = World::new().await;
    world.post("p").await;
    let (one, other) = (world.ingest().await, world.ingest().await);
    let clients = [one.http.clone(), other.http.clone()];
    let views = viewers(100).into_iter().flat_map(|viewer| clients.clone().map(|client| (client, viewer.clone())));
    let verdicts = storm(views).await;
    assert!(verdicts.keys().all(|verdict| ["counted", "duplicate"].contains(&verdict.as_str())), "{verdicts:?}");
    assert!(verdicts["counted"] >= 100, "{verdicts:?}");
    assert_eq!(world.size("p").await, 100);
    // Both may have recorded a pair, which the ledger's primary key will settle; nobody is missing.
    let outbox = world.outbox().await;
    assert_eq!(distinct(&outbox), 100);
    let recorded: usize = world.meta("p", "recorded").await.unwrap().parse().unwrap();
    let repeated = world.meta("p", "repeated").await.unwrap_or_default();
    let repeated: usize = repeated.split_whitespace().map(|item| item.split_once('=').unwrap().1.parse::<usize>().unwrap()).sum();
    assert_eq!(
        (recorded, recorded + repeated),
        (100, outbox.len()),
        "each viewer is recorded once, and every pair is accounted for"
    );
    assert_eq!(one.verdict("viewer-7", "p").await.split(' ').next(), Some("duplicate"));
}

#[tokio::test]
async fn what_one_process_has_counted_another_calls_a_duplicate() {
    let world = World::new().await;
    world.post("p").await;
    let (one, other) = (world.ingest().await, world.ingest().await);
    assert_eq!(one.verdict("ann", "p").await, "counted 1");
    assert_eq!(other.verdict("ann", "p").await, "duplicate 1");
    assert_eq!(other.verdict("bob", "p").await, "counted 2");
    assert_eq!(one.count("p").await, 2);
}

#[tokio::test]
async fn a_repeated_view_writes_nothing() {
    let world = World::new().await;
    world.post_of("p", "author").await;
    let app = world.ingest().await;
    app.view("ann", "p").await;
    let writes = ["xadd", "sadd", "expire", "hincrby", "hset", "eval", "evalsha", "del", "srem", "multi", "publish"];
    let before = world.calls(writes).await;
    for _ in 0..5 {
        assert_eq!(app.verdict("ann", "p").await, "duplicate 1");
        assert_eq!(app.verdict("author", "p").await, "own 1");
        assert_eq!(app.count("p").await, 1);
        assert_eq!(app.batch("ann", &["p"]).await.json()["processedCount"], 0);
    }
    assert_eq!(world.calls(writes).await, before);
}

#[tokio::test]
async fn a_new_view_is_one_write_of_each_kind() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest().await;
    app.view("ann", "p").await;
    let writes = ["xadd", "sadd", "expire", "hincrby", "eval", "smismember", "hmget"];
    let before = world.calls(writes).await;
    app.view("bob", "p").await;
    let after = world.calls(writes).await;
    let grown: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(grown, [1, 1, 2, 1, 0, 1, 1], "{writes:?}");
}

#[tokio::test]
async fn set_and_meta_live_for_a_day_and_a_new_view_begins_it_anew() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest().await;
    app.view("ann", "p").await;
    let keys = [set("p"), meta("p")];
    for key in keys.clone() {
        let ttl = world.ttl(key.clone()).await;
        assert!((DAY - LEEWAY..=DAY).contains(&ttl), "{key}: {ttl}");
        let () = fred::interfaces::KeysInterface::expire(&world.redis, key, LEEWAY, None).await.unwrap();
    }
    app.view("ann", "p").await;
    for key in keys.clone() {
        assert!(world.ttl(key.clone()).await <= LEEWAY, "{key}: a repeated view is no view");
    }
    app.view("bob", "p").await;
    for key in keys {
        let ttl = world.ttl(key.clone()).await;
        assert!((DAY - LEEWAY..=DAY).contains(&ttl), "{key}: {ttl}");
    }
    assert_eq!(world.ttl("views:outbox".to_owned()).await, -1, "the outbox stays until it is drained");
}

#[tokio::test]
async fn the_lifetime_is_a_setting() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest_with(&[("VIEW_TTL", "2h")]).await;
    for viewer in ["ann", "bob"] {
        app.view(viewer, "p").await;
        for key in [set("p"), meta("p")] {
            let ttl = world.ttl(key.clone()).await;
            assert!((7200 - LEEWAY..=7200).contains(&ttl), "{key}: {ttl}");
        }
    }
}

#[tokio::test]
async fn views_of_many_posts_at_once_all_count() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let posts: Vec<String> = (0..50).map(|post| format!("p{post}")).collect();
    let mut running = JoinSet::new();
    for viewer in viewers(10) {
        for chunk in posts.chunks(10) {
            let (http, token, ids) = (app.http.clone(), token(&viewer), serde_json::json!({ "postIds": chunk }));
            running.spawn(async move { http.post_json("/posts/views-batch", Some(&token), &ids).await });
        }
    }
    while let Some(response) = running.join_next().await {
        assert_eq!(response.unwrap().json()["processedCount"], 10);
    }
    for post in &posts {
        assert_eq!(app.count(post).await, 10, "{post}");
    }
    let outbox = world.outbox().await;
    assert_eq!((outbox.len(), distinct(&outbox)), (500, 500));
}

#[tokio::test]
async fn an_answered_view_survives_the_death_of_the_process() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest().await;
    let Ingest { daemon, .. } = &app;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    Daemon::kill9(daemon).await;
    assert_eq!(world.outbox().await.len(), 1);
    assert_eq!(world.ingest().await.verdict("ann", "p").await, "duplicate 1");
}

#[tokio::test]
async fn without_a_database_every_post_is_taken_and_counted_from_its_set() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    app.daemon.wait_for_line("no --database-url").await;
    assert_eq!(app.count("p").await, 0);
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    assert_eq!(app.verdict("ann", "p").await, "duplicate 1");
    let by_hand = ["old-1", "old-2", "bob"].map(str::to_owned).to_vec();
    let () = fred::interfaces::SetsInterface::sadd(&world.redis, set("p"), by_hand).await.unwrap();
    assert_eq!(app.count("p").await, 4);
    assert_eq!(app.verdict("bob", "p").await, "duplicate 4");
    assert_eq!(app.verdict("cyd", "p").await, "counted 5");
    assert_eq!(world.outbox().await.len(), 2);
    assert_eq!(world.meta("p", "author").await, None, "a server with a database will look it up");
}

fn distinct(outbox: &[(String, String)]) -> usize {
    outbox.iter().collect::<BTreeSet<_>>().len()
}
