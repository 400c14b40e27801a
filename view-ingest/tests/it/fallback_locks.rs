//! Redis away, and locks of the application's in PostgreSQL: each is in the way of what it locks, and of nobody else.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use testkit::{
    SOON, eventually,
    posts::{ledger_count, ledger_viewers},
};

use crate::{
    away::{Away, assert_at_once, durable_world, views},
    support::{Ingest, World},
};

/// Posts `p0` to `p19`, each by `author` and seen by `old`.
const POSTS: usize = 20;

/// How soon after a lock is gone what has waited for it is stored.
const SOON_AFTER: Duration = Duration::from_secs(2);

async fn world() -> World {
    let world = durable_world().await;
    for number in 0..POSTS {
        world.post_of(&format!("p{number}"), "author").await;
        world.store(&format!("p{number}"), &["old".to_owned()]).await;
    }
    world
}

fn all_posts(viewer: &str) -> Vec<(String, String)> {
    (0..POSTS).map(|number| (viewer.to_owned(), format!("p{number}"))).collect()
}

/// How often each verdict was given.
fn tally(verdicts: &[String]) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    for verdict in verdicts {
        *tally.entry(verdict.split(' ').next().unwrap()).or_default() += 1;
    }
    tally
}

async fn assert_ready(app: &Ingest) {
    assert_eq!(app.admin.get("/readyz").await.status, 200);
}

/// Demands that a post whose lock is gone takes a view soon.
async fn assert_taken_soon(app: &Ingest, viewer: &str, post: &str, verdict: &str) {
    eventually("the view is stored", SOON_AFTER, || async { app.verdict(viewer, post).await == verdict }).await;
}

#[tokio::test]
async fn a_locked_post_is_in_the_way_of_nobody_else() {
    for away in Away::ALL {
        for lock in ["update posts set author_id = author_id where id = 'p7'", "select from posts where id = 'p7' for update"] {
            let world = world().await;
            let app = world.ingest().await;
            away.begin(&world, &app).await;
            let application = world.database().client().await;
            application.batch_execute(&format!("begin; {lock}")).await.unwrap();

            for (round, viewer) in ["ann", "bob", "cyd"].into_iter().enumerate() {
                let (verdicts, took) = views(&app, all_posts(viewer)).await;
                assert_at_once(took, &format!("{away:?} {lock}"));
                for (number, verdict) in verdicts.iter().enumerate() {
                    let expected = if number == 7 { "503".to_owned() } else { format!("counted {}", round + 2) };
                    assert_eq!(*verdict, expected, "{away:?} {lock} p{number}");
                }
            }
            // All that is known of the locked post is told.
            let started = Instant::now();
            assert_eq!(app.verdict("old", "p7").await, "duplicate 1", "{away:?} {lock}");
            assert_eq!(app.verdict("author", "p7").await, "own 1");
            assert_eq!(app.count("p7").await, 1);
            assert_eq!(app.verdict("old", "p8").await, "duplicate 4");
            assert_at_once(started.elapsed() / 4, "what is only read");
            let together = ["old", "author", "dan"].map(|viewer| (viewer.to_owned(), "p7".to_owned()));
            assert_eq!(views(&app, together).await.0, ["duplicate 1", "own 1", "503"]);
            assert_ready(&app).await;

            application.batch_execute("commit").await.unwrap();
            assert_taken_soon(&app, "ann", "p7", "counted 2").await;
            assert_eq!(app.verdict("bob", "p7").await, "counted 3");
            assert_eq!(ledger_viewers(world.sql(), "p7").await, ["ann", "bob", "old"]);
            assert_eq!(world.posts.views_count(world.sql(), "p7").await, 3);
            away.end(&world).await;
            eventually("Redis knows of them", SOON, || async { app.verdict("bob", "p7").await == "duplicate 3" }).await;
        }
    }
}

/// Applications lock their rows all the time, for a moment.
#[tokio::test]
async fn a_short_lock_makes_nobody_come_again() {
    let world = world().await;
    let app = world.ingest().await;
    Away::Dead.begin(&world, &app).await;
    let application = world.database().client().await;
    for number in 0..20 {
        let viewer = format!("viewer-{number}");
        application.batch_execute("begin; update posts set author_id = author_id where id in ('p3', 'p4')").await.unwrap();
        let release = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            application.batch_execute("commit").await.unwrap();
        };
        let ((verdicts, took), ()) = tokio::join!(views(&app, all_posts(&viewer)), release);
        assert_at_once(took, "a short lock");
        assert!(verdicts.iter().all(|verdict| *verdict == format!("counted {}", number + 2)), "{verdicts:?}");
    }
}

/// Their transactions lock the same posts all the time.
#[tokio::test]
async fn processes_past_redis_are_not_in_one_anothers_way() {
    let world = world().await;
    let apps = [world.ingest().await, world.ingest().await, world.ingest().await];
    for app in &apps {
        Away::Dead.begin(&world, app).await;
    }
    for round in 0..10 {
        let rounds = apps.iter().enumerate().map(|(number, app)| async move {
            // Many viewers of few posts.
            let viewers = (0..60).map(|viewer| (format!("viewer-{number}-{round}-{viewer}"), format!("p{}", viewer % 3)));
            views(app, viewers).await
        });
        for (verdicts, took) in futures_util::future::join_all(rounds).await {
            assert_eq!(tally(&verdicts), [("counted", 60)].into(), "{verdicts:?}");
            assert!(took < Duration::from_secs(3), "{took:?}");
        }
    }
    for post in ["p0", "p1", "p2"] {
        assert_eq!(world.posts.views_count(world.sql(), post).await, 601);
        assert_eq!(ledger_count(world.sql(), post).await, 601);
    }
}

/// 50 viewers at once, of whom one has to wait.
async fn assert_only_one_waits(app: &Ingest, post: &str) {
    let viewers = (0..49).map(|viewer| format!("viewer-{viewer}")).chain(["eve".to_owned()]);
    let (verdicts, took) = views(app, viewers.map(|viewer| (viewer, post.to_owned()))).await;
    assert_at_once(took, "one pair is locked");
    assert_eq!(tally(&verdicts), [("counted", 49), ("503", 1)].into(), "{verdicts:?}");
    assert_eq!(verdicts[49], "503");
    assert_ready(app).await;
}

#[tokio::test]
async fn a_pair_that_somebody_else_has_not_committed_yet_makes_only_its_viewer_wait() {
    for away in Away::ALL {
        let world = world().await;
        let app = world.ingest().await;
        away.begin(&world, &app).await;
        let application = world.database().client().await;
        for (post, end, verdict) in [("p1", "commit", "duplicate 50"), ("p2", "rollback", "counted 51")] {
            let insert = format!("begin; insert into post_views (post_id, user_id) values ('{post}', 'eve')");
            application.batch_execute(&insert).await.unwrap();
            assert_only_one_waits(&app, post).await;
            application.batch_execute(end).await.unwrap();
            assert_taken_soon(&app, "eve", post, verdict).await;
        }
    }
}

#[tokio::test]
async fn a_users_row_that_is_locked_makes_only_this_user_wait() {
    let world = world().await;
    let users = "create table users (id text primary key);
        insert into users select unnest(array['old', 'eve', 'author']);
        insert into users select 'viewer-' || i from generate_series(0, 48) i;
        alter table post_views add foreign key (user_id) references users (id)";
    world.sql().batch_execute(users).await.unwrap();
    let app = world.ingest().await;
    world.sql().execute("insert into users values ($1)", &[&app.address.to_string()]).await.unwrap();
    Away::Dead.begin(&world, &app).await;
    let application = world.database().client().await;
    application.batch_execute("begin; select from users where id = 'eve' for update").await.unwrap();
    assert_only_one_waits(&app, "p1").await;
    application.batch_execute("commit").await.unwrap();
    assert_taken_soon(&app, "eve", "p1", "counted 51").await;
}

#[tokio::test]
async fn a_table_that_nobody_may_write_is_still_read() {
    for lock in ["lock table post_views in share mode", "lock table posts in exclusive mode"] {
        let world = world().await;
        let app = world.ingest().await;
        Away::Dead.begin(&world, &app).await;
        let application = world.database().client().await;
        application.batch_execute(&format!("begin; {lock}")).await.unwrap();
        let everyone = ["ann", "old", "author", "bob"].map(|viewer| (viewer.to_owned(), "p1".to_owned()));
        let (verdicts, took) = views(&app, everyone).await;
        assert_at_once(took, lock);
        assert_eq!(verdicts, ["503", "duplicate 1", "own 1", "503"], "{lock}");
        assert_eq!(app.count("p2").await, 1);
        eventually("it is not ready", SOON, || async { app.admin.get("/readyz").await.status == 503 }).await;
        application.batch_execute("commit").await.unwrap();
        eventually("it is ready", SOON_AFTER, || async { app.admin.get("/readyz").await.status == 200 }).await;
        assert_eq!(app.verdict("ann", "p1").await, "counted 2");
    }
}

#[tokio::test]
async fn a_table_that_nobody_may_read_holds_nobody_up_for_long() {
    for (away, table) in Away::ALL.into_iter().flat_map(|away| ["posts", "post_views"].map(|table| (away, table))) {
        let world = world().await;
        let app = world.ingest().await;
        away.begin(&world, &app).await;
        let application = world.database().client().await;
        application.batch_execute(&format!("begin; lock table {table} in access exclusive mode")).await.unwrap();
        for _ in 0..5 {
            let (verdicts, took) = views(&app, all_posts("ann")).await;
            assert!(verdicts.iter().all(|verdict| verdict == "503"), "{verdicts:?}");
            assert!(took < Duration::from_secs(3), "{away:?} {table}: {took:?}");
        }
        application.batch_execute("commit").await.unwrap();
        assert_taken_soon(&app, "ann", "p1", "counted 2").await;
    }
}
