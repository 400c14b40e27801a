//! A store that answers and takes no writes: nothing is lost to it, and everything goes on by itself afterwards.

use fred::{
    interfaces::ClientLike,
    types::{ClusterHash, CustomCommand, InfoKind},
};
use testkit::{
    SOON, eventually,
    http::Client,
    postgres::PostgresServer,
    posts::{IdType, PostsTable, ledger_count},
    process::Daemon,
    proxy::Proxy,
    redis::RedisServer,
};

use crate::support::World;

async fn world_of(server: &PostgresServer) -> World {
    World::with_stores(RedisServer::start().await, server.database().await, PostsTable::with_ids(IdType::Bigint)).await
}

async fn command(world: &World, words: &[&str]) {
    let command = CustomCommand::new(words[0].to_owned(), ClusterHash::FirstKey, false);
    let () =
        world.redis.custom(command, words[1..].iter().map(|word| (*word).to_owned()).collect::<Vec<String>>()).await.unwrap();
}

/// The daemon with its operators' client, done with its first cycle.
async fn daemon(world: &World, url: &str) -> (Daemon, Client) {
    let daemon = world.daemon().env("DATABASE_URL", url).env("SYNC_LINGER", "10ms").start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    daemon.wait_for_line("this view-syncd leads").await;
    (daemon, client)
}

async fn becomes(client: &Client, status: u16, text: &str) {
    eventually("/readyz tells", SOON, async || {
        let answer = client.get("/readyz").await;
        (answer.status == status && answer.body.contains(text)).then_some(()).ok_or(answer.body)
    })
    .await;
}

/// Waits until the drain has failed so often.
async fn has_failed(client: &Client, times: u32) {
    eventually("the drain fails", SOON, async || {
        let metrics = client.get("/metrics").await.body;
        let failures = metrics.lines().find_map(|line| line.strip_prefix("view_syncd_drain_failures_total "));
        failures.and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| number >= times)
    })
    .await;
}

/// Demands that two views wait in the outbox, however often the daemon tries.
async fn assert_kept(world: &World, daemon: &Daemon, client: &Client) {
    has_failed(client, 3).await;
    daemon.wait_for_line("read-only").await;
    becomes(client, 503, "PostgreSQL is away").await;
    assert_eq!(world.outbox_length().await, 1);
    assert_eq!(ledger_count(&world.sql, "7").await, 0);
    assert_eq!(world.meta("7").await, [0, 2, 0]);
}

async fn assert_drained(world: &World, daemon: &Daemon, client: &Client) {
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    becomes(client, 200, "leader").await;
    world.assert_views("7", 2).await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit().await.code(), Some(0), "{:?}", daemon.output());
}

#[tokio::test]
async fn a_server_that_was_made_read_only_leaves_all_in_the_outbox_until_that_is_over() {
    let server = PostgresServer::start().await;
    let world = world_of(&server).await;
    world.post("7").await;
    let (daemon, client) = daemon(&world, &world.database.url()).await;
    let admin = server.client().await;
    admin.batch_execute("alter system set default_transaction_read_only = on").await.unwrap();
    admin.batch_execute("select pg_reload_conf()").await.unwrap();
    world.record("7", &["1", "2"]).await;
    assert_kept(&world, &daemon, &client).await;

    admin.batch_execute("set default_transaction_read_only = off").await.unwrap();
    admin.batch_execute("alter system reset default_transaction_read_only").await.unwrap();
    admin.batch_execute("select pg_reload_conf()").await.unwrap();
    assert_drained(&world, &daemon, &client).await;
}

/// Sessions keep what the database's setting was when they began, so those of the wrong time have to go.
#[tokio::test]
async fn sessions_from_a_read_only_time_are_not_kept() {
    let server = PostgresServer::start().await;
    let world = world_of(&server).await;
    world.post("7").await;
    let (daemon, client) = daemon(&world, &world.database.url()).await;
    let name = world.database.name();
    let admin = server.client().await;
    admin.batch_execute(&format!("alter database {name} set default_transaction_read_only = on")).await.unwrap();
    let others = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and application_name <> 'kit'";
    world.sql.batch_execute("set application_name = 'kit'").await.unwrap();
    admin.execute(others, &[&name]).await.unwrap();
    world.record("7", &["1", "2"]).await;
    assert_kept(&world, &daemon, &client).await;

    admin.batch_execute(&format!("alter database {name} reset default_transaction_read_only")).await.unwrap();
    assert_drained(&world, &daemon, &client).await;
}

#[tokio::test]
async fn a_standby_is_not_drained_into_and_connections_to_it_are_not_kept() {
    let primary = PostgresServer::start().await;
    let world = world_of(&primary).await;
    world.post("7").await;
    let standby = primary.standby().await;
    let proxy = Proxy::to_port(primary.port()).await;
    let url = world.database.url().replace(&format!(":{}/", primary.port()), &format!(":{}/", proxy.port()));
    let (daemon, client) = daemon(&world, &url).await;
    proxy.redirect(standby.port());
    proxy.break_networking().await;
    proxy.restore().await;
    world.record("7", &["1", "2"]).await;
    assert_kept(&world, &daemon, &client).await;

    // The old connections lead to a server that still answers.
    proxy.redirect(primary.port());
    assert_drained(&world, &daemon, &client).await;
    drop(standby);
}

/// A standby that lags behind knows nothing of the youngest posts, which is no reason to throw their views away.
#[tokio::test]
async fn a_standby_is_not_believed_that_posts_are_gone() {
    let primary = PostgresServer::start().await;
    let world = world_of(&primary).await;
    let standby = primary.standby().await;
    let database = standby.client().await;
    database.batch_execute("select pg_wal_replay_pause()").await.unwrap();
    world.post("7").await;
    world.add_by_hand("7", &["1", "2"]).await;
    let proxy = Proxy::to_port(primary.port()).await;
    let url = world.database.url().replace(&format!(":{}/", primary.port()), &format!(":{}/", proxy.port()));
    world.posts.insert_post(&world.sql, "8", "999999").await;
    let (daemon, client) = daemon(&world, &url).await;
    eventually("the set is united with the ledger", SOON, async || ledger_count(&world.sql, "7").await == 2).await;
    world.add_by_hand("7", &["3"]).await;
    proxy.redirect(standby.port());
    proxy.break_networking().await;
    proxy.restore().await;
    becomes(&client, 503, "PostgreSQL is away").await;
    for round in 1..=2 {
        daemon.signal("HUP");
        daemon.wait_for_nth_line(round, "Sync failed").await;
    }
    assert!(world.exists("post:7:views".to_owned()).await);

    proxy.redirect(primary.port());
    becomes(&client, 200, "leader").await;
    daemon.signal("HUP");
    eventually("the set is united with the ledger", SOON, async || ledger_count(&world.sql, "7").await == 3).await;
    drop(standby);
}

#[tokio::test]
async fn a_redis_that_is_a_replica_is_drained_again_when_it_is_none_any_more() {
    let world = World::new().await;
    world.post("7").await;
    let (daemon, client) = daemon(&world, &world.database.url()).await;
    command(&world, &["REPLICAOF", "127.0.0.1", "1"]).await;
    // What a replica holds can be stored, and not be acknowledged, but for the moment in which it takes writes.
    daemon.signal("STOP");
    command(&world, &["CONFIG", "SET", "replica-read-only", "no"]).await;
    world.record("7", &["1", "2"]).await;
    command(&world, &["CONFIG", "SET", "replica-read-only", "yes"]).await;
    daemon.signal("CONT");
    daemon.wait_for_line("it is a replica").await;
    becomes(&client, 503, "Redis is away").await;
    has_failed(&client, 3).await;
    assert_eq!(world.outbox_length().await, 1);

    command(&world, &["REPLICAOF", "NO", "ONE"]).await;
    assert_drained(&world, &daemon, &client).await;
}

#[tokio::test]
async fn a_redis_that_loads_its_data_is_waited_for() {
    let settings = [("key-load-delay", "4000"), ("loading-process-events-interval-bytes", "1024")];
    // With a password, connections succeed while the server is loading.
    let server = RedisServer::builder().settings(&settings).password("a-password").start().await;
    let world = World::with_redis(server).await;
    world.post("7").await;
    command(&world, &["DEBUG", "POPULATE", "15000", "stone", "20"]).await;
    let daemon = world.daemon().env("SYNC_LINGER", "1h").start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    world.record("7", &["1", "2"]).await;
    command(&world, &["SAVE"]).await;
    world.server.begin_restart().await;
    daemon.wait_for_line("Redis takes no writes: it is loading its data").await;
    becomes(&client, 503, "Redis is away").await;

    let mut config = fred::types::config::Config::from_url(&world.server.plain_url()).unwrap();
    config.version = fred::types::RespVersion::RESP3;
    let impatient = fred::clients::Client::new(config, None, None, None);
    impatient.init().await.unwrap();
    let info: String = impatient.info(Some(InfoKind::Persistence)).await.unwrap();
    assert!(info.contains("\nloading:1"), "the loading was to last for the whole test");
    let set = CustomCommand::new_static("CONFIG", ClusterHash::FirstKey, false);
    let () = impatient.custom(set, vec!["SET", "key-load-delay", "0"]).await.unwrap();
    daemon.wait_for_line("Redis takes writes again").await;
    becomes(&client, 200, "leader").await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit().await.code(), Some(0), "{:?}", daemon.output());
    eventually("the test's own client is back", SOON, async || world.redis.is_connected()).await;
    world.assert_views("7", 2).await;
}
