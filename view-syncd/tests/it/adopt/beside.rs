//! Adoption beside daemons, locks, and whatever else goes on.

use std::time::Duration;

use testkit::{SOON, eventually, posts::ledger_viewers};
use tokio_postgres::Client;

use super::{adopt, counted, last_line, origin, view};
use crate::support::World;

const ARRAY: [&str; 2] = ["--from-array", "views"];

async fn insert(sql: &Client, post: &str, author: &str, viewers: &str, count: i32) {
    let statement = r#"insert into "Post" (id, "authorId", views, views_count) values ($1, $2, $3::text::text[], $4)"#;
    sql.execute(statement, &[&post, &author, &viewers, &count]).await.unwrap();
}

#[tokio::test]
async fn what_redis_knows_of_a_post_is_right_at_once() {
    let world = origin().await;
    // A count of its own, none, one that the array explains, and one with more viewers than are brought with a view.
    insert(&world.sql, "old", "ann", "{boris,clara}", 100).await;
    insert(&world.sql, "fresh", "ann", "{boris,clara}", 0).await;
    insert(&world.sql, "exact", "ann", "{boris,clara,dora}", 3).await;
    insert(&world.sql, "big", "ann", "{}", 0).await;
    insert(&world.sql, "read", "ann", "{boris}", 0).await;
    let many = r#"update "Post" set views = (select array_agg('u' || n) from generate_series(1, 1800) n) where id = 'big'"#;
    world.sql.batch_execute(many).await.unwrap();
    let (_ingest, client) = world.ingest().await;
    let daemon = world.patient_daemon().await;
    // One of them is in the array, and is in the outbox when that is adopted.
    for (post, viewer, count) in [
        ("old", "eve", 101),
        ("old", "clara", 102),
        ("fresh", "clara", 1),
        ("exact", "eve", 4),
        ("exact", "dora", 5),
        ("big", "u7", 1),
    ] {
        assert_eq!(view(&client, post, viewer).await, ("counted".to_owned(), count), "{post}");
    }
    assert_eq!(client.get("/posts/read/views").await.json()["viewsCount"], 0);
    let told = "posts 5 · pairs 1808 · new 1808 · author's own 0 · no viewer 0 · unknown post 0 · do not fit 0";
    assert_eq!(adopt(&world, &ARRAY).await, (Some(0), told.to_owned()));
    for (post, viewer) in [
        ("old", "boris"),
        ("fresh", "boris"),
        ("exact", "boris"),
        ("big", "u1"),
        ("big", "u1800"),
        ("read", "boris"),
        ("old", "clara"),
    ] {
        assert_eq!(view(&client, post, viewer).await.0, "duplicate", "{post} {viewer}");
    }
    // What is pending counts once: the base of the old counts has those whom the array names.
    for (post, count) in [("old", 101), ("fresh", 2), ("exact", 4), ("big", 1_800), ("read", 1)] {
        let live = client.get(&format!("/posts/{post}/views")).await.json()["viewsCount"].as_i64().unwrap();
        assert_eq!(live, count, "{post}: {:?}", world.meta(post).await);
    }
    assert_eq!(view(&client, "big", "nobody").await, ("counted".to_owned(), 1_801));
    daemon.signal("HUP");
    daemon.wait_for_nth_line(2, "Sync completed").await;
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    let expected =
        [("old", [101, 98, 3]), ("fresh", [2, 0, 2]), ("exact", [4, 0, 4]), ("big", [1_801, 0, 1_801]), ("read", [1, 0, 1])];
    for (post, all) in expected {
        assert_eq!(counted(&world, post).await, all, "{post}");
        assert_eq!(world.live(post).await, all[0], "{post}");
    }
}

#[tokio::test]
async fn counts_by_the_ledger_are_the_ledgers_everywhere() {
    let world = origin().await;
    insert(&world.sql, "p1", "ann", "{boris,clara}", 12_345).await;
    insert(&world.sql, "p2", "ann", "{}", 7).await;
    insert(&world.sql, "p3", "ann", "{boris}", 0).await;
    let (_ingest, client) = world.ingest().await;
    assert_eq!(view(&client, "p1", "eve").await, ("counted".to_owned(), 12_346));
    assert!(world.command("sync").start().wait_exit().await.success());
    let told = "posts 2 · pairs 3 · new 3 · author's own 0 · no viewer 0 · unknown post 0 · do not fit 0".to_owned();
    let ledger = [&ARRAY[..], &["--count", "ledger"]].concat();
    assert_eq!(adopt(&world, &ledger).await, (Some(0), told));
    let all = [counted(&world, "p1").await, counted(&world, "p2").await, counted(&world, "p3").await];
    assert_eq!(all, [[3, 0, 3], [0, 0, 0], [1, 0, 1]]);
    assert_eq!(view(&client, "p1", "boris").await, ("duplicate".to_owned(), 3));
}

#[tokio::test]
async fn locked_posts_are_told_and_cost_only_themselves() {
    let world = origin().await;
    for (post, count) in [("p1", 0), ("p2", 0), ("p3", 0)] {
        insert(&world.sql, post, "ann", "{boris,clara}", count).await;
    }
    let mut other = world.database.client().await;
    let lock = other.transaction().await.unwrap();
    lock.batch_execute(r#"select from "Post" where id = 'p2' for update"#).await.unwrap();
    let adopting = world.command("adopt").args(ARRAY).start();
    eventually("the others are adopted", SOON, async || counted(&world, "p3").await == [2, 0, 2]).await;
    assert_eq!(counted(&world, "p1").await, [2, 0, 2]);
    assert_eq!(adopting.wait_exit().await.code(), Some(1), "{:?}", adopting.output());
    assert_eq!(adopting.lines_with("(p2)").len(), 1, "{:?}", adopting.output());
    assert!(last_line(&adopting).contains("· new 4 ·"), "{:?}", adopting.output());
    // Whoever locks it for a moment only is waited for.
    let adopting = world.command("adopt").args(ARRAY).start();
    adopting.wait_for_line("trying again for a while").await;
    lock.rollback().await.unwrap();
    assert_eq!(adopting.wait_exit().await.code(), Some(0), "{:?}", adopting.output());
    assert_eq!(counted(&world, "p2").await, [2, 0, 2]);
}

#[tokio::test]
async fn what_the_ledger_refuses_does_not_fit_and_stops_nothing() {
    let world = origin().await;
    let rules = r#"
        create table people (id text primary key); insert into people select 'u' || n from generate_series(1, 300) n;
        alter table post_views add constraint people foreign key (user_id) references people,
          add constraint no_robots check (user_id not in ('u13', 'u113'));
        insert into "Post" (id, "authorId", views) select 'p' || p, null, (select array_agg('u' || u) from generate_series(1, 10) u)
          from generate_series(1, 40) p;
        insert into "Post" (id, "authorId", views) values ('many', null, (select array_agg('u' || u) from generate_series(1, 310) u))"#;
    world.sql.batch_execute(rules).await.unwrap();
    let told = "posts 41 · pairs 710 · new 698 · author's own 0 · no viewer 0 · unknown post 0 · do not fit 12".to_owned();
    assert_eq!(adopt(&world, &ARRAY).await, (Some(0), told));
    assert_eq!((counted(&world, "many").await, counted(&world, "p7").await), ([298, 0, 298], [10, 0, 10]));
    // A table that takes nothing is no fault of its pairs.
    let closed = r#"truncate post_views; alter table post_views add constraint closed check (false)"#;
    world.sql.batch_execute(closed).await.unwrap();
    let adopting = world.command("adopt").args(ARRAY).start();
    assert_eq!(adopting.wait_exit().await.code(), Some(1), "{:?}", adopting.output());
    assert!(!adopting.lines_with("closed").is_empty(), "{:?}", adopting.output());
}

#[tokio::test]
async fn what_is_refused_for_a_while_is_left_and_told_and_costs_only_itself() {
    let world = origin().await;
    // A trigger for one post and a rule about counts for another: neither is a fault of the viewers.
    let maintenance = r#"
        create function no() returns trigger language plpgsql as $$begin raise exception 'maintenance'; end$$;
        create trigger no before update on "Post" for each row when (new.id = 'p2') execute function no();
        insert into "Post" (id, "authorId", views) values
          ('p2', null, '{u1,u2}'), ('p3', null, '{u1,u2}'), ('p8', null, '{u1}'), ('p9', null, '{u1,u2,u3}');
        alter table "Post" add constraint few check (views_count < 3)"#;
    world.sql.batch_execute(maintenance).await.unwrap();
    let adopting = world.command("adopt").args(ARRAY).start();
    assert_eq!(adopting.wait_exit().await.code(), Some(1), "{:?}", adopting.output());
    assert!(last_line(&adopting).ends_with("do not fit 0"), "{:?}", adopting.output());
    for told in ["maintenance", "few", "(p2, p9)"] {
        assert_eq!(adopting.lines_with(told).len(), 1, "{told}: {:?}", adopting.output());
    }
    assert_eq!((counted(&world, "p8").await, counted(&world, "p3").await), ([1, 0, 1], [2, 0, 2]));
    assert_eq!((counted(&world, "p2").await[2], counted(&world, "p9").await[2]), (0, 0));
    // Whatever is over while it is tried again is over.
    let adopting = world.command("adopt").args(ARRAY).start();
    adopting.wait_for_line("trying again for a while").await;
    world.sql.batch_execute(r#"drop trigger no on "Post"; alter table "Post" drop constraint few"#).await.unwrap();
    assert_eq!(adopting.wait_exit().await.code(), Some(0), "{:?}", adopting.output());
    assert!(last_line(&adopting).contains("· new 5 ·"), "{:?}", adopting.output());
    // A pair that somebody stores in the moment before it is stored is theirs to count, and costs only itself.
    let racing = r#"
        create function faster() returns trigger language plpgsql as $$begin
          if pg_trigger_depth() = 1 then insert into post_views values (new.*); end if; return new; end$$;
        create trigger faster before insert on post_views for each row when (new.user_id = 'u7') execute function faster();
        update "Post" set views = views || '{u7,u8}' where id = 'p3'"#;
    world.sql.batch_execute(racing).await.unwrap();
    let (status, told) = adopt(&world, &ARRAY).await;
    assert!(status == Some(0) && told.contains("· new 1 ·"), "{told}");
    assert_eq!(counted(&world, "p3").await, [3, 0, 4]);
    assert_eq!((counted(&world, "p2").await, counted(&world, "p9").await), ([2, 0, 2], [3, 0, 3]));
}

#[tokio::test]
async fn a_table_of_counts_and_posts_without_authors_are_adopted_too() {
    let world = World::new().await;
    let tables = "create table notes (id int primary key); insert into notes values (1), (2), (3);
        create table seen (note int, who bigint); insert into seen values (1, 7), (1, 8), (2, 7), (9, 7)";
    world.sql.batch_execute(tables).await.unwrap();
    let program = |command: &str| {
        let names =
            [("POSTS_TABLE", "notes"), ("AUTHOR_COLUMN", ""), ("COUNT_TABLE", "note_counts"), ("LEDGER_TABLE", "note_views")];
        let all = names.iter().fold(world.command(command), |program, (name, value)| program.env(name, value));
        all.env("REDIS_PREFIX", "notes:")
    };
    let migrated = program("migrate").start();
    assert!(migrated.wait_exit().await.success(), "{:?}", migrated.output());
    let adopting = program("adopt").args(["--from-table", "seen(note,who)"]).start();
    assert_eq!(adopting.wait_exit().await.code(), Some(0), "{:?}", adopting.output());
    let told = "posts 2 · pairs 4 · new 3 · author's own 0 · no viewer 0 · unknown post 1 · do not fit 0";
    assert_eq!(last_line(&adopting), told);
    let counts = world.sql.query("select post_id, views from note_counts where views > 0 order by 1", &[]).await.unwrap();
    assert_eq!(counts.iter().map(|row| (row.get(0), row.get(1))).collect::<Vec<(i32, i64)>>(), [(1, 2), (2, 1)]);
}

#[tokio::test]
async fn a_killed_adoption_is_finished_by_the_next() {
    let world = origin().await;
    let posts = r#"insert into "Post" (id, "authorId", views, views_count) select 'p' || n, null,
          (select array_agg('u' || v) from generate_series(1, 1000) v), case when n % 2 = 0 then 1500 else 0 end from generate_series(1, 60) n"#;
    world.sql.batch_execute(posts).await.unwrap();
    let (_ingest, client) = world.ingest().await;
    assert_eq!(view(&client, "p60", "u5").await, ("counted".to_owned(), 1_501));
    let adopting = world.command("adopt").args(ARRAY).start();
    let rows = "select count(*) from post_views";
    eventually("some are adopted", SOON, async || world.sql.query_one(rows, &[]).await.unwrap().get::<_, i64>(0) > 0).await;
    adopting.kill9().await;
    let before: i64 = world.sql.query_one(rows, &[]).await.unwrap().get(0);
    let (status, told) = adopt(&world, &ARRAY).await;
    assert!(status == Some(0) && told.starts_with("posts 60 · pairs 60000 · new "), "{told}");
    assert!(before < 60_000, "it was killed in time");
    for (post, all) in [("p1", [1_000, 0, 1_000]), ("p60", [1_500, 500, 1_000])] {
        assert_eq!(counted(&world, post).await, all);
    }
    assert_eq!(ledger_viewers(&world.sql, "p59").await.len(), 1_000);
    assert_eq!(view(&client, "p60", "u999").await.0, "duplicate");
    assert!(adopt(&world, &ARRAY).await.1.contains("· new 0 ·"));
    tokio::time::timeout(Duration::from_secs(60), async { assert!(world.command("sync").start().wait_exit().await.success()) })
        .await
        .unwrap();
    assert_eq!((counted(&world, "p60").await, world.live("p60").await), ([1_500, 500, 1_000], 1_500));
}
