//! What is read from a source, and what becomes of each pair.

use testkit::{
    postgres,
    posts::{IdType, PostsTable, ledger_viewers},
    redis::RedisServer,
};

use super::{adopt, counted, origin};
use crate::support::World;

const ANNA: &str = "550e8400-e29b-41d4-a716-446655440000";

#[tokio::test]
async fn the_origins_arrays_become_the_ledger_and_a_second_run_changes_nothing() {
    let world = origin().await;
    let posts = r#"insert into "Post" (id, "authorId", views, views_count) values
        ('p1', 'ann', '{boris,clara,ann,boris,NULL}', 0),
        ('p2', 'boris', '{550E8400E29B41D4A716446655440000,550e8400-e29b-41d4-a716-446655440000,"two words",дана}', 12345),
        ('p3', null, '{}', 7), ('p4', null, null, 8), ('p.5', null, '{boris}', 0)"#;
    world.sql.batch_execute(posts).await.unwrap();
    let told = "posts 3 · pairs 10 · new 3 · author's own 1 · no viewer 1 · unknown post 0 · do not fit 3";
    assert_eq!(adopt(&world, &["--from-array", "views", "--dry-run"]).await, (Some(0), told.to_owned()));
    assert_eq!((counted(&world, "p1").await, counted(&world, "p2").await), ([0, 0, 0], [12_345, 0, 0]), "nothing is changed");
    assert_eq!(adopt(&world, &["--from-array", "views"]).await, (Some(0), told.to_owned()));
    assert_eq!(ledger_viewers(&world.sql, "p1").await, ["boris", "clara"]);
    assert_eq!(ledger_viewers(&world.sql, "p2").await, [ANNA]);
    let all = async || [counted(&world, "p1").await, counted(&world, "p2").await, counted(&world, "p3").await];
    assert_eq!(all().await, [[2, 0, 2], [12_345, 12_344, 1], [7, 0, 0]]);
    let again = told.replace("new 3", "new 0");
    for more in [&[][..], &["--dry-run"]] {
        assert_eq!(adopt(&world, &[&["--from-array", "views"], more].concat()).await, (Some(0), again.clone()));
        assert_eq!(all().await, [[2, 0, 2], [12_345, 12_344, 1], [7, 0, 0]]);
    }
    let json = adopt(&world, &["--from-array", "views", "--json"]).await.1;
    let expected = r#"{"posts":3,"pairs":10,"new":0,"own":1,"no_viewer":1,"unknown_post":0,"do_not_fit":3,"repeated":5,"left":0,"posts_left":0,"dry_run":false}"#;
    assert_eq!(json, expected);
}

#[tokio::test]
async fn arrays_of_every_type_are_read() {
    let two = ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"];
    let uuids = format!("{{{},{}}}", two[0], two[1]);
    let cases = [
        (IdType::Uuid, "text[]", format!("{{{},{},x,7}}", two[0].to_uppercase(), two[1].replace('-', "")), 2, 2),
        (IdType::Uuid, "uuid[]", uuids.clone(), 2, 0),
        (IdType::Text, "uuid[]", uuids.clone(), 2, 0),
        (IdType::Varchar, "varchar(80)[]", format!("{{{},{}}}", two[0], "x".repeat(65)), 1, 1),
        (IdType::Text, "char(40)[]", uuids.clone(), 2, 0),
        (IdType::Bigint, "int[]", "{1,2,-3,2147483647}".to_owned(), 4, 0),
        (IdType::Bigint, "text[]", "{1,007,9223372036854775808,-9223372036854775808,x}".to_owned(), 2, 3),
        (IdType::Bigint, "jsonb", r#"[1, "2", 3.0, true, {"id": 4}, [5], 6e2, 1e30]"#.to_owned(), 3, 5),
        (IdType::Text, "bigint[]", "{1,2}".to_owned(), 2, 0),
        (IdType::Text, "jsonb", r#"["a", 7, 7.5, "", false, "b c"]"#.to_owned(), 2, 4),
        (IdType::Uuid, "jsonb", format!(r#"["{}", 7]"#, two[0]), 1, 1),
        (IdType::Text, "jsonb", r#"{"a": 1}"#.to_owned(), 0, 1),
        (IdType::Text, "jsonb", "null".to_owned(), 0, 0),
    ];
    let server = std::sync::Arc::new(RedisServer::start().await);
    for (id_type, array, value, new, unfit) in cases {
        let database = postgres::shared().await.database().await;
        let world = World::with_stores(std::sync::Arc::clone(&server), database, PostsTable::with_ids(id_type)).await;
        let post = match id_type {
            IdType::Bigint => "70",
            _ => "00000000-0000-4000-8000-000000000070",
        };
        let column = format!("alter table posts add column seen {array}");
        world.sql.batch_execute(&column).await.unwrap();
        world.posts.insert_post(&world.sql, post, None).await;
        world.sql.execute(&format!("update posts set seen = $1::text::{array}"), &[&value]).await.unwrap();
        let (status, told) = adopt(&world, &["--from-array", "seen"]).await;
        let told = (told.contains(&format!("· new {new} ·")), told.ends_with(&format!("do not fit {unfit}")), told);
        assert!(status == Some(0) && told.0 && told.1, "{array} {value}: {told:?}");
        assert_eq!(world.stored(post).await, new, "{array}");
        let _: () = fred::interfaces::KeysInterface::del(&world.redis, "views:owner").await.unwrap();
    }
}

#[tokio::test]
async fn tables_of_any_name_with_and_without_an_index_are_read() {
    let world = World::new().await;
    let tables = r#"
        insert into posts (id, author_id, views_count) values (7, 1, 0), (8, 2, 10), (9, null, 0);
        create schema "Odd";
        create table "Odd"."_Viewed(Posts)" ("A" bigint, "B, or so" text, "seen at" timestamp);
        insert into "Odd"."_Viewed(Posts)" values (7, '1', null), (7, '2', '2020-01-02 03:04:05'), (7, '2', '2019-01-02 03:04:05'),
          (8, '3', null), (8, null, null), (null, '3', null), (null, null, null), (4711, '3', null), (4711, null, null), (9, 'x', null);
        create table topic_users (topic_id integer, user_id integer, primary key (topic_id, user_id));
        insert into topic_users values (7, 2), (7, 5), (8, 5), (10, 5);
        create table likes (post varchar(20), who numeric); create index on likes (post);
        insert into likes values ('7', 6), ('x', 6), ('007', 6), ('8', 6.5);
        create view visits as select post, who, now() as at from likes"#;
    world.sql.batch_execute(tables).await.unwrap();
    let odd = r#""Odd"."_Viewed(Posts)"("A","B, or so","seen at")"#;
    let told = "posts 3 · pairs 10 · new 2 · author's own 1 · no viewer 3 · unknown post 2 · do not fit 1".to_owned();
    assert_eq!(adopt(&world, &["--from-table", odd, "--dry-run"]).await, (Some(0), told.clone()));
    assert_eq!(adopt(&world, &["--from-table", odd]).await, (Some(0), told));
    let at = "select extract(year from viewed_at)::int from post_views where post_id = 7";
    assert_eq!(world.sql.query_one(at, &[]).await.unwrap().get::<_, i32>(0), 2019, "the earliest of two");
    let told = "posts 2 · pairs 4 · new 2 · author's own 0 · no viewer 0 · unknown post 1 · do not fit 0".to_owned();
    assert_eq!(adopt(&world, &["--from-table", "topic_users(topic_id,user_id)"]).await, (Some(0), told));
    for (name, new) in [("likes(post,who)", 1), ("visits(post,who,at)", 0)] {
        let told = format!("posts 2 · pairs 4 · new {new} · author's own 0 · no viewer 0 · unknown post 2 · do not fit 1");
        assert_eq!(adopt(&world, &["--from-table", name]).await, (Some(0), told));
    }
    let all = [counted(&world, "7").await, counted(&world, "8").await, counted(&world, "9").await];
    assert_eq!(all, [[3, 0, 3], [10, 8, 2], [0, 0, 0]]);
}

#[tokio::test]
async fn what_cannot_be_a_source_is_told_with_a_status_of_its_own() {
    let world = origin().await;
    world.sql.batch_execute("create table odd (post text, viewer bytea, at text)").await.unwrap();
    for (arguments, code, what) in [
        (&["--from-array", "vues"][..], 78, "has no column \"vues\""),
        (&["--from-array", "id"], 78, "is needed: make a view that has a row for each pair"),
        (&["--from-table", "nothing(a,b)"], 78, "there is no table \"nothing\""),
        (&["--from-table", "odd(post,viewer)"], 78, "is of type bytea"),
        (&["--from-table", "odd(post,post,at)"], 78, "where a timestamp or a date is needed: leave the time out"),
        (&["--from-table", "odd"], 64, "NAME(post,viewer)"),
        (&["--from-table", "odd(post)"], 64, "NAME(post,viewer)"),
        (&[], 64, "--from-array"),
        (&["--from-array", "views", "--from-table", "odd(post,at)"], 64, "cannot be used with"),
        (&["--from-array", "views", "--count", "none"], 64, "--count"),
    ] {
        let adopt = world.command("adopt").args(arguments).start();
        assert_eq!(adopt.wait_exit().await.code(), Some(code), "{arguments:?}: {:?}", adopt.output());
        assert!(adopt.output().join("\n").contains(what), "{arguments:?}: {:?}", adopt.output());
    }
    world.sql.batch_execute("drop table post_views_base").await.unwrap();
    let adopt = world.command("adopt").args(["--from-array", "views"]).start();
    assert_eq!(adopt.wait_exit().await.code(), Some(78));
    assert_eq!(adopt.lines_with("run `view-syncd migrate`").len(), 1, "{:?}", adopt.output());
}

#[tokio::test]
async fn a_role_that_may_not_copy_the_source_is_told_what_does_without() {
    let world = World::new().await;
    world.post("7").await;
    assert!(world.command("migrate").start().wait_exit().await.success());
    let name = world.database.name();
    let role = format!("copier_{name}");
    let rights = format!(
        "create table likes (post bigint, viewer bigint); insert into likes values (7, 1), (7, 2);
         revoke temporary on database {name} from public;
         create role {role} login; grant all on all tables in schema public to {role}"
    );
    world.sql.batch_execute(&rights).await.unwrap();
    let url = world.database.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
    let adopt = || world.command("adopt").env("DATABASE_URL", &url).args(["--from-table", "likes(post,viewer)"]).start();
    let refused = adopt();
    assert_eq!(refused.wait_exit().await.code(), Some(78), "{:?}", refused.output());
    let grant = format!("make that index, or GRANT TEMPORARY ON DATABASE {name} TO {role}");
    assert_eq!(refused.lines_with(&grant).len(), 1, "{:?}", refused.output());
    world.sql.batch_execute("create index on likes (post)").await.unwrap();
    let done = adopt();
    assert!(done.wait_exit().await.success(), "{:?}", done.output());
    assert_eq!(world.stored("7").await, 2);
}

#[tokio::test]
async fn a_post_with_many_viewers_is_cut_and_counts_once() {
    let world = origin().await;
    let posts = r#"insert into "Post" (id, "authorId", views) select 'p' || n, null,
          (select array_agg('u' || v) from generate_series(1, case n when 3 then 120000 else 5 end) v) from generate_series(1, 5) n;
        create table seen as select id as post, unnest(views) as viewer from "Post";
        update "Post" set views_count = 50000 where id = 'p3'; update "Post" set views_count = 3 where id = 'p2'"#;
    world.sql.batch_execute(posts).await.unwrap();
    let told = "posts 5 · pairs 120020 · new 120020 · author's own 0 · no viewer 0 · unknown post 0 · do not fit 0".to_owned();
    for source in [["--from-array", "views"], ["--from-table", "seen(post,viewer)"]] {
        assert_eq!(adopt(&world, &[&source[..], &["--dry-run"]].concat()).await, (Some(0), told.clone()));
    }
    assert_eq!(adopt(&world, &["--from-array", "views"]).await, (Some(0), told.clone()));
    for (post, expected) in [("p3", 120_000), ("p4", 5), ("p2", 5)] {
        assert_eq!(counted(&world, post).await, [expected, 0, expected], "{post}");
    }
    let again = told.replace("new 120020", "new 0");
    assert_eq!(adopt(&world, &["--from-table", "seen(post,viewer)"]).await, (Some(0), again));
}
