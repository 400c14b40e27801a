//! Another server takes the place of the primary, and the connections to the old one stay open.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use testkit::{
    SOON, eventually,
    process::Daemon,
    proxy::Proxy,
    redis::RedisServer,
    sentinel::{ReplicatedRedis, SERVICE},
};

use crate::{
    redis_refuses::command,
    support::{Ingest, SECRET, World, on_free_ports},
};

/// How often, in seconds, a server that takes no writes is left for another one that may be in its place.
const LOOKS_EVERY: u64 = 5;

/// Demands that reconnections are few: a few for the start and the trouble, for each of two workers, and one now and then.
#[track_caller]
pub(crate) fn assert_few_connections(daemon: &Daemon, since: Instant) {
    let connections = daemon.lines_with("Redis connected").len() as u64;
    assert!(connections <= 2 * (6 + since.elapsed().as_secs() / LOOKS_EVERY), "{connections} {:?}", daemon.output());
}

/// A name or a proxy leads to the new primary only after the old one has become a replica.
#[tokio::test]
async fn a_primary_that_became_a_replica_is_left_for_the_new_one() {
    let started = Instant::now();
    let world = World::redis_alone().await;
    let new = RedisServer::start_with(&[("repl-diskless-sync-delay", "0")]).await;
    let proxy = Proxy::to_port(world.server.port()).await;
    let app = world.ingest_with(&[("REDIS_URL", &format!("redis://{}", proxy.address()))]).await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");

    command(&world.redis, &["REPLICAOF", "127.0.0.1", &new.port().to_string()]).await.unwrap();
    // This long everybody who connects anew still comes to the old one.
    app.daemon.wait_for_line("Redis takes no writes: it is a replica").await;
    assert_eq!(app.verdict("bob", "p").await, "503");
    proxy.redirect(new.port());
    eventually("the new primary takes views", SOON, || async { app.view("ann", "p").await.status == 200 }).await;
    assert_eq!(app.verdict("ann", "p").await, "duplicate 1");
    assert_few_connections(&app.daemon, started);
}

/// The sentinels have agreed on another primary, and cannot tell the old one, which goes on without replicas.
#[tokio::test]
async fn a_primary_that_its_replicas_have_left_is_left_for_the_new_one() {
    let started = Instant::now();
    let redis = ReplicatedRedis::start().await;
    let [old, new] = redis.servers();
    let program = on_free_ports().env("JWT_SECRET", SECRET).env("REDIS_URL", redis.url());
    let app = Ingest::start(program).await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");

    for sentinel in redis.sentinels() {
        command(&sentinel.client().await, &["SENTINEL", "REMOVE", SERVICE]).await.unwrap();
    }
    let (port, new) = (new.port().to_string(), new.client().await);
    command(&new, &["REPLICAOF", "NO", "ONE"]).await.unwrap();
    for sentinel in redis.sentinels() {
        command(&sentinel.client().await, &["SENTINEL", "MONITOR", SERVICE, "127.0.0.1", &port, "2"]).await.unwrap();
    }
    command(&old.client().await, &["CONFIG", "SET", "min-replicas-to-write", "1"]).await.unwrap();
    // The old one counts its replicas once a second, and may take a view until then.
    let viewers = AtomicUsize::new(0);
    eventually("the new primary takes views", SOON, || async {
        let viewer = format!("viewer-{}", viewers.fetch_add(1, Ordering::Relaxed));
        app.view(&viewer, "p").await;
        command(&new, &["SISMEMBER", "post:p:views", &viewer]).await.unwrap() == "1"
    })
    .await;
    assert_few_connections(&app.daemon, started);
}
