//! What Redis must be: refused at the start, told while the process runs.

use fred::{
    interfaces::ClientLike,
    types::{ClusterHash, CustomCommand},
};
use testkit::{
    SOON, eventually,
    posts::{IdType, PostsTable, ledger_count},
    process::DaemonBuilder,
    proxy::Proxy,
    redis::RedisServer,
};

use crate::support::{Ingest, World};

const EVICTING: [(&str, &str); 2] = [("maxmemory", "64mb"), ("maxmemory-policy", "allkeys-lru")];
const UNFIT: &str = "view_ingest_redis_unfit";

/// Demands that the program ends with the status of a wrong set-up, and says something once.
async fn assert_refused(program: DaemonBuilder, text: &str) {
    let daemon = program.start();
    assert_eq!(daemon.wait_exit().await.code(), Some(78), "{:?}", daemon.output());
    assert_eq!(daemon.lines_with(text).len(), 1, "{:?}", daemon.output());
    assert_eq!(daemon.lines_with("view-ingest started").len(), 0, "{:?}", daemon.output());
}

async fn set_policy(world: &World, policy: &str) {
    let config = CustomCommand::new_static("CONFIG", ClusterHash::FirstKey, false);
    let set = || world.redis.custom::<(), _>(config.clone(), vec!["SET", "maxmemory-policy", policy]);
    eventually("the policy is set", SOON, set).await;
}

/// A server with a user who may do everything but what is named, and the URL of that user.
async fn forbidding(commands: &str) -> (RedisServer, String) {
    let server = RedisServer::start_with(&[("user", &format!("limited on >secret ~* &* +@all {commands}"))]).await;
    let url = server.url().replace("redis://", "redis://limited:secret@");
    (server, url)
}

#[tokio::test]
async fn a_redis_that_may_evict_views_is_refused_unless_allowed() {
    for world in [
        World::with_redis(RedisServer::start_with(&EVICTING).await).await,
        World::with_stores(
            RedisServer::start_with(&EVICTING).await,
            testkit::postgres::shared().await.database().await,
            PostsTable::with_ids(IdType::Text),
        )
        .await,
    ] {
        assert_refused(
            world.program(),
            "may evict views that are not in PostgreSQL yet (maxmemory-policy allkeys-lru): set it to",
        )
        .await;
        let app = world.ingest_with(&[("ALLOW_EVICTION", "true")]).await;
        assert_eq!(app.metric(UNFIT).await, 0.0);
        assert_eq!(app.admin.get("/readyz").await.status, 200);
    }
}

#[tokio::test]
async fn a_redis_that_is_too_old_is_refused_with_what_to_do() {
    let world = World::redis_alone().await;
    let proxy = disguised(&world).await;
    let program = world.program().env("REDIS_URL", format!("redis://{}", proxy.address()));
    assert_refused(program, "Redis 6.2.99 is too old: 7.0 or later is needed, or any Valkey. Upgrade the server").await;
}

/// The server, as if it were of an older version.
async fn disguised(world: &World) -> Proxy {
    let proxy = Proxy::to_port(world.server.port()).await;
    let info: String = world.redis.info(None).await.unwrap();
    let version = info.lines().find(|line| line.starts_with("redis_version:")).unwrap().to_owned();
    let old = "redis_version:6.2.999999"[..version.len()].to_owned();
    proxy.disguise(version.leak(), old.leak());
    proxy
}

#[tokio::test]
async fn a_redis_in_cluster_mode_is_refused_with_what_to_do() {
    let server = RedisServer::start_with(&[("cluster-enabled", "yes")]).await;
    let world = World::with_redis(server).await;
    let line = "Redis is in cluster mode (cluster-enabled yes), where a view cannot be acknowledged in one step: give the address of \
        a server without it";
    assert_refused(world.program(), line).await;
    // With slots of its own it would even take some of the views, which nobody could acknowledge.
    let cluster = CustomCommand::new_static("CLUSTER", ClusterHash::FirstKey, false);
    let () = world.redis.custom(cluster, vec!["ADDSLOTSRANGE", "0", "16383"]).await.unwrap();
    assert_refused(world.program(), line).await;
    assert_refused(world.program().env("ALLOW_EVICTION", "true"), line).await;
}

#[tokio::test]
async fn a_redis_that_comes_back_in_cluster_mode_is_passed_by() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    let config = world.server.folder().join("redis.conf");
    let lines = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{lines}cluster-enabled yes\n")).unwrap();
    world.server.restart().await;
    app.daemon.wait_for_line("Redis is in cluster mode").await;
    eventually("it is told", SOON, || async { app.metric(UNFIT).await == 1.0 }).await;
    eventually("PostgreSQL takes views", SOON, || async { app.verdict("bob", "p").await.ends_with(" 1") }).await;
    assert_eq!(ledger_count(world.sql(), "p").await, 1);

    std::fs::write(&config, lines).unwrap();
    world.server.restart().await;
    app.daemon.wait_for_line("Redis is now as it is needed").await;
    app.daemon.wait_for_line("Redis takes the views again").await;
}

#[tokio::test]
async fn a_redis_without_persistence_is_told_of_once() {
    let line = "Redis keeps nothing on disk (appendonly no, and no save points)";
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    app.daemon.wait_for_line(line).await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    assert_eq!(app.daemon.lines_with(line).len(), 1, "{:?}", app.daemon.output());
    for persistence in [("appendonly", "yes"), ("save", "3600 1")] {
        let world = World::with_redis(RedisServer::start_with(&[persistence]).await).await;
        let app = world.ingest().await;
        assert_eq!(app.verdict("ann", "p").await, "counted 1");
        assert_eq!(app.daemon.lines_with("keeps nothing").len(), 0, "{:?}", app.daemon.output());
    }
}

#[tokio::test]
async fn a_redis_that_forbids_config_is_judged_by_info() {
    let (server, url) = forbidding("-config").await;
    let world = World::with_redis(server).await;
    let app = world.ingest_with(&[("REDIS_URL", &url)]).await;
    app.daemon.wait_for_line("Redis keeps nothing on disk (appendonly no, and no snapshot since its start)").await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    set_policy(&world, "allkeys-random").await;
    assert_refused(world.program().env("REDIS_URL", &url), "maxmemory-policy allkeys-random").await;
}

#[tokio::test]
async fn a_redis_that_forbids_info_is_used_unchecked() {
    let (server, url) = forbidding("-config -info").await;
    let world = World::with_redis(server).await;
    let app = world.ingest_with(&[("REDIS_URL", &url)]).await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    assert_eq!(app.verdict("ann", "p").await, "duplicate 1");
    assert_eq!(app.daemon.lines_with("INFO is forbidden").len(), 1, "{:?}", app.daemon.output());
    assert_eq!(app.metric(UNFIT).await, 0.0);
}

#[tokio::test]
async fn a_redis_that_turns_unfit_while_the_process_runs_is_passed_by_until_it_is_mended() {
    let world = World::new().await;
    world.post("p").await;
    world.server.stop().await;
    // Away at the start, so that nothing can be checked then.
    let app = Ingest::start_without_redis(world.program()).await;
    let config = world.server.folder().join("redis.conf");
    let lines = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{lines}maxmemory-policy allkeys-lfu\n")).unwrap();
    world.server.restart().await;
    app.daemon.wait_for_line("maxmemory-policy allkeys-lfu").await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    assert_eq!(app.verdict("ann", "p").await, "duplicate 1");
    assert_eq!(ledger_count(world.sql(), "p").await, 1);
    assert_eq!(app.metric(UNFIT).await, 1.0);
    assert!(app.metric("view_ingest_recorders_in_fallback").await > 0.0);
    eventually("it is ready", SOON, || async { app.admin.get("/readyz").await.status == 200 }).await;

    set_policy(&world, "noeviction").await;
    app.daemon.wait_for_line("Redis is now as it is needed").await;
    app.daemon.wait_for_line("Redis takes the views again").await;
    assert_eq!(app.metric(UNFIT).await, 0.0);
    assert_eq!(app.verdict("ann", "p").await, "duplicate 1");
    assert_eq!(app.verdict("bob", "p").await, "counted 2");
    assert_eq!(world.outbox().await, [("p".to_owned(), "bob".to_owned())]);
    assert_eq!(app.daemon.lines_with("allkeys-lfu").len(), 1, "{:?}", app.daemon.output());
}

#[tokio::test]
async fn without_a_database_a_redis_that_turns_unfit_is_better_than_none() {
    let world = World::redis_alone().await;
    world.server.stop().await;
    let app = Ingest::start_without_redis(world.program()).await;
    let config = world.server.folder().join("redis.conf");
    let lines = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{lines}maxmemory-policy allkeys-lru\n")).unwrap();
    world.server.restart().await;
    app.daemon.wait_for_line("maxmemory-policy allkeys-lru").await;
    eventually("views are taken", SOON, || async { app.view("ann", "p").await.status == 200 }).await;
    assert_eq!(app.metric(UNFIT).await, 1.0);
}
