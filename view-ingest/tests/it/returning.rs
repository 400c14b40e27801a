//! Viewers who come back after Redis has forgotten them.

use fred::interfaces::{ClientLike, KeysInterface, SetsInterface};

use crate::support::{World, set, viewers};

#[tokio::test]
async fn a_viewer_of_the_ledger_is_a_duplicate_at_once() {
    let world = World::new().await;
    world.post_of("p", "author").await;
    world.store("p", &viewers(3)).await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("viewer-1", "p").await, "duplicate 3");
    assert!(world.outbox().await.is_empty());
    assert_eq!(world.size("p").await, 3);
    for (field, value) in [("author", "author"), ("persisted", "3"), ("recorded", "3"), ("acked", "3")] {
        assert_eq!(world.meta("p", field).await.as_deref(), Some(value), "{field}");
    }
    assert_eq!(app.verdict("ann", "p").await, "counted 4");
    assert_eq!(world.meta("p", "recorded").await.as_deref(), Some("4"));
    assert_eq!(world.size("p").await, 4, "SCARD is what was recorded");
}

#[tokio::test]
async fn a_thousand_viewers_are_loaded_back_and_more_are_not() {
    let world = World::new().await;
    for (post, number) in [("few", 1_000), ("many", 1_001)] {
        world.post(post).await;
        world.store(post, &viewers(number)).await;
    }
    let app = world.ingest().await;
    assert_eq!(app.verdict("viewer-7", "few").await, "duplicate 1000");
    assert_eq!(world.size("few").await, 1_000);
    // The drain will find the pair in the ledger; until then the count is one too high.
    assert_eq!(app.verdict("viewer-7", "many").await, "counted 1002");
    assert_eq!(world.size("many").await, 1);
    assert_eq!(world.meta("many", "persisted").await.as_deref(), Some("1001"));
    assert_eq!(app.verdict("viewer-7", "many").await, "duplicate 1002");
}

#[tokio::test]
async fn flushing_redis_resets_no_count_and_counts_nobody_twice() {
    let world = World::new().await;
    world.post_of("p", "author").await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    world.store("p", &["ann".to_owned()]).await;
    for _ in 0..2 {
        let () = world.redis.flushall(false).await.unwrap();
        assert_eq!(app.verdict("ann", "p").await, "duplicate 1");
        assert_eq!(app.verdict("author", "p").await, "own 1");
        assert_eq!(app.count("p").await, 1);
        assert!(world.outbox().await.is_empty());
    }
}

#[tokio::test]
async fn a_set_that_is_deleted_alone_records_at_worst_what_the_ledger_has() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest().await;
    app.view("ann", "p").await;
    let () = world.redis.del(set("p")).await.unwrap();
    assert!(app.verdict("ann", "p").await.starts_with("counted"));
    assert_eq!(world.outbox().await, vec![("p".to_owned(), "ann".to_owned()); 2], "the primary key settles it");
    assert_eq!(world.size("p").await, 1);
}

#[tokio::test]
async fn a_viewer_added_by_hand_is_a_duplicate() {
    let world = World::new().await;
    world.post("p").await;
    let () = world.redis.sadd(set("p"), "ann").await.unwrap();
    let app = world.ingest().await;
    assert!(app.verdict("ann", "p").await.starts_with("duplicate"));
    assert_eq!(app.verdict("bob", "p").await, "counted 1", "the scan will count the other one");
    assert!(world.ttl(set("p")).await > 0, "the first touch gives the set its lifetime");
    let () = world.redis.sadd(set("p"), "cyd").await.unwrap();
    assert!(app.verdict("cyd", "p").await.starts_with("duplicate"));
}
