//! Redis away, and a PostgreSQL that refuses rows: each refused view fails alone, and only what refuses all is an outage.

use std::time::Duration;

use testkit::{
    SOON, eventually,
    posts::{ledger_count, ledger_viewers},
};

use crate::{
    away::{Away, Polls, assert_at_once, durable_world, views},
    support::{Ingest, World},
};

/// What the application refuses a viewer for.
const REFUSE_ONE: &str = "create function refuse() returns trigger language plpgsql as
    $$ begin if new.user_id = 'robot' then raise exception 'no robots'; end if; return new; end $$;
    create trigger refuse before insert on post_views for each row execute function refuse()";
pub(crate) const REFUSE_ALL: &str = "create function refuse() returns trigger language plpgsql as
    $$ begin raise exception 'closed for maintenance'; end $$;
    create trigger refuse before insert on post_views for each row execute function refuse()";

async fn world() -> World {
    let world = durable_world().await;
    for post in ["p", "q"] {
        world.post_of(post, "author").await;
        world.store(post, &["old".to_owned()]).await;
    }
    world
}

/// Good and bad viewers of a post at once; all good ones are counted, and only the bad ones are refused.
async fn assert_only_bad_ones_refused(app: &Ingest, post: &str, good: &[String], bad: &[String]) {
    // A bad one comes first, before any that would show that the table is well.
    let everyone: Vec<&String> = good.iter().zip(bad).flat_map(|(good, bad)| [bad, good]).collect();
    let rest = good.iter().skip(bad.len()).chain(bad.iter().skip(good.len()));
    let everyone: Vec<&String> = everyone.into_iter().chain(rest).collect();
    let (verdicts, took) = views(app, everyone.iter().map(|viewer| ((*viewer).clone(), post.to_owned()))).await;
    assert_at_once(took, "some viewers are refused");
    for (viewer, verdict) in everyone.iter().zip(&verdicts) {
        let expected = if bad.contains(viewer) { "503" } else { "counted" };
        assert!(verdict.starts_with(expected), "{viewer}: {verdict} {verdicts:?}");
    }
}

fn named(name: &str, number: usize) -> Vec<String> {
    (0..number).map(|viewer| format!("{name}-{viewer}")).collect()
}

#[tokio::test]
async fn one_viewer_whom_a_check_refuses_is_refused_alone() {
    for away in Away::ALL {
        for rule in ["alter table post_views add constraint no_robots check (user_id <> 'robot')", REFUSE_ONE] {
            let world = world().await;
            world.sql().batch_execute(rule).await.unwrap();
            let app = world.ingest().await;
            away.begin(&world, &app).await;
            eventually("it is ready", SOON, || async { app.admin.get("/readyz").await.status == 200 }).await;
            let polls = Polls::begin(&app.admin);
            assert_only_bad_ones_refused(&app, "p", &named("viewer", 50), &["robot".to_owned()]).await;
            for _ in 0..10 {
                assert_eq!(app.verdict("robot", "p").await, "503", "{away:?} {rule}");
            }
            assert_eq!(app.verdict("old", "p").await, "duplicate 51");
            assert_eq!(app.verdict("author", "p").await, "own 51");
            assert_eq!(app.count("p").await, 51);
            polls.assert_all(200).await;
            assert_eq!(ledger_count(world.sql(), "p").await, 51);
            assert_eq!(world.posts.views_count(world.sql(), "p").await, 51);
        }
    }
}

#[tokio::test]
async fn a_partition_that_is_missing_and_a_count_that_is_full_refuse_their_posts_alone() {
    let partition = "alter table post_views rename to other;
        create table post_views (like other including defaults, primary key (post_id, user_id)) partition by list (post_id);
        create table part partition of post_views for values in ('q', 'past-0', 'past-1', 'past-2', 'past-3', 'past-4', 'past-5',
            'past-6', 'past-7');
        insert into post_views values ('q', 'old')";
    for (rule, old, end) in [
        (partition, "503", "create table others partition of post_views default"),
        ("update posts set views_count = 2147483647 where id = 'p'", "duplicate 2147483647", "update posts set views_count = 1"),
    ] {
        let world = world().await;
        world.sql().batch_execute(rule).await.unwrap();
        let app = world.ingest().await;
        Away::Dead.begin(&world, &app).await;
        eventually("it is ready", SOON, || async { app.admin.get("/readyz").await.status == 200 }).await;
        let polls = Polls::begin(&app.admin);
        let everyone =
            named("viewer", 50).into_iter().flat_map(|viewer| ["p", "q"].map(|post| (viewer.clone(), post.to_owned())));
        for (number, verdict) in views(&app, everyone).await.0.iter().enumerate() {
            let expected = if number % 2 == 0 { "503" } else { "counted" };
            assert!(verdict.starts_with(expected), "{number} {verdict}");
        }
        assert_eq!(app.verdict("old", "p").await, old);
        assert!(app.verdict("author", "p").await.starts_with("own"));
        app.count("p").await;
        polls.assert_all(200).await;
        world.sql().batch_execute(end).await.unwrap();
        assert!(app.verdict("viewer-0", "p").await.starts_with("counted"));
    }
}

/// A rule that came later refuses the row of somebody who was stored before.
#[tokio::test]
async fn a_viewer_who_is_stored_is_a_duplicate_although_a_rule_refuses_him_by_now() {
    let world = world().await;
    world.store("p", &["robot".to_owned()]).await;
    let rule = "alter table post_views add constraint no_robots check (user_id <> 'robot') not valid";
    world.sql().batch_execute(rule).await.unwrap();
    let app = world.ingest().await;
    Away::Dead.begin(&world, &app).await;
    assert_eq!(app.verdict("robot", "p").await, "duplicate 2");
    assert_eq!(app.verdict("robot", "q").await, "503");
    let together = ["robot", "ann", "old"].map(|viewer| (viewer.to_owned(), "p".to_owned()));
    let verdicts = views(&app, together).await.0;
    // How many batches they made is the machine's affair.
    assert!(verdicts[0].starts_with("duplicate") && verdicts[2].starts_with("duplicate"), "{verdicts:?}");
    assert_eq!(verdicts[1], "counted 3");
}

#[tokio::test]
async fn a_foreign_key_that_half_of_the_viewers_miss_refuses_just_these() {
    assert_strangers_refused("").await;
}

#[tokio::test]
async fn so_does_one_that_is_checked_at_the_end() {
    assert_strangers_refused("deferrable initially deferred").await;
}

async fn assert_strangers_refused(when: &str) {
    let world = world().await;
    let users = "create table users (id text primary key);
        insert into users select unnest(array['old']);
        insert into users select 'user-' || i from generate_series(0, 499) i;
        alter table post_views add foreign key (user_id) references users (id)";
    world.sql().batch_execute(&format!("{users} {when}")).await.unwrap();
    let app = world.ingest().await;
    world.sql().execute("insert into users values ($1)", &[&app.address.to_string()]).await.unwrap();
    Away::Dead.begin(&world, &app).await;
    for round in 0..20 {
        let post = format!("r{round}");
        world.post_of(&post, "author").await;
        // Nothing that is stored tells that the table takes anybody.
        world.sql().batch_execute("delete from post_views").await.unwrap();
        let polls = Polls::begin(&app.admin);
        assert_only_bad_ones_refused(&app, &post, &named("user", 25), &named("stranger", 25)).await;
        polls.assert_all(200).await;
        assert_eq!(ledger_viewers(world.sql(), &post).await.len(), 25);
        assert_eq!(world.posts.views_count(world.sql(), &post).await, 25);
    }
    world.post_of("large", "author").await;
    let (verdicts, took) =
        views(&app, named("user", 300).into_iter().chain(named("alien", 300)).map(|viewer| (viewer, "large".to_owned()))).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    for (number, verdict) in verdicts.iter().enumerate() {
        let expected = if number < 300 { "counted" } else { "503" };
        assert!(verdict.starts_with(expected), "{number} {verdict}");
    }
}

#[tokio::test]
async fn one_post_that_is_refused_is_refused_alone() {
    for rule in [
        "alter table posts add constraint enough check (id <> 'p' or views_count < 2)",
        "create function enough() returns trigger language plpgsql as
            $$ begin if new.id = 'p' then raise exception 'not this one'; end if; return new; end $$;
        create trigger enough before update on posts for each row execute function enough()",
    ] {
        let world = world().await;
        world.sql().batch_execute(rule).await.unwrap();
        let app = world.ingest().await;
        Away::Dead.begin(&world, &app).await;
        eventually("it is ready", SOON, || async { app.admin.get("/readyz").await.status == 200 }).await;
        let polls = Polls::begin(&app.admin);
        let everyone =
            named("viewer", 50).into_iter().flat_map(|viewer| ["p", "q"].map(|post| (viewer.clone(), post.to_owned())));
        let (verdicts, took) = views(&app, everyone).await;
        assert!(took < Duration::from_secs(3), "{took:?}");
        for (number, verdict) in verdicts.iter().enumerate() {
            let expected = if number % 2 == 0 { "503" } else { "counted" };
            assert!(verdict.starts_with(expected), "{number} {verdict}");
        }
        assert_eq!(app.verdict("old", "p").await, "duplicate 1");
        assert_eq!(app.count("p").await, 1);
        polls.assert_all(200).await;
    }
}

#[tokio::test]
async fn a_rule_that_refuses_everybody_is_an_outage_until_it_is_gone() {
    for away in Away::ALL {
        for (rule, end) in [
            (REFUSE_ALL, "drop trigger refuse on post_views"),
            (
                "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'closed'; end $$;
                create trigger refuse before update on posts for each row execute function refuse()",
                "drop trigger refuse on posts",
            ),
            (
                "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'closed'; end $$;
                create constraint trigger refuse after insert on post_views deferrable initially deferred
                    for each row execute function refuse()",
                "drop trigger refuse on post_views",
            ),
        ] {
            let world = world().await;
            let app = world.ingest().await;
            away.begin(&world, &app).await;
            eventually("it is ready", SOON, || async { app.admin.get("/readyz").await.status == 200 }).await;
            world.sql().batch_execute(rule).await.unwrap();
            let everyone = named("viewer", 50).into_iter().map(|viewer| (viewer, "p".to_owned()));
            let (verdicts, took) = views(&app, everyone).await;
            assert_at_once(took, "nothing is taken");
            assert!(verdicts.iter().all(|verdict| verdict == "503"), "{away:?} {verdicts:?}");
            let polls = Polls::begin(&app.admin);
            for _ in 0..10 {
                assert_eq!(app.verdict("ann", "q").await, "503");
                assert_eq!(app.verdict("old", "q").await, "duplicate 1", "{away:?}");
                assert_eq!(app.verdict("author", "q").await, "own 1");
                assert_eq!(app.count("q").await, 1);
            }
            // Long enough for whoever takes silence for health.
            tokio::time::sleep(Duration::from_secs(7)).await;
            polls.assert_all(503).await;
            world.sql().batch_execute(end).await.unwrap();
            // Nobody views anything.
            eventually("it is ready", SOON, || async { app.admin.get("/readyz").await.status == 200 }).await;
            assert_eq!(app.verdict("ann", "q").await, "counted 2");
        }
    }
}
