//! What clients without a token cost, and what they must not cost others.

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::{Duration, Instant},
};

use fred::interfaces::{HashesInterface, KeysInterface, LuaInterface};
use futures_util::future::join_all;
use testkit::{
    SOON, eventually,
    postgres::PostgresServer,
    posts::{IdType, PostsTable},
    proxy::Proxy,
    redis::RedisServer,
};

use crate::support::{Ingest, World, meta, set, viewers};

/// What a post that is only read may take of Redis, in bytes.
const MOST_BYTES: u64 = 2_048;

async fn read(app: &Ingest, posts: &[String]) -> u16 {
    app.http.get(&format!("/posts/views?ids={}", posts.join(","))).await.status
}

#[tokio::test]
async fn a_read_brings_author_and_count_and_no_viewers() {
    let world = World::new().await;
    let posts: Vec<String> = (0..50).map(|post| format!("p{post}")).collect();
    for post in &posts {
        world.post_of(post, "author").await;
        world.store(post, &viewers(500)).await;
    }
    let app = world.ingest().await;
    assert_eq!(read(&app, &posts).await, 200);
    for post in &posts {
        assert_eq!(world.size(post).await, 0);
        let fields: Vec<String> = world.redis.hkeys(meta(post)).await.unwrap();
        assert_eq!(fields.len(), 2, "{fields:?}");
        let bytes: u64 = world
            .redis
            .eval("return redis.call('MEMORY', 'USAGE', KEYS[1])", vec![meta(post)], Vec::<String>::new())
            .await
            .unwrap();
        assert!(bytes < MOST_BYTES, "{bytes}");
        let exists: bool = world.redis.exists(set(post)).await.unwrap();
        assert!(!exists);
    }
    assert_eq!(app.count("p1").await, 500);
    assert_eq!(app.verdict("author", "p1").await, "own 500");
    // The first view brings the viewers, so that verdicts and counts are exact.
    assert_eq!(app.verdict("viewer-7", "p1").await, "duplicate 500");
    assert_eq!(world.size("p1").await, 500);
    assert_eq!(app.verdict("new", "p2").await, "counted 501");
    assert_eq!(app.verdict("viewer-8", "p2").await, "duplicate 501");
    assert_eq!((app.count("p2").await, world.size("p2").await), (501, 501));
    assert_eq!(world.outbox().await, [("p2".to_owned(), "new".to_owned())]);
}

#[tokio::test]
async fn a_hash_of_an_earlier_version_gets_the_viewers_with_the_next_view() {
    let world = World::new().await;
    world.post_of("p", "author").await;
    world.store("p", &viewers(3)).await;
    let () = world.redis.hset(meta("p"), vec![("author", "author"), ("persisted", "3")]).await.unwrap();
    let app = world.ingest().await;
    assert_eq!(app.verdict("viewer-2", "p").await, "duplicate 3");
    assert_eq!(app.verdict("ann", "p").await, "counted 4");
    assert_eq!(app.count("p").await, 4);
}

#[tokio::test]
async fn an_id_that_was_read_ahead_of_its_creation_can_be_viewed_at_once() {
    let world = World::new().await;
    let app = world.ingest().await;
    for post in ["p", "q", "r"] {
        for _ in 0..3 {
            assert_eq!(app.http.get(&format!("/posts/{post}/views")).await.status, 404);
            assert_eq!(read(&app, &[post.to_owned()]).await, 200);
        }
        world.post(post).await;
        assert_eq!(app.verdict("ann", post).await, "counted 1");
        assert_eq!(app.count(post).await, 1);
    }
}

#[tokio::test]
async fn a_view_that_came_too_early_is_not_refused_for_long_however_many_ask() {
    let world = World::new().await;
    world.database().log_statements().await;
    let app = world.ingest().await;
    for _ in 0..100 {
        assert_eq!(app.verdict("ann", "p").await, "404");
        assert_eq!(app.http.get("/posts/p/views").await.status, 404);
    }
    let looked = world.statements("hydrate");
    assert!(looked < 50, "{looked} queries for 200 requests");
    world.post("p").await;
    let is_counted = || async {
        app.http.get("/posts/p/views").await;
        app.verdict("ann", "p").await == "counted 1"
    };
    eventually("the post is found", SOON, is_counted).await;
}

#[tokio::test]
async fn posts_that_nobody_could_look_up_are_accepted_within_a_budget() {
    let server = PostgresServer::start().await;
    let posts = PostsTable::with_ids(IdType::Text);
    let world = World::with_stores(RedisServer::start().await, server.database().await, posts).await;
    world.post("known").await;
    world.post("read").await;
    let app = world.ingest_with(&[("VIEW_INGEST_MAX_UNSEEN_POSTS", "20")]).await;
    assert_eq!(app.verdict("ann", "known").await, "counted 1");
    assert_eq!(app.count("read").await, 0);
    server.stop().await;
    let mut statuses = Vec::new();
    for post in 0..60 {
        statuses.push(app.view("ann", &format!("made-up-{post}")).await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 20, "{statuses:?}");
    let refusal = app.view("ann", "made-up-59").await;
    assert_eq!((refusal.status, refusal.header("retry-after").is_empty()), (503, false));
    // Two keys of each of these, one of `known` and `read`, the set of `known`, and the outbox.
    let keys: usize = fred::interfaces::ServerInterface::dbsize(&world.redis).await.unwrap();
    assert_eq!(keys, 2 * 20 + 2 + 1 + 1);
    // Whom Redis knows goes on, and so does who was accepted.
    assert_eq!(app.verdict("bob", "known").await, "counted 2");
    assert_eq!(app.verdict("bob", "read").await, "counted 1");
    assert_eq!(app.verdict("bob", "made-up-0").await, "counted 2");
    assert_eq!(app.daemon.lines_with("accepted unseen: views of others").len(), 1);

    server.restart().await;
    eventually("posts are looked up again", SOON, || async { app.verdict("ann", "made-up-59").await == "404" }).await;
    // One answer does not end an outage, but some in a row do.
    let since = Instant::now();
    for post in 0.. {
        assert_eq!(app.verdict("ann", &format!("made-up-later-{post}")).await, "404");
        if since.elapsed() > Duration::from_millis(1_500) {
            break;
        }
    }
    server.stop().await;
    eventually("and there is a budget again", SOON, || async { app.verdict("ann", "new").await == "counted 1" }).await;
}

#[tokio::test]
async fn a_first_view_does_not_wait_for_what_strangers_make_up() {
    const READERS: usize = 40;
    let server = PostgresServer::start().await;
    let posts = PostsTable::with_ids(IdType::Text);
    let world = World::with_stores(RedisServer::start().await, server.database().await, posts).await;
    world.post("known").await;
    world.post("p").await;
    let proxy = Proxy::to_port(server.port()).await;
    let url = world.database().url().replace(&format!(":{}", server.port()), &format!(":{}", proxy.port()));
    let app = world.ingest_with(&[("DATABASE_URL", &url)]).await;
    assert_eq!(app.verdict("ann", "known").await, "counted 1");
    proxy.delay(Duration::from_millis(50));
    let answered = AtomicUsize::new(0);
    let readers = join_all((0..READERS).map(|reader| {
        let (app, answered) = (&app, &answered);
        async move {
            let posts: Vec<String> = (0..100).map(|post| format!("made-up-{reader}-{post}")).collect();
            let status = read(app, &posts).await;
            answered.fetch_add(1, SeqCst);
            status
        }
    }));
    let viewer = async {
        eventually("the first of the readers is answered", SOON, || async { answered.load(SeqCst) > 0 }).await;
        assert_eq!(app.verdict("ann", "p").await, "counted 1");
        answered.load(SeqCst)
    };
    let (statuses, answered_before) = tokio::join!(readers, viewer);
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(answered_before < READERS / 2, "{answered_before} of {READERS} strangers were served before the view");
}

#[tokio::test]
async fn a_read_of_a_post_that_was_viewed_unseen_counts_whom_the_ledger_has() {
    let server = PostgresServer::start().await;
    let posts = PostsTable::with_ids(IdType::Text);
    let world = World::with_stores(RedisServer::start().await, server.database().await, posts).await;
    world.post("p").await;
    world.store("p", &viewers(500)).await;
    let app = world.ingest().await;
    server.stop().await;
    assert_eq!(app.verdict("ann", "p").await, "counted 1", "nobody can be asked");
    server.restart().await;
    // Nobody drains, so that the count in PostgreSQL does not have the view.
    eventually("a reader is told of all", SOON, || async { app.count("p").await == 501 }).await;
    assert_eq!((world.size("p").await, app.verdict("viewer-7", "p").await), (501, "duplicate 501".to_owned()));
}

#[tokio::test]
async fn what_a_reader_has_had_looked_up_makes_no_view_of_a_returning_viewer_count() {
    const POSTS: usize = 60;
    let world = World::new().await;
    let port = testkit::postgres::shared().await.port();
    let proxy = Proxy::to_port(port).await;
    let url = world.database().url().replace(&format!(":{port}"), &format!(":{}", proxy.port()));
    let app = world.ingest_with(&[("DATABASE_URL", &url)]).await;
    proxy.delay(Duration::from_millis(5));
    for round in 0..24 {
        let posts: Vec<String> = (0..POSTS).map(|post| format!("r{round}-{post}")).collect();
        for post in &posts {
            world.post(post).await;
            world.store(post, &viewers(2)).await;
        }
        // The view comes while the reader's posts are looked up, a little later each time.
        let view = async {
            tokio::time::sleep(Duration::from_millis(round)).await;
            app.batch("viewer-1", &posts).await
        };
        let (status, response) = tokio::join!(read(&app, &posts), view);
        assert_eq!((status, response.status), (200, 200));
        for result in response.json()["results"].as_array().unwrap() {
            assert_eq!((&result["status"], &result["viewsCount"]), (&"duplicate".into(), &2.into()), "{round}: {result}");
        }
    }
}

#[tokio::test]
async fn reads_are_refused_soon_where_no_store_answers() {
    let server = PostgresServer::start().await;
    let database = server.database().await;
    let world = World::with_stores(RedisServer::start().await, database, PostsTable::with_ids(IdType::Text)).await;
    let app = world.ingest().await;
    let posts: Vec<String> = (0..100).map(|post| format!("p{post}")).collect();
    server.pause();
    world.server.pause();
    let reads = join_all((0..100).map(|_| read(&app, &posts)));
    let statuses = tokio::time::timeout(SOON, reads).await.expect("a hundred reads take no longer than a few");
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    server.resume();
    world.server.resume();
    let answers = || async { read(&app, &posts).await == 200 };
    eventually("reads are answered again", SOON, answers).await;
}
