//! A Redis that the previous version has written: hashes without what is newer, its entries, its dead letters.

use fred::interfaces::{HashesInterface, KeysInterface, SetsInterface, StreamsInterface};
use testkit::posts::ledger_viewers;
use view_syncd::drain::Urgency;

use crate::support::World;

/// A hash as the previous version has left it, with its set.
async fn left_behind(world: &World, post: &str, members: &[&str], [persisted, recorded, acked]: [i64; 3]) {
    let fields = vec![
        ("author", "999999".to_owned()),
        ("persisted", persisted.to_string()),
        ("recorded", recorded.to_string()),
        ("acked", acked.to_string()),
    ];
    let () = world.redis.hset(format!("{{post:{post}:views}}:meta"), fields).await.unwrap();
    let () = world.redis.expire(format!("{{post:{post}:views}}:meta"), 3_600, None).await.unwrap();
    if !members.is_empty() {
        let () = world.redis.sadd(format!("post:{post}:views"), members.to_vec()).await.unwrap();
        let () = world.redis.expire(format!("post:{post}:views"), 3_600, None).await.unwrap();
    }
}

#[tokio::test]
async fn what_the_previous_version_has_left_is_drained_and_scanned_exactly() {
    let world = World::new().await;
    for post in ["7", "8", "9", "10"] {
        world.post(post).await;
    }
    let before = "insert into post_views values (7, 1), (7, 2), (8, 1), (10, 1); update posts set views_count = (select count(*) from post_views where post_id = id)";
    world.sql.batch_execute(before).await.unwrap();
    // Drained to the end; in the middle of it; never; and with pairs that two processes have recorded at once, which
    // `recorded` counts twice.
    left_behind(&world, "7", &["1", "2", "3", "4"], [2, 4, 2]).await;
    left_behind(&world, "8", &["1"], [1, 1, 1]).await;
    left_behind(&world, "9", &["1", "2"], [0, 2, 0]).await;
    left_behind(&world, "10", &["1", "2", "3"], [1, 5, 1]).await;
    world.add_entry(vec![("7", "3"), ("7", "4"), ("9", "1")]).await;
    world.add_entry(vec![("9", "2"), ("10", "2"), ("10", "3")]).await;
    world.add_entry(vec![("10", "2"), ("10", "3")]).await;
    let mut synchronizer = world.synchronizer(&["--batch-size", "3"]).await;
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    synchronizer.drain_all().await.unwrap();
    assert_eq!(world.outbox_length().await, 0);
    for (post, views) in [("7", 4), ("8", 1), ("9", 2), ("10", 3)] {
        world.assert_views(post, views).await;
    }
    for _ in 0..2 {
        synchronizer.cycle().await.unwrap();
        for (post, views) in [("7", 4), ("8", 1), ("9", 2), ("10", 3)] {
            world.assert_views(post, views).await;
        }
    }
    assert_eq!(world.meta("10").await[1], 3, "`recorded` is the size of the set");
    assert_eq!(world.dead().await.len(), 0);
}

#[tokio::test]
async fn a_batch_that_the_previous_version_had_committed_and_not_acknowledged_counts_once() {
    let world = World::new().await;
    world.post("7").await;
    left_behind(&world, "7", &["1", "2", "3"], [1, 3, 1]).await;
    world.add_entry(vec![("7", "2")]).await;
    world.add_entry(vec![("7", "3")]).await;
    world
        .sql
        .batch_execute("insert into post_views values (7, 1), (7, 2), (7, 3); update posts set views_count = 3")
        .await
        .unwrap();
    assert_eq!(world.live("7").await, 3);
    let mut synchronizer = world.synchronizer(&["--batch-size", "1"]).await;
    while world.outbox_length().await > 0 {
        synchronizer.drain(Urgency::AtOnce).await.unwrap();
        assert_eq!(world.live("7").await, 3, "{:?}", world.meta("7").await);
    }
    synchronizer.cycle().await.unwrap();
    world.assert_views("7", 3).await;
}

#[tokio::test]
async fn the_previous_versions_dead_letters_are_shown_and_offered() {
    let world = World::new().await;
    world.post("7").await;
    for (id, viewer, reason) in [
        ("1700000000000-0", "1", "insert or update on table \"post_views\" violates foreign key constraint"),
        ("1700000001000-0", "not-a-number", "the viewer's id does not fit the column's type"),
        ("1700000002000-0", "2", "new row for relation \"post_views\" violates check constraint"),
    ] {
        let fields = vec![("post", "7"), ("viewer", viewer), ("reason", reason)];
        let _: String = world.redis.xadd("views:dead", false, None, id, fields).await.unwrap();
    }
    let list = world.command("dead").arg("list").start();
    assert_eq!(list.wait_exit().await.code(), Some(1));
    assert_eq!(list.lines_with("2023-11-14T22:13:20").len(), 1, "{:?}", list.output());
    let retry = world.command("dead").arg("retry").start();
    assert_eq!(retry.wait_exit().await.code(), Some(1), "{:?}", retry.output());
    assert_eq!(retry.lines_with("stored 2 · removed 2 · left 1").len(), 1, "{:?}", retry.output());
    assert_eq!(ledger_viewers(&world.sql, "7").await, ["1", "2"]);
    let at: i64 = world
        .sql
        .query_one("select (extract(epoch from viewed_at) * 1000)::bigint from post_views where user_id = 2", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(at, 1_700_000_002_000, "what is known of the time of the view");
    assert_eq!(world.dead().await.len(), 1);
}
