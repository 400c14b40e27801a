//! What PostgreSQL's tables and the role's rights must be: refused at the start, told while the process runs.
//! view-syncd's tests have all that is looked at; these have what view-ingest does about it.

use std::time::{Duration, Instant};

use testkit::{
    SOON, eventually,
    postgres::{Database, PostgresServer},
    posts::{IdType, PostsTable},
    process::DaemonBuilder,
    redis::RedisServer,
};

use crate::support::{Ingest, World, migrate};

const UNFIT: &str = "view_ingest_postgres_unfit";
/// The longest that the start may wait for stores that do not answer.
const A_FEW_SECONDS: Duration = Duration::from_secs(10);

async fn world_of(server: &PostgresServer) -> World {
    World::with_stores(RedisServer::start().await, server.database().await, PostsTable::with_ids(IdType::Text)).await
}

/// Demands that the program ends with the status of a wrong set-up, and says something once.
async fn assert_refused(program: DaemonBuilder, text: &str) {
    let daemon = program.start();
    assert_eq!(daemon.wait_exit().await.code(), Some(78), "{text}: {:?}", daemon.output());
    assert_eq!(daemon.lines_with(text).len(), 1, "{:?}", daemon.output());
    assert_eq!(daemon.lines_with("view-ingest started").len(), 0, "{:?}", daemon.output());
}

/// The URL by which a role connects that is not the owner of anything.
fn url_of(database: &Database, role: &str) -> String {
    database.url().replace("postgres://postgres@", &format!("postgres://{role}@"))
}

#[tokio::test]
async fn tables_that_are_not_as_they_are_needed_are_refused_at_the_start() {
    for (setup, text) in [
        ("drop table post_views", r#"there is no ledger table "public"."post_views": run `view-syncd migrate`"#),
        ("drop table posts cascade", r#"there is no table "posts": create it, or name the table of posts with --posts-table"#),
        ("alter table post_views drop constraint post_views_pkey", "has no unique index on exactly (post_id, user_id)"),
        (
            "alter table posts drop views_count, add views_count integer generated always as (1) stored",
            "the column views_count of \"public\".\"posts\" is generated",
        ),
        ("alter table post_views alter user_id type jsonb using null", "the column user_id of"),
        (
            "alter table posts drop constraint posts_pkey cascade; insert into posts (id) select gen_random_uuid() from generate_series(1, 9);
             insert into posts (id) select id from posts limit 1",
            "has more than one row with the \"id\"",
        ),
    ] {
        let world = World::new().await;
        world.sql().batch_execute(setup).await.unwrap();
        assert_refused(world.program(), text).await;
        // Whether Redis is there makes no difference.
        world.server.stop().await;
        assert_refused(world.program(), text).await;
    }
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
        assert_refused(world.program().env(setting, value), text).await;
    }
}

#[tokio::test]
async fn a_role_without_rights_or_sight_is_refused_with_the_statement_that_helps() {
    let world = World::new().await;
    let role = format!("ingest_{}", world.database().name());
    world.sql().batch_execute(&format!("create role {role} login; grant select on posts to {role}")).await.unwrap();
    let program = || world.program().env("DATABASE_URL", url_of(world.database(), &role));
    assert_refused(program(), &format!(r#"GRANT UPDATE ("views_count") ON "public"."posts" TO "{role}""#)).await;
    world.sql().batch_execute(&format!("grant all on posts, post_views to {role}")).await.unwrap();
    Ingest::start(program()).await;
    world.sql().batch_execute("alter table posts enable row level security").await.unwrap();
    assert_refused(program(), r#"row level security hides rows of "public"."posts""#).await;
    let nobody = program().env("DATABASE_URL", url_of(world.database(), "nobody_at_all"));
    assert_refused(nobody, r#"role "nobody_at_all" does not exist"#).await;
}

#[tokio::test]
async fn a_postgresql_that_is_away_at_the_start_is_not_waited_for_and_told_of_when_it_is_wrong() {
    let server = PostgresServer::start().await;
    let world = world_of(&server).await;
    world.post("p").await;
    world.sql().batch_execute("drop table post_views").await.unwrap();
    server.stop().await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    assert_eq!(app.metric(UNFIT).await, 0.0, "away is not wrong");

    server.restart().await;
    app.daemon.wait_for_line("PostgreSQL cannot take views nor tell of posts: there is no ledger table").await;
    assert_eq!(app.metric(UNFIT).await, 1.0);
    assert_eq!(app.verdict("bob", "p").await, "counted 2", "Redis goes on alone");
    assert_eq!(app.admin.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn the_start_does_not_wait_for_a_postgresql_that_hangs() {
    let server = PostgresServer::start().await;
    let world = world_of(&server).await;
    server.pause();
    let started = Instant::now();
    let app = world.ingest().await;
    assert!(started.elapsed() < A_FEW_SECONDS, "{:?}", started.elapsed());
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    server.resume();
}

#[tokio::test]
async fn what_becomes_wrong_later_is_told_and_redis_goes_on_alone_until_it_is_mended() {
    let world = World::new().await;
    world.post_of("p", "author").await;
    let app = world.ingest().await;
    world.sql().batch_execute("drop table post_views").await.unwrap();
    app.daemon.wait_for_line("PostgreSQL cannot take views nor tell of posts: there is no ledger table").await;
    assert_eq!(app.metric(UNFIT).await, 1.0);
    assert_eq!(app.verdict("ann", "p").await, "counted 1");
    assert_eq!(app.admin.get("/readyz").await.status, 200);

    migrate(world.database(), &world.posts).await;
    app.daemon.wait_for_line("PostgreSQL is now as it is needed").await;
    assert_eq!(app.metric(UNFIT).await, 0.0);
    eventually("the author is known", SOON, || async { app.verdict("author", "p").await.starts_with("own") }).await;
    assert_eq!(app.daemon.lines_with("PostgreSQL cannot take views").len(), 1, "{:?}", app.daemon.output());

    // Nothing that fails, and all the same no store for views.
    world.sql().batch_execute("alter table post_views drop constraint post_views_pkey").await.unwrap();
    app.daemon.wait_for_line("has no unique index on exactly (post_id, user_id)").await;
    world.sql().batch_execute("alter table post_views add primary key (post_id, user_id)").await.unwrap();
    app.daemon.wait_for_nth_line(2, "PostgreSQL is now as it is needed").await;
}

#[tokio::test]
async fn without_redis_a_database_that_becomes_wrong_is_no_store() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest().await;
    world.server.stop().await;
    assert_eq!(app.verdict("zoe", "p").await, "counted 1");
    world.sql().batch_execute("alter table post_views rename to elsewhere").await.unwrap();
    app.daemon.wait_for_line("run `view-syncd migrate`").await;
    assert_eq!(app.verdict("ann", "p").await, "503");
    eventually("it is not ready", SOON, || async { app.admin.get("/readyz").await.status == 503 }).await;

    world.sql().batch_execute("alter table elsewhere rename to post_views").await.unwrap();
    eventually("PostgreSQL takes views", SOON, || async { app.verdict("ann", "p").await == "counted 2" }).await;
    eventually("it is ready", SOON, || async { app.admin.get("/readyz").await.status == 200 }).await;
}
