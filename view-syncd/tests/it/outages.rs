use std::time::Duration;

use serde_json::json;
use testkit::{
    SOON, eventually,
    http::Client,
    postgres::PostgresServer,
    posts::{IdType, PostsTable},
    process::Daemon,
    proxy::Proxy,
    redis::RedisServer,
    tokens,
};
use view_syncd::{drain::Urgency, error::Failure};

use crate::support::{SECRET, World};

/// A world whose PostgreSQL belongs to the test, which may break it.
async fn breakable() -> (PostgresServer, World) {
    let postgres = PostgresServer::start().await;
    let database = postgres.database().await;
    let world = World::with_stores(RedisServer::start().await, database, PostsTable::with_ids(IdType::Bigint)).await;
    (postgres, world)
}

async fn ready(client: &Client) -> (u16, String) {
    let answer = client.get("/readyz").await;
    (answer.status, answer.body)
}

async fn outbox_becomes_empty(world: &World) {
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
}

#[tokio::test]
async fn nothing_leaves_the_outbox_before_postgresql_has_it() {
    let (postgres, world) = breakable().await;
    world.post("7").await;
    let mut synchronizer = world.synchronizer(&[]).await;
    world.record("7", &["1", "2"]).await;
    world.record("7", &["not-a-number"]).await;
    postgres.stop().await;
    for _ in 0..3 {
        let failure = synchronizer.drain(Urgency::AtOnce).await.unwrap_err();
        assert!(matches!(failure, Failure::Database(_)), "{failure}");
    }
    assert_eq!(world.outbox_length().await, 2);
    assert_eq!(world.meta("7").await, [0, 3, 0]);
    assert_eq!(world.dead().await.len(), 0);
    assert!(synchronizer.cycle().await.is_err());

    postgres.restart().await;
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    assert_eq!(world.meta("7").await, [2, 3, 3]);
    assert_eq!(world.outbox_length().await, 0);
}

#[tokio::test]
async fn the_daemon_waits_for_postgresql_and_goes_on_when_it_is_back() {
    let (postgres, world) = breakable().await;
    world.post("7").await;
    let daemon = world.daemon().env("SYNC_LINGER", "50ms").start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    postgres.stop().await;
    world.record("7", &["1", "2"]).await;
    daemon.wait_for_line("the outbox cannot be drained").await;
    let (status, body) = ready(&client).await;
    assert!(status == 503 && body.contains("PostgreSQL is away"), "{status} {body}");
    assert_eq!(client.get("/livez").await.status, 200);
    let answer = client.post_json("/posts/sync-views", Some(&tokens::admin(SECRET, "1")), &json!({})).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert_eq!(world.outbox_length().await, 1);

    postgres.restart().await;
    outbox_becomes_empty(&world).await;
    eventually("it is ready again", SOON, async || ready(&client).await.0 == 200).await;
}

#[tokio::test]
async fn the_daemon_starts_before_its_stores() {
    let (postgres, world) = breakable().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    postgres.stop().await;
    let daemon = world.daemon().start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("waiting: PostgreSQL is not available").await;
    let (status, body) = ready(&client).await;
    assert!(status == 503 && body.contains("starting"), "{status} {body}");
    let answer = client.post_json("/posts/sync-views", Some(&tokens::admin(SECRET, "1")), &json!({})).await;
    assert_eq!(answer.status, 503, "nobody waits for a start");

    postgres.restart().await;
    daemon.wait_for_line("Sync completed: 1 successful, 0 errors").await;
    assert_eq!(ready(&client).await.0, 200);
}

#[tokio::test]
async fn a_stop_without_postgresql_names_what_is_left() {
    let (postgres, world) = breakable().await;
    world.post("7").await;
    let daemon = world.daemon().env("SYNC_LINGER", "1h").env("SYNC_SHUTDOWN_TIMEOUT", "2s").start();
    daemon.wait_for_line("Sync completed").await;
    world.record("7", &["1", "2"]).await;
    world.record("7", &["3"]).await;
    postgres.stop().await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit().await.code(), Some(1));
    let left = "3 views in 2 entries are left in the outbox: they stay safe in Redis";
    assert_eq!(daemon.lines_with(left).len(), 1, "{:?}", daemon.output());

    // The next start finds them.
    postgres.restart().await;
    assert!(world.command("sync").start().wait_exit().await.success());
    assert_eq!(world.posts.views_count(&world.database.client().await, "7").await, 3);
}

#[tokio::test]
async fn a_stop_during_the_outage_succeeds_when_postgresql_comes_back_in_time() {
    let (postgres, world) = breakable().await;
    world.post("7").await;
    let daemon = world.daemon().env("SYNC_LINGER", "1h").start();
    daemon.wait_for_line("Sync completed").await;
    world.record("7", &["1"]).await;
    postgres.stop().await;
    daemon.signal("TERM");
    daemon.wait_for_line("the outbox cannot be drained").await;
    postgres.restart().await;
    assert_eq!(daemon.wait_exit().await.code(), Some(0), "{:?}", daemon.output());
    assert_eq!(world.outbox_length().await, 0);
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let (postgres, world) = breakable().await;
    world.post("7").await;
    let daemon = world.daemon().env("SYNC_LINGER", "1h").start();
    daemon.wait_for_line("Sync completed").await;
    world.record("7", &["1"]).await;
    postgres.stop().await;
    daemon.signal("TERM");
    daemon.wait_for_line("the outbox cannot be drained").await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit_within(Duration::from_secs(5)).await.code(), Some(128 + 15));
    assert_eq!(world.outbox_length().await, 1);
}

#[tokio::test]
async fn a_request_that_waits_at_the_stop_is_told_that_nothing_came_of_it() {
    let world = World::new().await;
    world.post("7").await;
    let daemon = world.daemon().env("SYNC_LINGER", "1h").env("SYNC_SHUTDOWN_TIMEOUT", "2s").start();
    daemon.wait_for_line("Sync completed").await;
    let client = Client::new(daemon.wait_for_listening("admin").await);
    let blocker = world.database.client().await;
    blocker.batch_execute("begin; lock table posts in access exclusive mode").await.unwrap();
    world.record("7", &["1"]).await;
    let token = tokens::admin(SECRET, "1");
    let body = json!({});
    let asking = client.try_post_json("/posts/sync-views", Some(&token), &body);
    let stopping = async {
        daemon.wait_for_nth_line(2, "Starting views synchronization").await;
        daemon.signal("TERM");
        daemon.wait_for_line("stopping").await;
        blocker.batch_execute("commit").await.unwrap();
    };
    let (answer, ()) = tokio::join!(asking, stopping);
    assert_eq!(answer.map(|answer| answer.status), Ok(503));
    assert_eq!(daemon.wait_exit().await.code(), Some(0), "{:?}", daemon.output());
    assert_eq!(daemon.lines_with("Sync abandoned").len(), 1);
    world.assert_views("7", 1).await;
}

#[tokio::test]
async fn the_daemon_waits_for_redis_and_goes_on_when_it_is_back() {
    let server = RedisServer::start_with(&[("appendonly", "yes"), ("appendfsync", "always")]).await;
    let world = World::with_redis(server).await;
    world.post("7").await;
    let daemon = world.daemon().env("SYNC_LINGER", "1h").start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    world.record("7", &["1", "2"]).await;
    world.server.kill().await;
    daemon.wait_for_line("the outbox cannot be drained").await;
    let (status, body) = ready(&client).await;
    assert!(status == 503 && body.contains("Redis is away"), "{status} {body}");

    world.server.restart().await;
    daemon.wait_for_nth_line(2, "Redis connected").await;
    eventually("it is ready again", SOON, async || ready(&client).await.0 == 200).await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit().await.code(), Some(0), "{:?}", daemon.output());
    world.assert_views("7", 2).await;
}

#[tokio::test]
async fn a_stop_without_redis_ends_in_time() {
    let world = World::new().await;
    let daemon = world.daemon().env("SYNC_SHUTDOWN_TIMEOUT", "1s").start();
    daemon.wait_for_line("Sync completed").await;
    world.server.stop().await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit_within(Duration::from_secs(20)).await.code(), Some(1));
    assert_eq!(daemon.lines_with("stays safe in Redis").len(), 1, "{:?}", daemon.output());
}

#[tokio::test]
async fn a_single_run_does_not_wait_for_ever() {
    let world = World::new().await;
    let nobody = format!("redis://127.0.0.1:{}", testkit::ports::free());
    let program: Daemon = world.command("sync").env("REDIS_URL", nobody).start();
    assert_eq!(program.wait_exit().await.code(), Some(1));
    assert_eq!(program.lines_with("a store is away").len(), 1, "{:?}", program.output());
}

/// The commit arrives, and its answer does not: nobody knows whether it happened.
#[tokio::test]
async fn an_answer_of_postgresql_that_is_lost_counts_nothing_twice() {
    let world = World::new().await;
    world.post("7").await;
    let direct = world.database.url();
    let port = testkit::postgres::shared().await.port();
    let proxy = Proxy::to_port(port).await;
    let url = direct.replace(&format!(":{port}/"), &format!(":{}/", proxy.port()));
    let daemon = world.daemon().env("DATABASE_URL", url).env("SYNC_LINGER", "10ms").start();
    daemon.wait_for_line("Sync completed").await;
    // The statement must be prepared, for that takes an answer.
    world.record("7", &["9"]).await;
    eventually("the first view is settled", SOON, async || world.meta("7").await[2] == 1).await;
    proxy.swallow_replies();
    world.record("7", &["1", "2", "3"]).await;
    eventually("the views are committed", SOON, async || world.posts.views_count(&world.sql, "7").await == 4).await;
    assert_eq!(world.outbox_length().await, 1);
    proxy.break_networking().await;
    daemon.wait_for_line("the outbox cannot be drained").await;
    proxy.restore().await;
    outbox_becomes_empty(&world).await;
    world.assert_views("7", 4).await;
}

/// The acknowledgement arrives in Redis, and its answer does not.
/// After a loss, the step reads the schema anew, which the cycle needs, too.
#[tokio::test]
async fn a_cycle_that_is_asked_for_in_the_midst_of_a_step_waits_for_no_more_than_the_step() {
    let world = World::new().await;
    world.post("7").await;
    let port = testkit::postgres::shared().await.port();
    let proxy = Proxy::to_port(port).await;
    let url = world.database.url().replace(&format!(":{port}/"), &format!(":{}/", proxy.port()));
    let daemon = world.daemon().env("DATABASE_URL", url).env("SYNC_LINGER", "10ms").start();
    daemon.wait_for_line("Sync completed").await;
    for round in 2..=4 {
        proxy.break_networking().await;
        world.record("7", &[&round.to_string()]).await;
        daemon.wait_for_nth_line(round - 1, "the outbox cannot be drained").await;
        let accepted = proxy.accepted();
        proxy.restore().await;
        proxy.delay(Duration::from_millis(50));
        eventually("a step has a connection", SOON, async || proxy.accepted() > accepted).await;
        daemon.signal("HUP");
        daemon.wait_for_nth_line(round, "Sync completed").await;
        proxy.delay(Duration::ZERO);
    }
}

#[tokio::test]
async fn an_acknowledgement_whose_answer_is_lost_counts_nothing_twice() {
    let world = World::new().await;
    world.post("7").await;
    let proxy = Proxy::to_port(world.server.port()).await;
    let url = format!("redis://127.0.0.1:{}/0", proxy.port());
    let daemon = world.daemon().env("REDIS_URL", url).env("SYNC_LINGER", "10ms").start();
    daemon.wait_for_line("Sync completed").await;
    let blocker = world.database.client().await;
    for round in 1..=3 {
        // A lock on the posts holds the batch up between its reading and its acknowledgement.
        blocker.batch_execute("begin; lock table posts in access exclusive mode").await.unwrap();
        let viewers: Vec<String> = (0..10).map(|viewer| (100 * round + viewer).to_string()).collect();
        world.record("7", &viewers.iter().map(String::as_str).collect::<Vec<_>>()).await;
        eventually("the drain waits for the lock", SOON, async || {
            let waiting = "select count(*) from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())";
            world.sql.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await;
        let acknowledgements = world.calls("eval").await;
        proxy.swallow_replies();
        blocker.batch_execute("commit").await.unwrap();
        eventually("the batch is acknowledged", SOON, async || world.calls("eval").await > acknowledgements).await;
        proxy.break_networking().await;
        proxy.restore().await;
        eventually("the live count agrees", SOON, async || world.live("7").await == 10 * round).await;
        outbox_becomes_empty(&world).await;
        world.assert_views("7", 10 * round).await;
    }
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit().await.code(), Some(0), "{:?}", daemon.output());
}
