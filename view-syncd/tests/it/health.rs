//! `/readyz` and the metrics say what is in the way for as long as it is, and are well again only by what shows it.

use std::time::{Duration, Instant};

use fred::interfaces::{ClientLike, StreamsInterface};
use testkit::{
    eventually,
    http::Client,
    postgres::PostgresServer,
    posts::{IdType, PostsTable},
    process::Daemon,
    proxy::Proxy,
    redis::RedisServer,
};

use crate::support::World;

/// A few polls.
const SECONDS: Duration = Duration::from_secs(15);
/// How long it is watched that nothing changes.
const A_WHILE: Duration = Duration::from_secs(3);
const CLOSED: &str = "create or replace function closed() returns trigger language plpgsql as $$ begin
    raise exception 'closed for today'; end $$;
    create trigger closed before insert on post_views for each row execute function closed()";
const OPENED: &str = "drop function closed() cascade";

async fn daemon(world: &World) -> (Daemon, Client) {
    let daemon = world.daemon().env("SYNC_LINGER", "50ms").start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    // Until the outbox has been drained once it is not ready, which is none of the reasons that are looked for.
    becomes_ready(&client, SECONDS).await;
    (daemon, client)
}

/// Waits until it is not ready for a reason that says this, then watches that it stays so.
#[track_caller]
fn stays_unready<'a>(client: &'a Client, reason: &'a str) -> impl Future<Output = String> + 'a {
    let unready = move || async move {
        let answer = client.get("/readyz").await;
        if answer.status == 503 && answer.body.contains(reason) { Ok(answer.body) } else { Err(answer.body) }
    };
    let becomes = eventually("it is not ready", SECONDS, unready);
    async move {
        let mut body = becomes.await;
        let since = Instant::now();
        while since.elapsed() < A_WHILE {
            let answer = client.get("/readyz").await;
            assert_eq!(answer.status, 503, "after {:?} instead of {reason}: {}", since.elapsed(), answer.body);
            body = answer.body;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        body
    }
}

#[track_caller]
fn becomes_ready(client: &Client, limit: Duration) -> impl Future<Output = ()> + '_ {
    let ready = move || async move {
        let answer = client.get("/readyz").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.body) }
    };
    eventually("it is ready", limit, ready)
}

/// The age of the oldest entry: as `/readyz` says it, and as the metrics do.
async fn ages(client: &Client) -> (u64, f64) {
    let body = client.get("/readyz").await.body;
    let words: Vec<&str> = body.split(' ').collect();
    let place = words.windows(5).position(|words| words == ["the", "oldest", "entry", "of", "the"]);
    let said = place.and_then(|place| words[place + 7].parse().ok()).unwrap_or_else(|| panic!("no age in {body}"));
    (said, metric(client, "view_syncd_outbox_oldest_entry_age_seconds").await)
}

async fn metric(client: &Client, name: &str) -> f64 {
    let metrics = client.get("/metrics").await.body;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).parse().unwrap()
}

async fn own_postgres() -> (PostgresServer, World) {
    let postgres = PostgresServer::start().await;
    let database = postgres.database().await;
    let world = World::with_stores(RedisServer::start().await, database, PostsTable::with_ids(IdType::Bigint)).await;
    (postgres, world)
}

#[tokio::test]
async fn the_age_of_the_oldest_entry_grows_while_nothing_gets_on() {
    let world = World::new().await;
    world.post("7").await;
    let (_daemon, client) = daemon(&world).await;
    world.sql.batch_execute(CLOSED).await.unwrap();
    assert_eq!(metric(&client, "view_syncd_outbox_oldest_entry_age_seconds").await, 0.0);
    let sent = Instant::now();
    world.record("7", &["1"]).await;
    stays_unready(&client, "closed for today").await;
    for _ in 0..4 {
        world.record("7", &["2"]).await;
        let (said, measured) = ages(&client).await;
        let real = sent.elapsed().as_secs_f64();
        assert!((real - measured).abs() < 1.0 && (said as f64 - measured).abs() <= 1.1, "{said}, {measured}, {real}");
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    world.sql.batch_execute(OPENED).await.unwrap();
    becomes_ready(&client, SECONDS * 2).await;
    eventually("no age", SECONDS, async || metric(&client, "view_syncd_outbox_oldest_entry_age_seconds").await == 0.0).await;
}

#[tokio::test]
async fn an_empty_outbox_is_well_only_beside_stores_that_take_writes() {
    let world = World::new().await;
    world.post("7").await;
    let (daemon, client) = daemon(&world).await;
    world.sql.batch_execute(CLOSED).await.unwrap();
    world.record("7", &["1"]).await;
    stays_unready(&client, "closed for today").await;
    // Somebody empties the outbox.
    let () = world.redis.xtrim(world.keys.outbox(), ("MAXLEN", "=", 0, None)).await.unwrap();
    let body = stays_unready(&client, "closed for today").await;
    assert!(!body.contains("oldest entry"), "{body}");
    assert!(client.get("/metrics").await.body.contains("view_syncd_store_up{store=\"postgresql\"} 0"));
    daemon.signal("HUP");
    stays_unready(&client, "closed for today").await;
    world.sql.batch_execute(OPENED).await.unwrap();
    becomes_ready(&client, SECONDS * 2).await;
    assert!(client.get("/metrics").await.body.contains("view_syncd_store_up{store=\"postgresql\"} 1"));
}

#[tokio::test]
async fn a_start_beside_a_table_that_takes_nothing_is_never_ready() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    world.sql.batch_execute(CLOSED).await.unwrap();
    let daemon = world.daemon().env("SYNC_LINGER", "50ms").start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    let since = Instant::now();
    while since.elapsed() < A_WHILE {
        assert_eq!(client.get("/readyz").await.status, 503, "after {:?}", since.elapsed());
    }
    stays_unready(&client, "closed for today").await;
    world.sql.batch_execute(OPENED).await.unwrap();
    becomes_ready(&client, SECONDS * 2).await;
    assert_eq!(world.stored("7").await, 1);
}

#[tokio::test]
async fn a_table_that_is_opened_while_everything_waits_for_locks_is_not_well_yet() {
    let world = World::new().await;
    world.post("7").await;
    let (_daemon, client) = daemon(&world).await;
    world.sql.batch_execute(CLOSED).await.unwrap();
    world.record("7", &["1"]).await;
    stays_unready(&client, "closed for today").await;
    let application = world.database.client().await;
    application.batch_execute("begin; select from posts where id = 7 for update").await.unwrap();
    world.sql.batch_execute(OPENED).await.unwrap();
    stays_unready(&client, "lock").await;
    application.batch_execute("commit").await.unwrap();
    becomes_ready(&client, SECONDS).await;
    assert_eq!(world.stored("7").await, 1);
}

#[tokio::test]
async fn a_batch_that_waits_for_company_makes_nothing_well() {
    let (postgres, world) = own_postgres().await;
    world.post("7").await;
    let daemon = world.daemon().env("SYNC_LINGER", "1h").start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    becomes_ready(&client, SECONDS).await;
    postgres.pause();
    world.record("7", &["1"]).await;
    daemon.signal("HUP");
    // Until a statement's deadline has passed, nobody knows.
    eventually("it is not ready", Duration::from_secs(50), async || client.get("/readyz").await.status == 503).await;
    let body = stays_unready(&client, "PostgreSQL is away").await;
    assert!(body.contains("oldest entry"), "{body}");
    postgres.resume();
    becomes_ready(&client, Duration::from_secs(30)).await;
    // Until the server has noticed that the session is gone which decided who leads, this one is a standby, which is
    // ready too.
    let acknowledged = async || world.outbox_length().await == 0;
    eventually("the view is stored and acknowledged", Duration::from_secs(30), acknowledged).await;
    assert_eq!(world.stored("7").await, 1);
}

#[tokio::test]
async fn a_redis_that_takes_no_writes_is_not_well() {
    let world = World::new().await;
    world.post("7").await;
    let (_daemon, client) = daemon(&world).await;
    let set = |name: &'static str, value: &'static str| {
        let command = fred::types::CustomCommand::new_static("CONFIG", fred::types::ClusterHash::FirstKey, false);
        let redis = &world.redis;
        async move { redis.custom::<(), _>(command, vec!["SET", name, value]).await.unwrap() }
    };
    world.record("7", &["1"]).await;
    eventually("the view is stored", SECONDS, async || world.outbox_length().await == 0).await;
    world.record("7", &["2"]).await;
    set("min-replicas-to-write", "3").await;
    stays_unready(&client, "Redis").await;
    set("min-replicas-to-write", "0").await;
    becomes_ready(&client, SECONDS * 2).await;
    eventually("the view is stored", SECONDS, async || world.outbox_length().await == 0).await;
    world.assert_views("7", 2).await;
}

#[tokio::test]
async fn losses_of_connections_that_heal_at_once_are_no_matter_and_others_are_told() {
    let (postgres, world) = own_postgres().await;
    let proxy = Proxy::to_port(postgres.port()).await;
    world.post("7").await;
    let url = world.database.url().replace(&postgres.port().to_string(), &proxy.port().to_string());
    let daemon = world.daemon().env("DATABASE_URL", url).env("SYNC_LINGER", "50ms").start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    world.record("7", &["1"]).await;
    eventually("the view is stored", SECONDS, async || world.outbox_length().await == 0).await;
    proxy.break_networking().await;
    world.record("7", &["2"]).await;
    let body = stays_unready(&client, "PostgreSQL is away").await;
    assert!(body.contains("oldest entry") && body.contains("onnect"), "it says why: {body}");
    proxy.restore().await;
    becomes_ready(&client, SECONDS * 2).await;
    world.assert_views("7", 2).await;
}

#[tokio::test]
async fn a_standby_is_ready_only_beside_stores_that_take_writes() {
    let (postgres, world) = own_postgres().await;
    world.post("7").await;
    let (_leader, _) = daemon(&world).await;
    let standby = world.daemon().start();
    standby.wait_for_line("another view-syncd leads").await;
    let client = Client::new(standby.wait_for_listening("admin").await);
    becomes_ready(&client, SECONDS).await;
    postgres.stop().await;
    stays_unready(&client, "PostgreSQL is away").await;
    postgres.restart().await;
    world.database.client().await.batch_execute(CLOSED).await.unwrap();
    becomes_unready_or_leads(&standby, &client).await;
    world.database.client().await.batch_execute(OPENED).await.unwrap();
    becomes_ready(&client, Duration::from_secs(20)).await;
}

/// Who was away comes back beside a table that takes nothing.
async fn becomes_unready_or_leads(standby: &Daemon, client: &Client) {
    stays_unready(client, "").await;
    assert!(standby.is_running());
}

#[tokio::test]
async fn a_statement_that_takes_very_long_is_told() {
    let world = World::new().await;
    world.post("7").await;
    let (_daemon, client) = daemon(&world).await;
    world
        .sql
        .batch_execute(&CLOSED.replace("raise exception 'closed for today'", "perform pg_sleep(18); return new"))
        .await
        .unwrap();
    world.record("7", &["1"]).await;
    let unready = async || {
        let answer = client.get("/readyz").await;
        if answer.status == 503 { Ok(answer.body) } else { Err(answer.body) }
    };
    let body = eventually("it is not ready", SECONDS * 3, unready).await;
    assert!(body.contains("for one step") && body.contains("oldest entry"), "{body}");
    becomes_ready(&client, SECONDS * 3).await;
    eventually("it is acknowledged", SECONDS, async || world.outbox_length().await == 0).await;
    world.assert_views("7", 1).await;
}
