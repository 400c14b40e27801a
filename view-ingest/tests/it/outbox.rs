//! Outbox before set: whatever Redis refuses, no view is called known that the outbox does not have.

use fred::{
    interfaces::{ClientLike, KeysInterface, SetsInterface},
    types::{ClusterHash, CustomCommand},
};
use testkit::redis::RedisServer;

use crate::support::{World, assert_error, set};

const UNAVAILABLE: &str = "Сервис временно недоступен";

/// Sets the bytes that Redis may use; 0 for all that there are.
pub(crate) async fn set_maxmemory(world: &World, bytes: &str) {
    let config = CustomCommand::new_static("CONFIG", ClusterHash::FirstKey, false);
    let () = world.redis.custom(config, vec!["SET", "maxmemory", bytes]).await.unwrap();
}

#[tokio::test]
async fn the_outbox_is_written_before_the_set() {
    let world = World::with_redis(RedisServer::start_with(&[("rename-command", "SADD \"\"")]).await).await;
    let app = world.ingest().await;
    let response = app.view("ann", "p").await;
    assert_error(&response, 503, UNAVAILABLE);
    assert_eq!(response.header("retry-after"), "1");
    assert_eq!(world.outbox().await, [("p".to_owned(), "ann".to_owned())]);
}

#[tokio::test]
async fn a_view_that_the_outbox_did_not_take_is_new_when_it_is_tried_again() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    app.view("bob", "p").await;
    let kept = world.outbox().await;
    let () = world.redis.rename("views:outbox", "kept").await.unwrap();
    let () = world.redis.set("views:outbox", "no stream", None, None, false).await.unwrap();
    for _ in 0..2 {
        assert_error(&app.view("ann", "p").await, 503, UNAVAILABLE);
    }
    let () = world.redis.rename("kept", "views:outbox").await.unwrap();
    assert_eq!(app.verdict("ann", "p").await, "counted 2");
    assert_eq!(world.outbox().await, [kept, vec![("p".to_owned(), "ann".to_owned())]].concat());
    assert_eq!(world.meta("p", "recorded").await.as_deref(), Some("2"));
    assert_eq!(app.verdict("bob", "p").await, "duplicate 2");
}

#[tokio::test]
async fn a_view_that_postgresql_took_instead_of_the_outbox_counts_once() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest().await;
    assert_eq!(app.count("p").await, 0);
    let () = world.redis.set("views:outbox", "no stream", None, None, false).await.unwrap();
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    let () = world.redis.del("views:outbox").await.unwrap();
    assert_eq!(app.verdict("ann", "p").await, "duplicate 1");
    assert_eq!(app.count("p").await, 1);
    assert_eq!((world.size("p").await, world.outbox().await.len()), (1, 0));
}

#[tokio::test]
async fn a_full_redis_takes_no_view_and_takes_it_when_there_is_room() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    app.view("bob", "p").await;
    set_maxmemory(&world, "1").await;
    assert_error(&app.view("ann", "p").await, 503, UNAVAILABLE);
    assert_eq!(app.verdict("bob", "p").await, "duplicate 1", "what needs no room is answered");
    set_maxmemory(&world, "0").await;
    assert_eq!(app.verdict("ann", "p").await, "counted 2");
    assert_eq!(world.outbox().await.len(), 2);
}

#[tokio::test]
async fn a_set_that_is_none_spoils_its_own_post_only() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let () = world.redis.set(set("broken"), "no set", None, None, false).await.unwrap();
    assert_error(&app.view("ann", "broken").await, 503, UNAVAILABLE);
    assert!(world.outbox().await.is_empty());
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    let () = world.redis.del(set("broken")).await.unwrap();
    assert_eq!(app.verdict("ann", "broken").await, "counted 1");
    let members: Vec<String> = world.redis.smembers(set("broken")).await.unwrap();
    assert_eq!(members, ["ann"]);
}
