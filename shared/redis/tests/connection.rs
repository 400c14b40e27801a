//! What is found out about a Redis Cluster: every primary is looked at.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use fred::{
    clients::Client,
    interfaces::ClientLike,
    types::{ClusterHash, CustomCommand, config::Config},
};
use testkit::{SOON, eventually, redis::RedisServer};
use views_core::keys::Keys;
use views_redis::{Redis, config::RedisSettings, requirements::inspect};

async fn command(redis: &Client, words: &[&str]) {
    let command = CustomCommand::new(words[0].to_owned(), ClusterHash::FirstKey, false);
    let words: Vec<String> = words[1..].iter().map(|word| (*word).to_owned()).collect();
    let () = redis.custom(command, words).await.unwrap();
}

#[tokio::test]
async fn every_primary_of_a_cluster_is_looked_at() {
    let settings = [("cluster-enabled", "yes"), ("cluster-require-full-coverage", "no"), ("appendonly", "yes")];
    let first = RedisServer::start_with(&settings).await;
    let second = RedisServer::start_with(&[settings[0], settings[1], ("maxmemory-policy", "allkeys-lru")]).await;
    let (first_client, second_client) = (first.client().await, second.client().await);
    command(&first_client, &["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]).await;
    command(&second_client, &["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]).await;
    let [port, cluster_port] = [second.port(), second.cluster_port()].map(|port| port.to_string());
    command(&first_client, &["CLUSTER", "MEET", "127.0.0.1", &port, &cluster_port]).await;
    for client in [&first_client, &second_client] {
        eventually("the cluster is whole", SOON, async || {
            let slots = CustomCommand::new_static("CLUSTER", ClusterHash::FirstKey, false);
            let info: String = client.custom(slots, vec!["INFO"]).await.unwrap();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2")
        })
        .await;
    }

    let config = Config::from_url(&format!("redis-cluster://127.0.0.1:{}", first.port())).unwrap();
    let settings = RedisSettings { config, keys: Keys::default().in_cluster(), allow_eviction: false };
    let cluster = Redis::new(&settings, SOON).unwrap();
    cluster.connect_within(SOON).await.unwrap();
    let report = inspect(&cluster, false).await.unwrap();
    let second_name = format!("127.0.0.1:{}: ", second.port());
    let refusal = report.refusal.unwrap();
    assert!(refusal.starts_with(&second_name) && refusal.contains("allkeys-lru"), "{refusal}");
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    assert!(report.warnings[0].starts_with(&second_name) && report.warnings[0].contains("keeps nothing on disk"));

    assert_eq!(inspect(&cluster, true).await.unwrap().refusal, None);
    command(&second_client, &["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]).await;
    assert_eq!(inspect(&cluster, false).await.unwrap().refusal, None);
    assert_eq!(inspect(&cluster, false).await.unwrap().pause, None);
}
