//! The connection that takes the batches, beside the client library's own.

use std::time::Instant;

use fred::{
    interfaces::ClientLike,
    types::{ClusterHash, CustomCommand},
};
use testkit::{SOON, eventually, redis::RedisServer};

use crate::{redis_refuses::command, support::World};

/// The connections whose last command was this one, by their numbers.
async fn connections(world: &World, last_command: &str) -> Vec<String> {
    let list = CustomCommand::new_static("CLIENT", ClusterHash::FirstKey, false);
    let list: String = world.redis.custom(list, vec!["LIST"]).await.unwrap();
    let with = format!("cmd={last_command} ");
    let matching = list.lines().filter(|line| line.contains(&with));
    matching.filter_map(|line| line.strip_prefix("id=")?.split(' ').next().map(str::to_owned)).collect()
}

/// Redis closes idle connections where `timeout` is set, and so does many a thing in between.
#[tokio::test]
async fn one_that_was_closed_while_nobody_used_it_costs_no_view() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    // Where PostgreSQL has told no count, recording ends with a look at the size of the set.
    let links = connections(&world, "scard").await;
    assert_eq!(links.len(), 1, "{links:?}");
    let kill = CustomCommand::new_static("CLIENT", ClusterHash::FirstKey, false);
    let () = world.redis.custom(kill, vec!["KILL", "ID", &links[0]]).await.unwrap();
    eventually("it is closed", SOON, || async { connections(&world, "scard").await.is_empty() }).await;

    assert_eq!(app.verdict("bob", "p").await, "counted 2");
    assert_eq!(app.verdict("ann", "p").await, "duplicate 2");
}

/// The client library asks for its connection's id, and does without it where that is forbidden.
#[tokio::test]
async fn it_takes_no_rights_that_recording_does_not_take() {
    let account = "app on >sesame ~* &* +@all -client";
    let world = World::with_redis(RedisServer::start_with(&[("user", account)]).await).await;
    let url = world.server.url().replace("redis://", "redis://app:sesame@");
    let app = world.ingest_with(&[("REDIS_URL", &url)]).await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    assert_eq!(app.verdict("ann", "p").await, "duplicate 1");
    assert_eq!(world.outbox().await.len(), 1);
}

/// Where Redis lets the library in and nobody else, each try would end and open the library's connection, many times a
/// second.
#[tokio::test]
async fn one_that_cannot_be_opened_does_not_keep_the_library_reconnecting() {
    let world = World::new().await;
    // Of both recorders.
    let posts: Vec<String> = (0..8).map(|post| format!("p{post}")).collect();
    for post in &posts {
        world.post(post).await;
    }
    let app = world.ingest().await;
    let started = Instant::now();
    // The test's own, and one for each worker.
    command(&world.redis, &["CONFIG", "SET", "maxclients", "3"]).await.unwrap();
    for viewer in crate::support::viewers(40) {
        for post in &posts {
            assert_eq!(app.view(&viewer, post).await.status, 200);
        }
    }
    let connections = app.daemon.lines_with("Redis connected").len() as u64;
    assert!(connections <= 2 * (3 + started.elapsed().as_secs()), "{connections} {:?}", app.daemon.output());
    command(&world.redis, &["CONFIG", "SET", "maxclients", "100"]).await.unwrap();
    eventually("Redis takes the views", SOON, || async {
        app.batch("ann", &posts).await;
        app.metric("view_ingest_recorders_in_fallback").await == 0.0
    })
    .await;
    for post in &posts {
        assert_eq!(app.count(post).await, 41);
    }
}
