//! What is logged: no viewers, no line for each of many failures, and as much as an operator asks for.

use serde_json::json;
use testkit::{
    SOON, eventually, postgres,
    posts::{IdType, PostsTable},
    redis::RedisServer,
    tokens,
};

use crate::support::{SECRET, World, ready};

/// A trigger of the application's that names the user, as they do.
const CLOSED_TO_SOME: &str = "create function refuse() returns trigger language plpgsql as $$ begin
    if new.user_id like '%blocked%' then raise exception 'user % is blocked', new.user_id; end if; return new; end $$;
    create trigger refuse before insert on post_views for each row execute function refuse()";
const CLOSED_TO_ALL: &str = "create or replace function refuse() returns trigger language plpgsql as $$ begin
    raise exception 'closed: %, come again', new.user_id; end $$";

#[tokio::test]
async fn no_line_names_a_viewer_whatever_becomes_of_the_view() {
    let database = postgres::shared().await.database().await;
    let server = RedisServer::start_with(&[("appendonly", "yes")]).await;
    let world = World::with_stores(server, database, PostsTable::with_ids(IdType::Text)).await;
    for post in ["p", "q"] {
        world.posts.insert_post(&world.sql, post, "viewer-author").await;
    }
    let syncd = world.daemon().env("SYNC_LINGER", "50ms").start();
    syncd.wait_for_line("Sync completed").await;
    let (ingest, http) = ready(world.ingest_program()).await;
    let view = async |viewer: &str, post: &str| {
        let token = tokens::hs256(SECRET, viewer);
        http.post_json("/posts/view", Some(&token), &json!({ "postId": post })).await.status
    };
    let stored = async || world.outbox_length().await == 0;

    world.sql.batch_execute(CLOSED_TO_SOME).await.unwrap();
    for viewer in ["viewer-1", "viewer-author", "viewer-1", "viewer-blocked-1", "viewer-blocked-2"] {
        assert_eq!(view(viewer, "p").await, 200);
    }
    assert_eq!(view("viewer-1", "unknown").await, 404);
    let dead = syncd.wait_for_line("pairs that could not be stored are kept").await;
    assert!(dead.contains("user … is blocked"), "{dead}");
    eventually("the rest is stored", SOON, stored).await;

    let application = world.database.client().await;
    application.batch_execute("begin; select from posts where id = 'q' for update").await.unwrap();
    assert_eq!(view("viewer-2", "q").await, 200);
    syncd.wait_for_line("views wait for locks").await;
    application.batch_execute("commit").await.unwrap();
    syncd.wait_for_line("no views wait for others any more").await;
    eventually("it is stored", SOON, stored).await;

    world.sql.batch_execute(CLOSED_TO_ALL).await.unwrap();
    for viewer in ["viewer-3", "viewer-4"] {
        assert_eq!(view(viewer, "p").await, 200);
    }
    let line = syncd.wait_for_line("the outbox cannot be drained").await;
    assert!(line.contains("closed: …, come again"), "{line}");

    world.server.kill().await;
    assert_eq!(view("viewer-5", "q").await, 503);
    ingest.wait_for_line("neither Redis nor PostgreSQL takes views").await;
    world.sql.batch_execute(&format!("drop function refuse() cascade; {CLOSED_TO_SOME}")).await.unwrap();
    assert_eq!(view("viewer-5", "q").await, 200);
    assert_eq!(view("viewer-blocked-3", "q").await, 503);
    world.server.restart().await;
    syncd.wait_for_line("the outbox is drained again").await;

    for daemon in [syncd, ingest] {
        daemon.signal("TERM");
        daemon.wait_exit().await;
        let lines = daemon.lines_with("viewer-");
        assert!(lines.is_empty(), "{lines:#?}");
    }
}

#[tokio::test]
async fn what_fails_again_and_again_is_told_now_and_then_and_signals_end_no_command() {
    let world = World::new().await;
    let sync = world.command("sync").env("REDIS_URL", "redis://127.0.0.1:1").start();
    let daemon = world.daemon().env("REDIS_URL", "redis://127.0.0.1:1").start();
    for program in [&sync, &daemon] {
        program.wait_for_line("waiting: ").await;
        for signal in ["USR1", "USR2"] {
            program.signal(signal);
            program.wait_for_line(&format!("SIG{signal}: ")).await;
        }
    }
    assert_eq!(sync.wait_exit().await.code(), Some(1), "{:?}", sync.output());
    let line = daemon.wait_for_line("times in the last 10 s").await;
    assert!(line.contains("WARN") && line.contains("waiting: ") && line.contains(": repeated "), "{line}");
    let lines = daemon.lines_with("waiting: ");
    assert!(lines.len() <= 4, "{lines:#?}");
}
