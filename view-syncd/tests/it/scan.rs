use fred::interfaces::{HashesInterface, KeysInterface, SetsInterface};
use view_syncd::daemon::cycle::Synced;

use crate::support::World;

#[tokio::test]
async fn what_was_written_by_hand_reaches_the_ledger_with_the_next_scan() {
    let world = World::new().await;
    world.posts.insert_post(&world.sql, "7", "50").await;
    world.record("7", &["1", "2"]).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    world.assert_views("7", 2).await;

    world.add_by_hand("7", &["3", "4", "50"]).await;
    assert_eq!(synchronizer.cycle().await.unwrap(), Synced { successful: 1, errors: 0 });
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

    assert_eq!(world.synchronizer(&[]).await.cycle().await.unwrap(), Synced { successful: 2, errors: 0 });
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
    world.synchronizer(&["--batch-size", "1000"]).await.cycle().await.unwrap();
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
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    world.posts.delete_post(&world.sql, "7").await;
    // Neither a success nor an error.
    assert_eq!(synchronizer.cycle().await.unwrap(), Synced { successful: 1, errors: 0 });
    assert!(!world.exists("post:7:views".into()).await);
    assert!(!world.exists("{post:7:views}:meta".into()).await);
    world.assert_views("8", 1).await;
}

#[tokio::test]
async fn a_count_that_the_application_has_changed_is_shown() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    world.sql.batch_execute("update posts set views_count = 1000 where id = 7").await.unwrap();
    synchronizer.cycle().await.unwrap();
    assert_eq!(world.live("7").await, 1_000);
}

#[tokio::test]
async fn a_hash_that_was_lost_is_made_anew() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1", "2"]).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    let () = world.redis.del("{post:7:views}:meta").await.unwrap();
    synchronizer.cycle().await.unwrap();
    world.assert_views("7", 2).await;
    assert_eq!(world.author("7").await.as_deref(), Some("999999"));
}

#[tokio::test]
async fn keys_that_would_live_for_ever_get_their_time() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    let mut synchronizer = world.synchronizer(&["--view-ttl", "2h"]).await;
    synchronizer.cycle().await.unwrap();
    let () = world.redis.expire("post:7:views", 80_000, None).await.unwrap();
    synchronizer.cycle().await.unwrap();
    let before: i64 = world.redis.ttl("post:7:views").await.unwrap();
    assert!(before > 79_000, "a time that is there is left alone");
    for key in ["post:7:views", "{post:7:views}:meta"] {
        let () = world.redis.persist(key).await.unwrap();
    }
    synchronizer.cycle().await.unwrap();
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
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    // An increment that was lost, one that was made twice, and a post without fault.
    let () = world.redis.hincrby("{post:7:views}:meta", "acked", -2).await.unwrap();
    let () = world.redis.hincrby("{post:8:views}:meta", "acked", 1).await.unwrap();
    assert_eq!((world.live("7").await, world.live("8").await), (5, 2));
    synchronizer.cycle().await.unwrap();
    for post in ["7", "8", "9"] {
        world.assert_views(post, 3).await;
    }
}

#[tokio::test]
async fn a_viewer_whose_outbox_entry_is_lost_reaches_the_ledger_with_the_scan() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1", "2"]).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    world.record("7", &["3"]).await;
    let () = world.redis.del("views:outbox").await.unwrap();
    synchronizer.cycle().await.unwrap();
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
    let mut synchronizer = world.synchronizer(&[]).await;
    let synced = synchronizer.cycle().await.unwrap();
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
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    let () = world.redis.srem("post:7:views", "2").await.unwrap();
    synchronizer.cycle().await.unwrap();
    world.assert_views("7", 3).await;
    assert_eq!(world.meta("7").await[1], 2);
}

#[tokio::test]
async fn a_member_that_can_never_be_stored_is_kept_aside_once() {
    let world = World::new().await;
    world.post("7").await;
    world.add_by_hand("7", &["1", "not-a-number", "two words"]).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    for _ in 0..3 {
        assert_eq!(synchronizer.cycle().await.unwrap(), Synced { successful: 1, errors: 0 });
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

    assert_eq!(world.synchronizer(&[]).await.cycle().await.unwrap(), Synced { successful: 1, errors: 3 });
    world.assert_views("6", 1).await;
}

#[tokio::test]
async fn an_error_of_a_key_is_counted_once_wherever_its_other_key_is_met() {
    let world = World::new().await;
    for post in ["5", "6", "7", "8"] {
        world.post(post).await;
        world.add_by_hand(post, &["1"]).await;
    }
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    // Something that is no set and has no time to live, beside a hash that is in order; and the other way round.
    let () = world.redis.set("post:7:views", "a string", None, None, false).await.unwrap();
    let () = world.redis.set("{post:8:views}:meta", "a string", None, None, false).await.unwrap();
    let () = world.redis.set("{post:9:views}:meta", "a string without a set", None, None, false).await.unwrap();
    assert_eq!(synchronizer.cycle().await.unwrap(), Synced { successful: 2, errors: 3 });
    for key in ["post:7:views", "{post:8:views}:meta", "{post:9:views}:meta"] {
        assert_eq!(world.redis.ttl::<i64, _>(key).await.unwrap(), -1, "{key} is not ours, and is left alone");
    }
}

#[tokio::test]
async fn keys_that_only_look_like_a_post_s_are_passed_over() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    let foreign: [&[u8]; 7] = [
        b"xpost:7:views",
        b"post:7:views:old",
        b"post::views",
        b"post:a b:views",
        b"{post:a b:views}:meta",
        b"post:\xff:views",
        b"{post:7:views}",
    ];
    for key in foreign {
        let () = world.redis.sadd(key, "2").await.unwrap();
    }
    assert_eq!(world.synchronizer(&[]).await.cycle().await.unwrap(), Synced { successful: 1, errors: 0 });
    world.assert_views("7", 1).await;
    for key in foreign {
        assert_eq!(world.redis.ttl::<i64, _>(key).await.unwrap(), -1, "{key:?}");
    }
}

#[tokio::test]
async fn a_set_that_is_gone_takes_no_count_with_it() {
    let world = World::new().await;
    for post in ["7", "8"] {
        world.post(post).await;
        world.record(post, &["1", "2"]).await;
    }
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    let () = world.redis.del("post:7:views").await.unwrap();
    world.sql.batch_execute("update posts set views_count = 70 where id = 7").await.unwrap();
    assert_eq!(synchronizer.cycle().await.unwrap(), Synced { successful: 1, errors: 0 });
    assert_eq!(world.live("7").await, 70);
    // Nothing is in the set, and nothing was recorded into it: whoever comes next finds the two in agreement.
    assert_eq!(world.meta("7").await[1], 0);
    assert!(!world.exists("post:7:views".into()).await);
    world.assert_views("8", 2).await;
}

#[tokio::test]
async fn a_lone_hash_of_a_deleted_post_is_removed() {
    let world = World::new().await;
    let () = world.redis.hset("{post:7:views}:meta", [("author", ""), ("persisted", "3")]).await.unwrap();
    assert_eq!(world.synchronizer(&[]).await.cycle().await.unwrap(), Synced { successful: 0, errors: 0 });
    assert!(!world.exists("{post:7:views}:meta".into()).await);
}

#[tokio::test]
async fn a_post_whose_id_does_not_fit_the_column_does_not_exist() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    world.add_by_hand("not-a-number", &["1"]).await;
    world.add_by_hand("007", &["1"]).await;
    assert_eq!(world.synchronizer(&[]).await.cycle().await.unwrap(), Synced { successful: 1, errors: 0 });
    assert!(!world.exists("post:not-a-number:views".into()).await);
    assert!(!world.exists("post:007:views".into()).await);
    world.assert_views("7", 1).await;
}
