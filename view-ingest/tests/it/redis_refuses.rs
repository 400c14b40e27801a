//! A Redis that answers and takes no writes: one that loads its data, and one that has become another's replica.

use std::time::Instant;

use fred::{
    clients::Client as Redis,
    interfaces::ClientLike,
    types::{ClusterHash, CustomCommand, InfoKind},
};
use testkit::{
    SOON, eventually,
    posts::{IdType, PostsTable, ledger_count, ledger_viewers},
    redis::RedisServer,
};

use crate::{
    successors::assert_few_connections,
    support::{Ingest, World, assert_error},
};

/// Long enough that no test sees the end of it, which it orders itself.
const SLOWLY: [(&str, &str); 2] = [("key-load-delay", "4000"), ("loading-process-events-interval-bytes", "1024")];
const GAUGE: &str = "view_ingest_recorders_in_fallback";

pub(crate) async fn command(redis: &Redis, words: &[&str]) -> Result<String, fred::error::Error> {
    let command = CustomCommand::new(words[0].to_owned(), ClusterHash::FirstKey, false);
    redis.custom(command, words[1..].iter().map(|word| (*word).to_owned()).collect::<Vec<String>>()).await
}

/// A server with a minute's worth of data to load.
async fn slow_server(password: Option<&str>) -> RedisServer {
    let builder = RedisServer::builder().settings(&SLOWLY);
    let server = match password {
        Some(password) => builder.password(password).start().await,
        None => builder.start().await,
    };
    let redis = server.client().await;
    command(&redis, &["DEBUG", "POPULATE", "15000", "stone", "20"]).await.unwrap();
    server
}

/// Restarts the server with what it holds, and returns when it is loading that.
async fn load_again(world: &World) {
    command(&world.redis, &["SAVE"]).await.unwrap();
    world.server.begin_restart().await;
    eventually("Redis is loading", SOON, || async { loading(&world.server).await == Some(true) }).await;
}

async fn finish_loading(world: &World) {
    // The kit's client waits for the end of the loading.
    let redis = impatient(&world.server).await.unwrap();
    command(&redis, &["CONFIG", "SET", "key-load-delay", "0"]).await.unwrap();
    eventually("Redis has loaded its data", SOON, || async { loading(&world.server).await == Some(false) }).await;
}

async fn loading(server: &RedisServer) -> Option<bool> {
    let redis = impatient(server).await?;
    let info: String = redis.info(Some(InfoKind::Persistence)).await.ok()?;
    Some(info.contains("\nloading:1"))
}

/// A client that connects to a server that is loading, too: one with a password does not ping first.
async fn impatient(server: &RedisServer) -> Option<Redis> {
    let mut config = fred::types::config::Config::from_url(&server.plain_url()).unwrap();
    config.version = fred::types::RespVersion::RESP3;
    let redis = Redis::new(config, None, None, None);
    redis.init().await.ok()?;
    Some(redis)
}

async fn stored_world(server: RedisServer) -> World {
    let database = testkit::postgres::shared().await.database().await;
    World::with_stores(server, database, PostsTable::with_ids(IdType::Text)).await
}

async fn assert_back(app: &Ingest) {
    eventually("Redis takes the views again", SOON, || async { app.metric(GAUGE).await == 0.0 }).await;
    app.daemon.wait_for_line("Redis takes the views again").await;
}

#[tokio::test]
async fn while_redis_loads_its_data_views_go_into_postgresql() {
    for password in [None, Some("a-password")] {
        let world = stored_world(slow_server(password).await).await;
        for post in ["p", "q"] {
            world.post_of(post, "author").await;
        }
        let app = world.ingest().await;
        assert_eq!(app.verdict("ann", "p").await, "counted 1");
        let entries = world.outbox().await;
        load_again(&world).await;

        assert_eq!(app.verdict("bob", "p").await, "counted 1", "{password:?}");
        assert_eq!(app.verdict("bob", "p").await, "duplicate 1");
        assert_eq!(app.verdict("author", "p").await, "own 1");
        assert_eq!(app.verdict("bob", "q").await, "counted 1");
        assert_eq!(app.verdict("bob", "nothing").await, "404");
        assert_eq!((app.count("p").await, app.count("q").await), (1, 1));
        assert_eq!(ledger_viewers(world.sql(), "p").await, ["bob"]);
        app.daemon.wait_for_line("they are written straight into PostgreSQL").await;
        assert!(app.metric(GAUGE).await > 0.0);
        eventually("it is ready", SOON, || async { app.admin.get("/readyz").await.status == 200 }).await;
        let loaded_meanwhile = loading(&world.server).await == Some(false);
        assert!(!loaded_meanwhile, "the loading was to last for the whole test");

        finish_loading(&world).await;
        assert_back(&app).await;
        assert_eq!(app.count("p").await, 2);
        assert_eq!(app.verdict("bob", "p").await, "duplicate 2");
        assert_eq!(app.verdict("ann", "p").await, "duplicate 2");
        assert_eq!(app.verdict("eve", "p").await, "counted 3");
        eventually("the test's own client is back", SOON, || async { world.redis.is_connected() }).await;
        assert_eq!(world.outbox().await.len(), entries.len() + 1);
        // One for the start and one for the end, for each worker; and not one for each try.
        let connections = app.daemon.lines_with("Redis connected").len();
        assert!(connections <= 8, "{connections} {:?}", app.daemon.output());
    }
}

#[tokio::test]
async fn while_redis_loads_its_data_and_there_is_no_database_views_are_refused() {
    for password in [None, Some("a-password")] {
        let world = World::with_redis(slow_server(password).await).await;
        let app = world.ingest().await;
        assert_eq!(app.verdict("ann", "p").await, "counted 1");
        load_again(&world).await;
        for _ in 0..3 {
            for response in
                [app.view("bob", "p").await, app.batch("bob", &["p", "q"]).await, app.http.get("/posts/p/views").await]
            {
                assert_error(&response, 503, "Сервис временно недоступен");
                assert_eq!(response.header("retry-after"), "1");
            }
        }
        eventually("it is not ready", SOON, || async { app.admin.get("/readyz").await.status == 503 }).await;

        finish_loading(&world).await;
        eventually("views are taken again", SOON, || async { app.verdict("ann", "p").await == "duplicate 1" }).await;
        assert_eq!(app.verdict("bob", "p").await, "counted 2");
        eventually("it is ready", SOON, || async { app.admin.get("/readyz").await.status == 200 }).await;
    }
}

#[tokio::test]
async fn it_starts_while_redis_loads_its_data() {
    let world = stored_world(slow_server(Some("a-password")).await).await;
    world.post("p").await;
    load_again(&world).await;
    let app = Ingest::start_without_redis(world.program()).await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    app.daemon.wait_for_line("they are written straight into PostgreSQL").await;
    finish_loading(&world).await;
    assert_back(&app).await;
    assert_eq!(app.verdict("ann", "p").await, "duplicate 1");
    assert_eq!(app.verdict("bob", "p").await, "counted 2");
}

#[tokio::test]
async fn while_redis_is_a_replica_views_go_into_postgresql() {
    let other = RedisServer::start_with(&[("repl-diskless-sync-delay", "0")]).await;
    let other_port = other.port().to_string();
    let nobody = testkit::ports::free().to_string();
    for primary in [&nobody, &other_port] {
        let started = Instant::now();
        let world = stored_world(RedisServer::start().await).await;
        for post in ["p", "q"] {
            world.post_of(post, "author").await;
        }
        let app = world.ingest().await;
        assert_eq!(app.verdict("ann", "p").await, "counted 1");
        command(&world.redis, &["REPLICAOF", "127.0.0.1", primary]).await.unwrap();

        assert_eq!(app.verdict("bob", "p").await, "counted 1");
        assert_eq!(app.verdict("bob", "p").await, "duplicate 1");
        assert_eq!(app.verdict("cyd", "p").await, "counted 2");
        assert_eq!(app.count("p").await, 2);
        assert_eq!(app.verdict("author", "p").await, "own 2");
        assert_eq!(app.verdict("bob", "q").await, "counted 1");
        assert_eq!(app.verdict("bob", "nothing").await, "404");
        assert_eq!(ledger_count(world.sql(), "p").await, 2);
        app.daemon.wait_for_line("they are written straight into PostgreSQL").await;
        app.daemon.wait_for_line("Redis takes no writes: it is a replica").await;
        assert!(app.metric(GAUGE).await > 0.0);
        eventually("it is ready", SOON, || async { app.admin.get("/readyz").await.status == 200 }).await;

        if *primary == other_port {
            eventually("it has what the other server has", SOON, || async {
                let info: String = world.redis.info(Some(InfoKind::Replication)).await.unwrap();
                info.contains("master_link_status:up")
            })
            .await;
            assert_eq!(app.count("p").await, 2, "the other server knows of none");
        }
        command(&world.redis, &["REPLICAOF", "NO", "ONE"]).await.unwrap();
        assert_back(&app).await;
        for viewer in ["bob", "cyd"] {
            assert_eq!(app.verdict(viewer, "p").await.split(' ').next(), Some("duplicate"));
        }
        // From the living primary came its own data: none.
        let kept = i64::from(*primary == nobody);
        assert_eq!(app.count("p").await, 2 + kept);
        assert_eq!(app.verdict("eve", "p").await, format!("counted {}", 3 + kept));
        assert!(world.outbox().await.contains(&("p".to_owned(), "eve".to_owned())));
        // One for the start and two for the error, for each worker, and one now and then in search of the primary; and
        // not one for each try.
        assert_few_connections(&app.daemon, started);
    }
}

#[tokio::test]
async fn while_redis_is_a_replica_and_there_is_no_database_views_are_refused() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    command(&world.redis, &["REPLICAOF", "127.0.0.1", &testkit::ports::free().to_string()]).await.unwrap();
    for _ in 0..3 {
        for response in [app.view("bob", "p").await, app.batch("bob", &["p", "q"]).await] {
            assert_error(&response, 503, "Сервис временно недоступен");
            assert_eq!(response.header("retry-after"), "1");
        }
    }
    eventually("it is not ready", SOON, || async { app.admin.get("/readyz").await.status == 503 }).await;
    assert_eq!(app.http.get("/posts/p/views").await.status, 503, "what a replica says may be old");

    command(&world.redis, &["REPLICAOF", "NO", "ONE"]).await.unwrap();
    eventually("views are taken again", SOON, || async { app.verdict("ann", "p").await == "duplicate 1" }).await;
    assert_eq!(app.verdict("bob", "p").await, "counted 2");
    eventually("it is ready", SOON, || async { app.admin.get("/readyz").await.status == 200 }).await;
}

/// What is full takes reads: they must not tell less than PostgreSQL has been given.
#[tokio::test]
async fn a_full_redis_is_not_asked_for_counts_that_it_could_not_be_told() {
    let world = World::new().await;
    for post in ["p", "q"] {
        world.post(post).await;
    }
    world.store("q", &["old".to_owned()]).await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    crate::outbox::set_maxmemory(&world, "1").await;
    for (viewer, verdict) in [("bob", "counted 1"), ("cyd", "counted 2"), ("dan", "counted 3")] {
        assert_eq!(app.verdict(viewer, "p").await, verdict);
        assert_eq!(app.count("p").await, verdict[8..].parse::<i64>().unwrap());
    }
    assert_eq!(app.count("q").await, 1, "of a post that Redis has never heard of");
    crate::outbox::set_maxmemory(&world, "0").await;
    assert_back(&app).await;
    assert_eq!((app.count("p").await, app.count("q").await), (4, 1));
}

/// What a post's keys hold is that post's trouble: Redis takes all other views, and no line says that it does not.
#[tokio::test]
async fn a_post_whose_key_is_another_program_s_is_no_outage() {
    let world = World::new().await;
    for post in ["p", "q"] {
        world.post(post).await;
    }
    command(&world.redis, &["SET", &crate::support::set("p"), "theirs"]).await.unwrap();
    let app = world.ingest().await;
    for (viewer, views) in [("ann", 1), ("bob", 2), ("cyd", 3)] {
        assert_eq!(app.verdict(viewer, "p").await, format!("counted {views}"));
        assert_eq!(app.verdict(viewer, "q").await, format!("counted {views}"));
        assert_eq!(app.count("p").await, views);
        assert_eq!(app.metric(GAUGE).await, 0.0);
    }
    assert_eq!(app.daemon.lines_with("Redis does not take views"), [] as [String; 0], "{:?}", app.daemon.output());
    assert_eq!(ledger_count(world.sql(), "p").await, 3);
    assert_eq!(world.outbox().await.len(), 3);
    command(&world.redis, &["UNLINK", &crate::support::set("p")]).await.unwrap();
    assert_eq!(app.verdict("ann", "p").await, "duplicate 3");
    assert_eq!(app.verdict("dan", "p").await, "counted 4");
}

#[tokio::test]
async fn without_a_database_such_a_post_is_refused_alone_and_the_process_is_ready() {
    let world = World::redis_alone().await;
    command(&world.redis, &["SET", &crate::support::set("p"), "theirs"]).await.unwrap();
    let app = world.ingest().await;
    assert_eq!(app.view("ann", "p").await.status, 503);
    assert_eq!(app.http.get("/readyz").await.status, 200);
    assert_eq!(app.verdict("ann", "q").await, "counted 1");
}
