//! A PostgreSQL that answers and takes no writes: it is no substitute for Redis, and nothing keeps it busy when it
//! takes them again.

use testkit::{
    SOON, eventually,
    postgres::PostgresServer,
    posts::{IdType, PostsTable, ledger_count},
    proxy::Proxy,
    redis::RedisServer,
};

use crate::support::{Ingest, World, assert_error};

/// More views at once than the pool has connections, so that some of each are idle afterwards.
const MANY: usize = 40;

async fn world_of(server: &PostgresServer) -> World {
    World::with_stores(RedisServer::start().await, server.database().await, PostsTable::with_ids(IdType::Text)).await
}

/// Views of posts that Redis and PostgreSQL hear of for the first time: they fill the pool with connections.
async fn touch_many(world: &World, app: &Ingest, name: &str) {
    for number in 0..MANY {
        world.post(&format!("{name}-{number}")).await;
    }
    let posts: Vec<String> = (0..MANY).map(|number| format!("{name}-{number}")).collect();
    futures_util::future::join_all(posts.iter().map(|post| app.view("zoe", post))).await;
}

/// Demands that nothing is acknowledged while neither store can be written to, and returns when the program has asked
/// the server once more: from then on nothing but its own doing leads it to another session.
async fn assert_nothing_is_taken(app: &Ingest, server: &PostgresServer) {
    for _ in 0..10 {
        let answer = app.view("bob", "p").await;
        assert_error(&answer, 503, "Сервис временно недоступен");
        assert_eq!(answer.header("retry-after"), "1");
    }
    // With each question a transaction is committed; of those before, one may not have been reported yet.
    let (client, committed) =
        (server.client().await, "select sum(xact_commit)::bigint from pg_stat_database where datname like 'test_%'");
    let questions = || async { client.query_one(committed, &[]).await.unwrap().get::<_, i64>(0) };
    let before = questions().await;
    eventually("the server is asked", SOON, || async { questions().await >= before + 2 }).await;
    eventually("it is not ready", SOON, || async { app.admin.get("/readyz").await.status == 503 }).await;
}

/// Demands that PostgreSQL takes views again, and from then on every one.
async fn assert_all_are_taken(world: &World, app: &Ingest) {
    eventually("it is ready", SOON, || async { app.admin.get("/readyz").await.status == 200 }).await;
    let before = ledger_count(world.sql(), "p").await;
    let viewers = crate::support::viewers(MANY);
    for (number, answer) in
        futures_util::future::join_all(viewers.iter().map(|viewer| app.view(viewer, "p"))).await.iter().enumerate()
    {
        assert_eq!(answer.status, 200, "{number} {answer:?}");
    }
    assert_eq!(ledger_count(world.sql(), "p").await, before + MANY as i64);
    assert_eq!(world.posts.views_count(world.sql(), "p").await, before + MANY as i64);
}

#[tokio::test]
async fn a_server_that_was_made_read_only_takes_no_views_until_that_is_over() {
    let server = PostgresServer::start().await;
    let world = world_of(&server).await;
    world.post_of("p", "author").await;
    let app = world.ingest().await;
    touch_many(&world, &app, "a").await;
    let admin = server.client().await;
    admin.batch_execute("alter system set default_transaction_read_only = on").await.unwrap();
    admin.batch_execute("select pg_reload_conf()").await.unwrap();
    assert_eq!(app.verdict("author", "p").await, "own 0", "what is only read goes on");
    assert_eq!(app.verdict("ann", "p").await, "counted 1", "Redis goes on");

    world.server.kill().await;
    assert_nothing_is_taken(&app, &server).await;
    assert_eq!(ledger_count(world.sql(), "p").await, 0);

    admin.batch_execute("set default_transaction_read_only = off").await.unwrap();
    admin.batch_execute("alter system reset default_transaction_read_only").await.unwrap();
    admin.batch_execute("select pg_reload_conf()").await.unwrap();
    assert_all_are_taken(&world, &app).await;
}

/// Sessions keep what the database's setting was when they began, so those of the wrong time have to go.
#[tokio::test]
async fn sessions_from_a_read_only_time_are_not_kept() {
    let server = PostgresServer::start().await;
    let world = world_of(&server).await;
    world.post("p").await;
    let database = world.database().name().to_owned();
    let admin = server.client().await;
    admin.batch_execute(&format!("alter database {database} set default_transaction_read_only = on")).await.unwrap();
    let app = world.ingest().await;
    // Written on a session from before.
    touch_many(&world, &app, "a").await;
    world.server.kill().await;
    assert_nothing_is_taken(&app, &server).await;

    admin.batch_execute(&format!("alter database {database} reset default_transaction_read_only")).await.unwrap();
    assert_all_are_taken(&world, &app).await;
}

#[tokio::test]
async fn connections_to_a_standby_are_not_kept() {
    let primary = PostgresServer::start().await;
    let world = world_of(&primary).await;
    world.post("p").await;
    let standby = primary.standby().await;
    let proxy = Proxy::to_port(standby.port()).await;
    let url = world.database().url().replace(&format!(":{}/", primary.port()), &format!(":{}/", proxy.port()));
    let app = world.ingest_with(&[("DATABASE_URL", &url)]).await;
    touch_many(&world, &app, "a").await;
    world.server.kill().await;
    assert_nothing_is_taken(&app, &standby).await;

    // As after a failover: the old connections lead to a server that still answers.
    proxy.redirect(primary.port());
    assert_all_are_taken(&world, &app).await;
    drop(standby);
}
