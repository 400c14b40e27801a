//! What Redis and PostgreSQL must be: refused at the start, told while the daemon runs.

use fred::{
    interfaces::ClientLike,
    types::{ClusterHash, CustomCommand},
};
use testkit::{SOON, eventually, http::Client, process::DaemonBuilder, proxy::Proxy, redis::RedisServer};

use crate::support::World;

/// Demands that the program ends with the status of a wrong set-up, and says something once.
async fn assert_refused(program: DaemonBuilder, text: &str) {
    let daemon = program.start();
    assert_eq!(daemon.wait_exit().await.code(), Some(78), "{:?}", daemon.output());
    assert_eq!(daemon.lines_with(text).len(), 1, "{:?}", daemon.output());
}

async fn metric(client: &Client, name: &str) -> Option<String> {
    let metrics = client.get("/metrics").await.body;
    metrics.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned()))
}

/// A server with a user who may do everything but what is named, and the URL of that user.
async fn forbidding(commands: &str) -> (RedisServer, String) {
    let server = RedisServer::start_with(&[("user", &format!("limited on >secret ~* &* +@all {commands}"))]).await;
    let url = server.url().replace("redis://", "redis://limited:secret@");
    (server, url)
}

#[tokio::test]
async fn a_redis_that_is_too_old_is_refused_with_what_to_do() {
    let world = World::new().await;
    let proxy = Proxy::to_port(world.server.port()).await;
    let info: String = world.redis.info(None).await.unwrap();
    let version = info.lines().find(|line| line.starts_with("redis_version:")).unwrap().to_owned();
    let old = "redis_version:5.0.999999"[..version.len()].to_owned();
    proxy.disguise(version.leak(), old.leak());
    for program in [world.daemon(), world.command("sync")] {
        let program = program.env("REDIS_URL", format!("redis://{}", proxy.address()));
        assert_refused(program, "is too old: 7.0 or later is needed, or any Valkey. Upgrade the server").await;
    }
}

#[tokio::test]
async fn a_redis_in_cluster_mode_is_refused_with_what_to_do() {
    let world = World::with_redis(RedisServer::start_with(&[("cluster-enabled", "yes")]).await).await;
    let line = "Redis is in cluster mode (cluster-enabled yes), where a view cannot be acknowledged in one step: give the address of \
        a server without it";
    for slots in [false, true] {
        if slots {
            let cluster = CustomCommand::new_static("CLUSTER", ClusterHash::FirstKey, false);
            let () = world.redis.custom(cluster, vec!["ADDSLOTSRANGE", "0", "16383"]).await.unwrap();
        }
        for program in [world.daemon(), world.command("sync"), world.command("claim")] {
            assert_refused(program, line).await;
        }
    }
}

/// It answers all that reads the outbox, and refuses what acknowledges: the views would be stored anew each second.
#[tokio::test]
async fn a_redis_that_comes_back_in_cluster_mode_is_not_drained() {
    let world = World::with_redis(RedisServer::start().await).await;
    world.post("7").await;
    let daemon = world.daemon().env("SYNC_LINGER", "10ms").start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    let config = world.server.folder().join("redis.conf");
    let lines = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{lines}cluster-enabled yes\n")).unwrap();
    world.server.restart().await;
    daemon.wait_for_line("Redis is in cluster mode").await;
    eventually("the gauge tells", SOON, async || metric(&client, "view_syncd_redis_unfit").await.as_deref() == Some("1")).await;
    let cluster = CustomCommand::new_static("CLUSTER", ClusterHash::FirstKey, false);
    let add_slots = async || world.redis.custom::<(), _>(cluster.clone(), vec!["ADDSLOTSRANGE", "0", "16383"]).await;
    eventually("the node has all slots", SOON, add_slots).await;
    eventually("the node takes views", SOON, async || {
        let fields = vec![("7", "1")];
        fred::interfaces::StreamsInterface::xadd::<String, _, _, _, _>(&world.redis, "views:outbox", false, None, "*", fields)
            .await
    })
    .await;
    eventually("it is not ready", SOON, async || client.get("/readyz").await.status == 503).await;
    let before = daemon.lines_with("it is in cluster mode").len();
    daemon.wait_for_nth_line(before + 2, "it is in cluster mode").await;
    assert_eq!((world.outbox_length().await, world.stored("7").await), (1, 0));

    std::fs::write(&config, lines).unwrap();
    world.server.restart().await;
    eventually("it is ready", SOON, async || client.get("/readyz").await.status == 200).await;
}

#[tokio::test]
async fn a_redis_without_persistence_is_told_of_once() {
    let world = World::new().await;
    let daemon = world.patient_daemon().await;
    assert_eq!(daemon.lines_with("Redis keeps nothing on disk").len(), 1, "{:?}", daemon.output());
    for persistence in [("appendonly", "yes"), ("save", "3600 1")] {
        let world = World::with_redis(RedisServer::start_with(&[persistence]).await).await;
        let daemon = world.patient_daemon().await;
        assert_eq!(daemon.lines_with("keeps nothing").len(), 0, "{:?}", daemon.output());
    }
}

#[tokio::test]
async fn a_redis_that_forbids_config_is_judged_by_info() {
    let (server, url) = forbidding("-config").await;
    let world = World::with_redis(server).await;
    let daemon = world.daemon().env("REDIS_URL", &url).start();
    daemon.wait_for_line("Sync completed").await;
    assert_eq!(daemon.lines_with("appendonly no, and no snapshot since its start").len(), 1, "{:?}", daemon.output());
    let config = CustomCommand::new_static("CONFIG", ClusterHash::FirstKey, false);
    let () = world.redis.custom(config, vec!["SET", "maxmemory-policy", "allkeys-random"]).await.unwrap();
    assert_refused(world.daemon().env("REDIS_URL", &url), "maxmemory-policy allkeys-random").await;
}

#[tokio::test]
async fn a_redis_that_forbids_info_is_used_unchecked() {
    let (server, url) = forbidding("-config -info").await;
    let world = World::with_redis(server).await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    let daemon = world.daemon().env("REDIS_URL", &url).start();
    daemon.wait_for_line("Sync completed: 1 successful, 0 errors").await;
    assert_eq!(daemon.lines_with("INFO is forbidden").len(), 1, "{:?}", daemon.output());
}

/// Where the views are is the worst place to leave them.
#[tokio::test]
async fn a_redis_that_turns_unfit_while_the_daemon_runs_is_told_of_and_drained() {
    let server = RedisServer::start_with(&[("appendonly", "yes")]).await;
    let world = World::with_redis(server).await;
    world.post("7").await;
    let daemon = world.daemon().env("SYNC_LINGER", "10ms").start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    assert_eq!(metric(&client, "view_syncd_redis_unfit").await.as_deref(), Some("0"));
    let config = world.server.folder().join("redis.conf");
    let lines = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{lines}maxmemory-policy allkeys-lru\n")).unwrap();
    world.server.restart().await;
    daemon.wait_for_line("maxmemory-policy allkeys-lru").await;
    eventually("the gauge tells", SOON, async || metric(&client, "view_syncd_redis_unfit").await.as_deref() == Some("1")).await;
    eventually("the test's own client is back", SOON, async || world.redis.is_connected()).await;
    world.record("7", &["1", "2"]).await;
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    world.assert_views("7", 2).await;
    // Mended over the connection that there is.
    let config = CustomCommand::new_static("CONFIG", ClusterHash::FirstKey, false);
    let _: fred::types::Value = world.redis.custom(config, vec!["SET", "maxmemory-policy", "noeviction"]).await.unwrap();
    eventually("the gauge tells", SOON, async || metric(&client, "view_syncd_redis_unfit").await.as_deref() == Some("0")).await;
}

#[tokio::test]
async fn a_posts_table_that_is_not_as_named_is_told_with_the_setting() {
    let world = World::new().await;
    for (setting, value, text) in [
        ("POSTS_TABLE", "articles", "there is no table \"articles\": create it, or name the table of posts with --posts-table"),
        ("POST_ID_COLUMN", "key", "has no column key: name it with --post-id-column (POST_ID_COLUMN)"),
        ("AUTHOR_COLUMN", "writer", "has no column writer: name it with --author-column (AUTHOR_COLUMN)"),
        ("COUNT_COLUMN", "hits", "has no column hits: name it with --count-column (COUNT_COLUMN)"),
    ] {
        assert_refused(world.daemon().env(setting, value), text).await;
    }
}
