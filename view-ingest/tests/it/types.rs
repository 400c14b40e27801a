//! Ids that a column's type cannot hold: posts that do not exist, and viewers who are turned away, until the type is
//! another one.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{
    SOON, eventually,
    http::Response,
    postgres::{self, PostgresServer},
    posts::{IdType, PostsTable, ledger_count},
    redis::RedisServer,
};

use crate::support::{Ingest, World, assert_error};

/// A number that is no integer of four bytes.
const LARGE: &str = "3000000000";
/// How soon a post is to be found whose id fits by now, on a loaded machine.
const A_LITTLE_LATER: Duration = Duration::from_secs(4);
const VIEWER_UNFIT: &str = "Идентификатор пользователя в токене не подходит";
const UUID: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

/// A world whose ids are of a type that the test kit has no name for.
async fn world_of_type(id_type: &str) -> World {
    let database = postgres::shared().await.database().await;
    let world = World::with_stores(RedisServer::start().await, database, PostsTable::with_ids(IdType::Bigint)).await;
    let change = "alter table post_views drop constraint post_views_post_id_fkey;
        alter table posts alter id type % using id::text::%, alter author_id type % using author_id::text::%;
        alter table post_views alter post_id type % using post_id::text::%, alter user_id type % using user_id::text::%";
    world.sql().batch_execute(&change.replace('%', id_type)).await.unwrap();
    world
}

fn assert_turned_away(answer: &Response) {
    assert_error(answer, 401, VIEWER_UNFIT);
    assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");
}

/// Demands that the viewer is turned away on all ways, and nothing is recorded of him.
async fn assert_cannot_view(world: &World, app: &Ingest, viewer: &str, post: &str) {
    assert_turned_away(&app.view(viewer, post).await);
    assert_turned_away(&app.batch(viewer, &[post]).await);
    assert_eq!(world.outbox().await, [], "{viewer}");
    assert_eq!(world.size(post).await, 0, "{viewer}");
}

#[tokio::test]
async fn a_viewer_whom_the_ledger_cannot_hold_is_turned_away_before_anything_is_recorded() {
    for (id_type, post, fits, unfit) in [
        ("bigint", "7", "8", ["auth0|5f7c", UUID, "9223372036854775808", "007", "1.5"].as_slice()),
        ("integer", "7", "8", &["2147483648", "ann"]),
        ("uuid", "550e8400-e29b-41d4-a716-446655440000", UUID, &["auth0|5f7c", "42", "550e8400-e29b-41d4-a716-44665544000g"]),
        ("varchar(36)", "p", UUID, &["auth0|0123456789012345678901234567890", &"x".repeat(128)]),
    ] {
        let world = world_of_type(id_type).await;
        let insert = format!("insert into posts (id) values ('{post}')");
        world.sql().batch_execute(&insert).await.unwrap();
        let app = world.ingest().await;
        for viewer in unfit {
            assert_cannot_view(&world, &app, viewer, post).await;
        }
        assert_eq!(app.verdict(fits, post).await, "counted 1", "{id_type}");
        assert_eq!(app.batch(fits, &[post]).await.json()["results"][0]["status"], "duplicate", "{id_type}");
    }
}

#[tokio::test]
async fn a_viewer_is_turned_away_whatever_store_is_away() {
    let server = PostgresServer::start().await;
    let posts = PostsTable::with_ids(IdType::Bigint);
    let world = World::with_stores(RedisServer::start().await, server.database().await, posts).await;
    world.post_of("7", None).await;
    let app = world.ingest().await;
    assert_eq!(app.count("7").await, 0);
    world.server.pause();
    assert_turned_away(&app.view("auth0|5f7c", "7").await);
    assert_eq!(app.verdict("8", "7").await, "counted 1");
    world.server.resume();
    eventually("Redis is back", SOON, || async { app.metric("view_ingest_recorders_in_fallback").await == 0.0 }).await;

    server.stop().await;
    assert_turned_away(&app.view("auth0|5f7c", "7").await);
    assert_eq!(app.verdict("9", "7").await, "counted 2");
}

#[tokio::test]
async fn with_a_postgresql_that_never_answered_nobody_is_turned_away() {
    let server = PostgresServer::start().await;
    let posts = PostsTable::with_ids(IdType::Bigint);
    let world = World::with_stores(RedisServer::start().await, server.database().await, posts).await;
    server.stop().await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("auth0|5f7c", "7").await, "counted 1");
    server.restart().await;
    eventually("the type is known", SOON, || async { app.verdict("auth0|5f7c", "7").await == "401" }).await;
    let alone = World::redis_alone().await;
    assert_eq!(alone.ingest().await.verdict("auth0|5f7c", "7").await, "counted 1");
}

#[tokio::test]
async fn a_viewer_who_fits_by_now_is_let_in() {
    let world = world_of_type("bigint").await;
    world.sql().batch_execute("insert into posts (id) values (7)").await.unwrap();
    let app = world.ingest().await;
    assert_cannot_view(&world, &app, "auth0|5f7c", "7").await;
    world.sql().batch_execute("alter table post_views alter user_id type text").await.unwrap();
    let changed = Instant::now();
    eventually("the viewer is let in", SOON, || async { app.verdict("auth0|5f7c", "7").await == "counted 1" }).await;
    assert!(changed.elapsed() < A_LITTLE_LATER, "{:?}", changed.elapsed());
}

/// Ids become longer while the program runs, before it has ever heard of the new ones and after it has.
#[tokio::test]
async fn a_post_whose_id_fits_by_now_is_found_a_moment_later() {
    for asked_before in [false, true] {
        for redis_is_there in [true, false] {
            let world = world_of_type("integer").await;
            world.sql().batch_execute("insert into posts (id) values (7)").await.unwrap();
            let app = world.ingest().await;
            assert_eq!(app.verdict("8", "7").await, "counted 1");
            if !redis_is_there {
                world.server.kill().await;
            }
            if asked_before {
                assert_eq!(app.verdict("8", LARGE).await, "404");
                assert_eq!(app.http.get(&format!("/posts/{LARGE}/views")).await.status, 404);
            }
            let change = "alter table posts alter id type bigint; alter table post_views alter post_id type bigint;";
            world.sql().batch_execute(&format!("{change} insert into posts (id) values ({LARGE})")).await.unwrap();
            let changed = Instant::now();
            eventually("the post is found", SOON, || async { app.verdict("8", LARGE).await == "counted 1" }).await;
            assert!(changed.elapsed() < A_LITTLE_LATER, "{:?}", changed.elapsed());
            assert_eq!(app.http.get(&format!("/posts/views?ids={LARGE}")).await.json(), json!({ "views": { LARGE: 1 } }));
            let stored = ledger_count(world.sql(), LARGE).await;
            assert_eq!(stored, i64::from(!redis_is_there), "in Redis, or in PostgreSQL in its place");
        }
    }
}

/// Made-up ids cost PostgreSQL a look at the catalogue a second, whatever their number.
#[tokio::test]
async fn ids_that_never_fit_are_no_burden_on_postgresql() {
    let world = World::with_posts(PostsTable::with_ids(IdType::Bigint)).await;
    world.database().log_statements().await;
    let app = world.ingest().await;
    let started = Instant::now();
    for number in 0..200 {
        assert_eq!(app.verdict("8", &format!("made-up-{number}")).await, "404");
        assert_eq!(app.verdict(&format!("auth0|{number}"), "7").await, "401");
    }
    // Both tables, the start, and each connection that was opened meanwhile.
    let most = 2 * (started.elapsed().as_secs() as usize + 12);
    let looks = world.statements("catalogue");
    assert!(looks <= most, "{looks} looks in {:?}", started.elapsed());
    assert_eq!(world.statements("hydrate"), 0);
}
