use fred::interfaces::{HashesInterface, KeysInterface};
use shared::{
    ids::PostId,
    redis::{
        link::Link,
        resp::{Commands, Replies, Reply},
    },
    scripts::{self, AckedEntry},
};

use crate::support::World;

fn post() -> PostId {
    PostId::parse("7").unwrap()
}

fn entry(id: &str, pairs: usize) -> AckedEntry {
    (id.to_owned(), vec![1; pairs])
}

/// Acknowledges an entry of the post, and gives what Redis replies.
async fn acknowledge(world: &World, entry: AckedEntry, views: i64) -> Option<i64> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    scripts::acknowledge(&mut commands, &world.keys, &[entry], &[(post(), views)]);
    Link::open(&world.redis).await.unwrap().exchange(&commands, &mut replies).await.unwrap();
    replies.iter().next().and_then(Reply::number)
}

#[tokio::test]
async fn acknowledging_twice_changes_nothing() {
    let world = World::new().await;
    world.record("7", &["1", "2"]).await;
    let id = world.add_entry(vec![("7", "3")]).await;
    let () = world.redis.hincrby(world.keys.meta(&post()), "recorded", 1).await.unwrap();
    assert_eq!(acknowledge(&world, entry(&id, 1), 10).await, Some(1));
    assert_eq!(world.meta("7").await, [10, 3, 1]);
    assert_eq!(acknowledge(&world, entry(&id, 1), 10).await, Some(0));
    assert_eq!(world.meta("7").await, [10, 3, 1]);
    assert_eq!(world.outbox_length().await, 1);
}

#[tokio::test]
async fn no_more_is_acknowledged_than_was_recorded() {
    let world = World::new().await;
    let id = world.add_entry(vec![("7", "1"), ("7", "2"), ("7", "3")]).await;
    let () = world.redis.hset(world.keys.meta(&post()), [("author", "50"), ("recorded", "2")]).await.unwrap();
    assert_eq!(acknowledge(&world, entry(&id, 3), 3).await, Some(1));
    assert_eq!(world.meta("7").await, [3, 2, 2]);
}

#[tokio::test]
async fn numbers_stay_exact_however_large_they_are() {
    let world = World::new().await;
    let id = world.add_entry(vec![("7", "1")]).await;
    let large = 9_007_199_254_740_000_i64;
    let () = world.redis.hset(world.keys.meta(&post()), [("author", "50"), ("recorded", &large.to_string())]).await.unwrap();
    let () = world.redis.hset(world.keys.meta(&post()), ("acked", large - 1)).await.unwrap();
    assert_eq!(acknowledge(&world, entry(&id, 1), large + 1).await, Some(1));
    assert_eq!(world.meta("7").await, [large + 1, large, large]);
}

#[tokio::test]
async fn a_hash_that_has_only_been_read_gets_the_count() {
    let world = World::new().await;
    let id = world.add_entry(vec![("7", "1")]).await;
    let () = world.redis.hset(world.keys.meta(&post()), [("author", ""), ("persisted", "3")]).await.unwrap();
    assert_eq!(acknowledge(&world, entry(&id, 1), 4).await, Some(1));
    assert_eq!(world.meta("7").await, [4, 0, 0]);
}

#[tokio::test]
async fn a_hash_that_has_expired_is_not_brought_back_to_life() {
    let world = World::new().await;
    world.record("7", &["1"]).await;
    let () = world.redis.del(world.keys.meta(&post())).await.unwrap();
    world.post("7").await;
    world.engine(&[]).await.drain(view_syncd::drain::Urgency::AtOnce).await.unwrap();
    assert_eq!(world.stored("7").await, 1);
    assert!(!world.exists(world.keys.meta(&post())).await);
}
