use fred::interfaces::{HashesInterface, KeysInterface, SetsInterface};
use view_syncd::cycle::Synced;

use crate::support::World;

#[tokio::test]
async fn what_was_written_by_hand_reaches_the_ledger_with_the_next_scan() {
    let world = World::new().await;
    world.posts.insert_post(&world.sql, "7", "50").await;
    world.record("7", &["1", "2"]).await;
    let mut engine = world.engine(&[]).await;
    engine.cycle().await.unwrap();
    world.assert_views("7", 2).await;

    world.add_by_hand("7", &["3", "4", "50"]).await;
    assert_eq!(engine.cycle().await.unwrap(), Synced { successful: 1, errors: 0 });
    world.assert_views("7", 4).await;
    // The size of the set is `recorded` again, so the next scan has nothing to unite.
    assert_eq!(world.meta("7").await[1], 5);
}

#[tokio::test]
async fn the_sets_of_an_older_service_become_proper() {
    let world = World::new().await;
    world.posts.insert_post(&world.sql, "7", "50").await;
    world.posts.insert_post(&world.sql, "8", None).await;
    world.add_by_hand("7", &["1", "2", "3"]).await;
    world.add_by_hand("8", &["1"]).await;
    // One of the viewers is known already, and another one too who is not in the set.
    world
        .sql
        .batch_execute("insert into post_views values (7, 1), (7, 9); update posts set views_count = 2 where id = 7")
        .await
        .unwrap();

    assert_eq!(world.engine(&[]).await.cycle().await.unwrap(), Synced { successful: 2, errors: 0 });
    world.assert_views("7", 4).await;
    world.assert_views("8", 1).await;
    assert_eq!(world.author("7").await.as_deref(), Some("50"));
    assert_eq!(world.author("8").await.as_deref(), Some(""));
    for key in ["post:7:views", "{post:7:views}:meta"] {
        let ttl: i64 = world.redis.ttl(key).await.unwrap();
        assert!((86_000..=86_400).contains(&ttl), "{key}: {ttl}");
    }
    // A viewer whom only the ledger knew is a duplicate from now on.
    assert!(world.redis.sismember::<bool, _, _>("post:7:views", "9").await.unwrap());
}

#[tokio::test]
async fn a_large_set_is_united_in_steps() {
    let world = World::new().await;
    world.post("7").await;
    let viewers: Vec<String> = (1..=5_000).map(|viewer| viewer.to_string()).collect();
    world.add_by_hand("7", &viewers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.record("7", &["6000"]).await;
    world.engine(&["--batch-size", "1000"]).await.cycle().await.unwrap();
    world.assert_views("7", 5_001).await;
    assert_eq!(world.calls("smembers").await, 0);
    assert!(world.calls("sscan").await >= 10);
}

#[tokio::test]
async fn the_views_of_a_deleted_post_are_removed() {
    let world = World::new().await;
    world.post("7").await;
    world.post("8").await;
    world.record("7", &["1"]).await;
    world.record("8", &["1"]).await;
    let mut engine = world.engine(&[]).await;
    engine.cycle().await.unwrap();
    world.posts.delete_post(&world.sql, "7").await;
    // Neither a success nor an error.
    assert_eq!(engine.cycle().await.unwrap(), Synced { successful: 1, errors: 0 });
    assert!(!world.exists("post:7:views".into()).await);
    assert!(!world.exists("{post:7:views}:meta".into()).await);
    world.assert_views("8", 1).await;
}

#[tokio::test]
async fn a_count_that_the_application_has_changed_is_shown() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    let mut engine = world.engine(&[]).await;
    engine.cycle().await.unwrap();
    world.sql.batch_execute("update posts set views_count = 1000 where id = 7").await.unwrap();
    engine.cycle().await.unwrap();
    assert_eq!(world.live("7").await, 1_000);
}

#[tokio::test]
async fn a_hash_that_was_lost_is_made_anew() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1", "2"]).await;
    let mut engine = world.engine(&[]).await;
    engine.cycle().await.unwrap();
    let () = world.redis.del("{post:7:views}:meta").await.unwrap();
    engine.cycle().await.unwrap();
    world.assert_views("7", 2).await;
    assert_eq!(world.author("7").await.as_deref(), Some("999999"));
}

#[tokio::test]
async fn keys_that_would_live_for_ever_get_their_time() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    let mut engine = world.engine(&["--view-ttl", "2h"]).await;
    engine.cycle().await.unwrap();
    let () = world.redis.expire("post:7:views", 80_000, None).await.unwrap();
    engine.cycle().await.unwrap();
    let before: i64 = world.redis.ttl("post:7:views").await.unwrap();
    assert!(before > 79_000, "a time that is there is left alone");
    for key in ["post:7:views", "{post:7:views}:meta"] {
        let () = world.redis.persist(key).await.unwrap();
    }
    engine.cycle().await.unwrap();
    for key in ["post:7:views", "{post:7:views}:meta"] {
        let ttl: i64 = world.redis.ttl(key).await.unwrap();
        assert!((7_100..=7_200).contains(&ttl), "{key}: {ttl}");
    }
}

#[tokio::test]
async fn a_count_that_drifted_from_the_outbox_is_repaired() {
    let world = World::new().await;
    for post in ["7", "8", "9"] {
        world.post(post).await;
        world.record(post, &["1", "2", "3"]).await;
    }
    let mut engine = world.engine(&[]).await;
    engine.cycle().await.unwrap();
    // An increment that was lost, one that was made twice, and a post without fault.
    let () = world.redis.hincrby("{post:7:views}:meta", "acked", -2).await.unwrap();
    let () = world.redis.hincrby("{post:8:views}:meta", "acked", 1).await.unwrap();
    assert_eq!((world.live("7").await, world.live("8").await), (5, 2));
    engine.cycle().await.unwrap();
    for post in ["7", "8", "9"] {
        world.assert_views(post, 3).await;
    }
}

#[tokio::test]
async fn a_viewer_whose_outbox_entry_is_lost_reaches_the_ledger_with_the_scan() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1", "2"]).await;
    let mut engine = world.engine(&[]).await;
    engine.cycle().await.unwrap();
    world.record("7", &["3"]).await;
    let () = world.redis.del("views:outbox").await.unwrap();
    engine.cycle().await.unwrap();
    world.assert_views("7", 3).await;
}

#[tokio::test]
async fn the_count_of_a_hash_without_a_set_is_brought_up_to_date() {
    let world = World::new().await;
    world.post("7").await;
    let fields = vec![("author", ""), ("persisted", "0")];
    let () = world.redis.hset("{post:7:views}:meta", fields).await.unwrap();
    // What view-ingest does past Redis, before it dies.
    world.sql.batch_execute("insert into post_views values (7, 1); update posts set views_count = 1").await.unwrap();
    let mut engine = world.engine(&[]).await;
    let synced = engine.cycle().await.unwrap();
    assert_eq!((synced.successful, synced.errors), (0, 0));
    assert_eq!(world.live("7").await, 1);
    let ttl: i64 = world.redis.ttl("{post:7:views}:meta").await.unwrap();
    assert!(ttl > 0, "a hash without a set expires, too");
}

#[tokio::test]
async fn members_that_were_removed_by_hand_stay_counted_and_the_numbers_agree_again() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1", "2", "3"]).await;
    let mut engine = world.engine(&[]).await;
    engine.cycle().await.unwrap();
    let () = world.redis.srem("post:7:views", "2").await.unwrap();
    engine.cycle().await.unwrap();
    world.assert_views("7", 3).await;
    assert_eq!(world.meta("7").await[1], 2);
}

#[tokio::test]
async fn a_member_that_can_never_be_stored_is_kept_aside_once() {
    let world = World::new().await;
    world.post("7").await;
    world.add_by_hand("7", &["1", "not-a-number", "two words"]).await;
    let mut engine = world.engine(&[]).await;
    for _ in 0..3 {
        assert_eq!(engine.cycle().await.unwrap(), Synced { successful: 1, errors: 0 });
    }
    world.assert_views("7", 1).await;
    assert_eq!(world.dead().await.len(), 2);
}

#[tokio::test]
async fn a_key_of_another_type_is_one_error_and_spoils_no_other_post() {
    let world = World::new().await;
    for post in ["6", "7", "8", "9"] {
        world.post(post).await;
    }
    let () = world.redis.set("post:7:views", "a string", None, None, false).await.unwrap();
    world.add_by_hand("8", &["1"]).await;
    let () = world.redis.set("{post:8:views}:meta", "a string", None, None, false).await.unwrap();
    world.add_by_hand("9", &["1"]).await;
    let () = world.redis.hset("{post:9:views}:meta", [("author", ""), ("recorded", "many")]).await.unwrap();
    world.add_by_hand("6", &["1"]).await;
    let () = world.redis.set("post:a b:views", "no post", None, None, false).await.unwrap();

    assert_eq!(world.engine(&[]).await.cycle().await.unwrap(), Synced { successful: 1, errors: 3 });
    world.assert_views("6", 1).await;
}

#[tokio::test]
async fn a_post_that_nothing_happened_to_costs_no_write_and_one_query() {
    let world = World::new().await;
    for post in 1..=50 {
        world.post(&post.to_string()).await;
        world.record(&post.to_string(), &["1", "2"]).await;
    }
    world.engine(&[]).await.cycle().await.unwrap();
    world.database.log_statements().await;
    let mut engine = world.engine(&[]).await;
    world.reset_statistics().await;
    assert_eq!(engine.cycle().await.unwrap(), Synced { successful: 50, errors: 0 });

    for write in ["hset", "hincrby", "expire", "eval", "sscan", "multi", "unlink", "publish", "xadd", "xdel"] {
        assert_eq!(world.calls(write).await, 0, "{write}");
    }
    assert_eq!(world.calls("scard").await, 50);
    let statements = world.database.statements();
    let named = |name: &str| statements.iter().filter(|text| text.contains(name)).count();
    assert_eq!((named("-- counts"), named("-- drain"), named("-- hydrate")), (1, 0, 0), "{statements:?}");
}

#[tokio::test]
async fn many_posts_are_scanned_in_bounded_steps() {
    const POSTS: i64 = 20_000;
    let world = World::new().await;
    let insert = "insert into posts (id, author_id) select generate_series(1, $1::bigint), 999999";
    world.sql.execute(insert, &[&POSTS]).await.unwrap();
    for first in (1..=POSTS).step_by(1_000) {
        let pipeline = world.redis.pipeline();
        for post in first..first + 1_000 {
            let () = pipeline.sadd(format!("post:{post}:views"), "1").await.unwrap();
        }
        let () = pipeline.last().await.unwrap();
    }
    // All of them are new to the scan, and then none of them is.
    for _ in 0..2 {
        world.reset_statistics().await;
        let synced = world.engine(&[]).await.cycle().await.unwrap();
        // SCAN may give a key twice while Redis resizes its table.
        assert!(synced.successful >= POSTS as u64 && synced.errors == 0, "{synced:?}");
        assert_eq!((world.calls("keys").await, world.calls("smembers").await), (0, 0));
        // Twice through the keys: for the sets, and for the hashes without one.
        let scans = world.calls("scan").await;
        assert!((40..=120).contains(&scans), "{scans} calls of SCAN");
    }
    let counted = world.sql.query_one("select count(*) from posts where views_count = 1", &[]).await.unwrap();
    assert_eq!(counted.get::<_, i64>(0), POSTS);
    assert_eq!(world.calls("sscan").await, 0);
}
