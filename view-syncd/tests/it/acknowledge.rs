use fred::interfaces::{HashesInterface, KeysInterface};
use shared::{
    ids::PostId,
    keys,
    scripts::{self, AckedEntry},
};

use crate::support::World;

fn post() -> PostId {
    PostId::parse("7").unwrap()
}

fn entry(id: &str, pairs: usize) -> AckedEntry {
    AckedEntry { id: id.to_owned(), posts: vec![(0, pairs)] }
}

#[tokio::test]
async fn acknowledging_twice_changes_nothing() {
    let world = World::new().await;
    world.record("7", &["1", "2"]).await;
    let id = world.add_entry(vec![("7", "3")]).await;
    let () = world.redis.hincrby(keys::meta(&post()), "recorded", 1).await.unwrap();
    let entries = [entry(&id, 1)];
    assert_eq!(scripts::acknowledge(&world.redis, &entries, &[(post(), 10)]).await.unwrap(), 1);
    assert_eq!(world.meta("7").await, [10, 3, 1]);
    assert_eq!(scripts::acknowledge(&world.redis, &entries, &[(post(), 10)]).await.unwrap(), 0);
    assert_eq!(world.meta("7").await, [10, 3, 1]);
    assert_eq!(world.outbox_length().await, 1);
}

#[tokio::test]
async fn no_more_is_acknowledged_than_was_recorded() {
    let world = World::new().await;
    let id = world.add_entry(vec![("7", "1"), ("7", "2"), ("7", "3")]).await;
    let () = world.redis.hset(keys::meta(&post()), [("author", "50"), ("recorded", "2")]).await.unwrap();
    scripts::acknowledge(&world.redis, &[entry(&id, 3)], &[(post(), 3)]).await.unwrap();
    assert_eq!(world.meta("7").await, [3, 2, 2]);
}

#[tokio::test]
async fn a_hash_that_has_expired_is_not_brought_back_to_life() {
    let world = World::new().await;
    world.record("7", &["1"]).await;
    let () = world.redis.del(keys::meta(&post())).await.unwrap();
    world.post("7").await;
    world.engine(&[]).await.drain(view_syncd::drain::Urgency::AtOnce).await.unwrap();
    assert_eq!(world.stored("7").await, 1);
    assert!(!world.exists(keys::meta(&post())).await);
}
