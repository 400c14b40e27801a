//! The replicated Redis and its sentinels.

use fred::prelude::KeysInterface;
use testkit::sentinel::ReplicatedRedis;
use testkit::{SOON, eventually};

#[tokio::test]
async fn the_replica_takes_the_place_of_a_dead_primary_which_comes_back_as_a_replica() {
    let redis = ReplicatedRedis::builder().password("sesame").sentinel_password("open").start().await;
    let old = redis.primary().await;
    let () = old.client().await.set("key", "value", None, None, false).await.unwrap();
    let replica = redis.servers()[1].client().await;
    eventually("the key is replicated", SOON, async || replica.get::<Option<String>, _>("key").await.unwrap()).await;

    old.kill().await;
    let new = redis.primary_after(old).await;
    assert_ne!(new.port(), old.port());
    assert_eq!(new.client().await.get::<String, _>("key").await.unwrap(), "value");

    old.restart().await;
    redis.becomes_replica(old).await;
}

#[tokio::test]
async fn a_failover_can_be_asked_for() {
    let redis = ReplicatedRedis::start().await;
    let old = redis.primary().await;
    let new = redis.fail_over().await;
    assert_ne!(new.port(), old.port());
    redis.becomes_replica(old).await;
    assert_eq!(redis.primary().await.port(), new.port());
}
