//! `view-syncd forget`: a viewer leaves no trace, and no count changes.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use fred::interfaces::{SetsInterface, StreamsInterface};
use serde_json::Value;
use testkit::{
    eventually, postgres,
    posts::{IdType, PostsTable},
    redis::RedisServer,
};
use views_core::ids::PostId;

use crate::support::World;

const SECONDS: Duration = Duration::from_secs(20);

async fn forget(world: &World, viewer: &str, env: &[(&str, &str)]) -> (Option<i32>, Value) {
    let (status, text, told) = world.run(&["forget", viewer, "--json"], env).await;
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text} {told}")))
}

impl World {
    /// Where a viewer is found.
    async fn traces(&self, viewer: &str) -> Vec<String> {
        let mut traces = Vec::new();
        let rows = self.sql.query("select post_id::text from post_views where user_id::text = $1", &[&viewer]).await.unwrap();
        traces.extend(rows.iter().map(|row| format!("ledger {}", row.get::<_, String>(0))));
        let posts = self.sql.query("select id::text from posts", &[]).await.unwrap();
        for post in posts.iter().map(|row| row.get::<_, String>(0)) {
            let key = self.keys.views(&PostId::parse(&post).unwrap());
            if self.redis.sismember(key, viewer).await.unwrap() {
                traces.push(format!("set {post}"));
            }
        }
        for stream in [self.keys.outbox(), self.keys.dead()] {
            let entries: Vec<(String, Vec<String>)> = self.redis.xrange(stream, "-", "+", None).await.unwrap();
            let has = |fields: &Vec<String>| fields.iter().skip(1).step_by(2).any(|field| field == viewer);
            traces.extend(entries.iter().filter(|(_, fields)| has(fields)).map(|(id, _)| format!("{stream} {id}")));
        }
        traces
    }

    async fn base_and_rows(&self, post: i64) -> (i64, i64) {
        let statement = "select coalesce((select base from post_views_base where post_id = $1), -1), (select count(*) from post_views where post_id = $1)";
        let row = self.sql.query_one(statement, &[&post]).await.unwrap();
        (row.get(0), row.get(1))
    }
}

#[tokio::test]
async fn a_viewer_leaves_no_trace_and_every_count_stays() {
    let world = Arc::new(World::new().await);
    for post in 1..=300 {
        world.post(&post.to_string()).await;
    }
    // Those that `migrate` has met have a base, and the others not yet.
    world.sql.batch_execute("update posts set views_count = 40 where id <= 100").await.unwrap();
    assert!(world.command("migrate").start().wait_exit().await.success());
    world.sql.batch_execute("delete from post_views_base where post_id > 200").await.unwrap();
    for (refused, says) in [("", "the id is empty"), ("a b", "a character that is not allowed"), (&"x".repeat(129), "too long")] {
        let (status, _, told) = world.run(&["forget", refused], &[]).await;
        assert!(status == Some(64) && told.contains(says), "{status:?} {told}");
    }
    let daemon = world.daemon().env("SYNC_LINGER", "100ms").env("SYNC_INTERVAL", "1s").start();
    daemon.wait_for_line("Sync completed").await;
    for post in 1..=290 {
        world.record(&post.to_string(), &["5", "6"]).await;
    }
    eventually("all is stored", SECONDS, async || world.outbox_length().await == 0).await;
    let count = async |post: i64| -> i64 {
        world.sql.query_one("select views_count::int8 from posts where id = $1", &[&post]).await.unwrap().get(0)
    };
    eventually("counts are told", SECONDS, async || (world.live("1").await == 42 && world.live("290").await == 2).then_some(()))
        .await;

    // What a dead letter, another's set and the outbox have.
    let fields = vec![("post", "1"), ("viewer", "5"), ("reason", "closed"), ("at", "1700000000123")];
    let _: String = world.redis.xadd(world.keys.dead(), false, None, "*", fields).await.unwrap();
    let before: HashMap<i64, (i64, i64)> = {
        let mut before = HashMap::new();
        for post in 1..=300 {
            before.insert(post, (count(post).await, world.live(&post.to_string()).await));
        }
        before
    };
    let stop = Arc::new(AtomicBool::new(false));
    let watch = {
        let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut looks = 0;
            while !stop.load(SeqCst) {
                for (post, views) in [("7", 42), ("150", 2), ("250", 2)] {
                    assert_eq!(world.live(post).await, views, "post {post}");
                }
                looks += 1;
            }
            looks
        })
    };
    world.record("299", &["5"]).await;
    let (status, receipt) = forget(&world, "5", &[]).await;
    assert_eq!(status, Some(0), "{receipt}");
    assert_eq!((receipt["ledger"].as_u64(), receipt["dead_letters"].as_u64()), (Some(291), Some(1)), "{receipt}");
    assert!(receipt["sets"].as_u64() >= Some(291), "{receipt}");
    stop.store(true, SeqCst);
    assert!(watch.await.unwrap() > 3);
    assert_eq!(world.traces("5").await, Vec::<String>::new());
    for post in (1..=290).step_by(17) {
        let (views, live) = (count(post).await, world.live(&post.to_string()).await);
        assert_eq!((views, live), before[&post], "post {post}");
        let (base, rows) = world.base_and_rows(post).await;
        assert_eq!((base + rows, rows), (views, 1), "post {post}");
        let [_, recorded, _] = world.meta(&post.to_string()).await;
        assert_eq!(
            world.redis.scard::<i64, _>(world.keys.views(&PostId::parse(&post.to_string()).unwrap())).await.unwrap(),
            recorded
        );
    }
    assert_eq!(world.base_and_rows(299).await, (1, 0));

    // Scans do not bring him back, and find nothing to do.
    world.add_by_hand("8", &["70"]).await;
    daemon.signal("HUP");
    eventually("the set is imported", SECONDS, async || world.base_and_rows(8).await == (41, 2)).await;
    assert_eq!(world.traces("5").await, Vec::<String>::new());
    let (status, text, told) = world.run(&["reconcile"], &[]).await;
    assert_eq!(status, Some(0), "{text}{told}");
    // Again changes nothing, and a new view is one.
    let (status, text, _) = world.run(&["forget", "5"], &[]).await;
    assert!(status == Some(0) && text.starts_with("erased: ledger 0 · sets 0 · outbox 0 · dead letters 0 · "), "{text}");
    world.record("7", &["5"]).await;
    eventually("the new view is stored", SECONDS, async || count(7).await == 43).await;

    // What a late drain stores again is taken back, and counts once: as if it came between two rounds.
    let late = "create table late (post_id bigint);
        create function store_late() returns trigger language plpgsql as $$ begin
          if old.post_id in (9, 250) and old.user_id = 7 and not exists (select from late where post_id = old.post_id) then
            insert into late values (old.post_id);
            insert into post_views values (old.post_id, 7, now() - interval '1 minute');
            update posts set views_count = views_count + 1 where id = old.post_id;
          end if; return null; end $$;
        create trigger late after delete on post_views for each row execute function store_late()";
    world.sql.batch_execute(late).await.unwrap();
    for post in ["9", "250"] {
        world.record(post, &["7"]).await;
    }
    eventually("they are stored", SECONDS, async || (count(9).await, count(250).await) == (43, 3)).await;
    let (status, receipt) = forget(&world, "7", &[]).await;
    assert_eq!((status, receipt["ledger"].as_u64()), (Some(0), Some(2)), "{receipt}");
    assert_eq!((count(9).await, count(250).await, world.traces("7").await), (43, 3, Vec::new()));
    eventually("the counts are told", SECONDS, async || {
        (world.live("9").await == 43 && world.live("250").await == 3).then_some(())
    })
    .await;

    // Who is locked is left, and told.
    let locker = world.database.client().await;
    locker.batch_execute("begin; select from posts where id in (3, 4) for update").await.unwrap();
    let (status, receipt) = forget(&world, "6", &[]).await;
    assert_eq!((status, receipt["left_posts"].as_u64(), receipt["ledger"].as_u64()), (Some(1), Some(2), Some(288)), "{receipt}");
    // Whom the ledger has still is known, so that his next view is none.
    let mut traces = world.traces("6").await;
    traces.sort_unstable();
    assert_eq!(traces, ["ledger 3", "ledger 4", "set 3", "set 4"], "{traces:?}");
    assert_eq!((world.live("3").await, world.live("4").await), (42, 42));
    locker.batch_execute("commit").await.unwrap();
    let (status, receipt) = forget(&world, "6", &[]).await;
    assert_eq!((status, receipt["ledger"].as_u64()), (Some(0), Some(2)), "{receipt}");
    assert_eq!(world.traces("6").await, Vec::<String>::new());
    assert_eq!((count(3).await, world.live("3").await, world.base_and_rows(3).await), (42, 42, (42, 0)));

    // What a trigger keeps is left, and told.
    let keep = "create function keep() returns trigger language plpgsql as $$ begin
          if old.post_id = 5 then return null; end if; return old; end $$;
        create trigger keep before delete on post_views for each row execute function keep()";
    world.sql.batch_execute(keep).await.unwrap();
    world.record("5", &["9"]).await;
    eventually("it is stored", SECONDS, async || world.outbox_length().await == 0).await;
    let (status, receipt) = forget(&world, "9", &[]).await;
    assert_eq!((status, receipt["left_posts"].as_u64(), receipt["sets"].as_u64()), (Some(1), Some(1), Some(0)), "{receipt}");
    assert_eq!(world.traces("9").await, ["ledger 5", "set 5"]);
}

#[tokio::test]
async fn what_is_pending_goes_through_the_ledger_and_a_drain_brings_nobody_back() {
    let world = World::new().await;
    for post in 1..=20 {
        world.post(&post.to_string()).await;
    }
    // Without a daemon, the command stores what is pending itself. One that leads and waits is not overtaken.
    for post in 1..=20 {
        world.record(&post.to_string(), &["5", "6"]).await;
    }
    let (status, receipt) = forget(&world, "5", &[]).await;
    assert_eq!((status, receipt["outbox"].as_u64(), receipt["ledger"].as_u64()), (Some(0), Some(20), Some(20)), "{receipt}");
    assert_eq!(world.traces("5").await, Vec::<String>::new());
    let daemon = world.patient_daemon().await;
    world.record("1", &["5"]).await;
    eventually("the daemon has read it", SECONDS, async || world.outbox_length().await == 1).await;
    let (status, receipt) = forget(&world, "5", &[]).await;
    assert_eq!((status, receipt["left_pairs"].as_u64()), (Some(1), Some(1)), "{receipt}");
    daemon.signal("HUP");
    eventually("it is stored", SECONDS, async || world.outbox_length().await == 0).await;
    assert_eq!(forget(&world, "5", &[]).await.0, Some(0));
    daemon.signal("HUP");
    assert_eq!(world.traces("5").await, Vec::<String>::new());
    let views: i64 = world.sql.query_one("select sum(views_count)::int8 from posts", &[]).await.unwrap().get(0);
    assert_eq!(views, 41);
    for post in 2..=20 {
        assert_eq!(world.live(&post.to_string()).await, 2);
    }
}

#[tokio::test]
async fn a_command_that_has_drained_leaves_the_lead_to_a_daemon_that_starts() {
    let world = World::new().await;
    world.post("1").await;
    world.post("2").await;
    assert!(world.command("migrate").start().wait_exit().await.success());
    world.record("1", &["5", "6"]).await;
    // It drains, because nobody leads, and the erasure takes a while.
    let slow = "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(4); return old; end $$;
        create trigger slow before delete on post_views for each row execute function slow()";
    world.sql.batch_execute(slow).await.unwrap();
    let erasing = world.command("forget").args(["5"]).start();
    erasing.wait_for_line("this view-syncd leads").await;
    let daemon = world.daemon().env("SYNC_LINGER", "100ms").start();
    daemon.wait_for_line("this view-syncd leads").await;
    world.record("2", &["6"]).await;
    eventually("the daemon drains", Duration::from_secs(2), async || (world.stored("2").await == 1).then_some(())).await;
    assert_eq!(world.stored("1").await, 2, "the erasure is not over yet");
    assert!(erasing.wait_exit().await.success());
    assert_eq!(world.traces("5").await, Vec::<String>::new());
}

#[tokio::test]
async fn every_kind_of_ledger_lets_a_viewer_go() {
    const VIEWER: &str = "550e8400-e29b-41d4-a716-446655440000";
    let other = "550e8400-e29b-41d4-a716-446655440001";
    let layouts = [
        ("texts, with an index", IdType::Text, "", true, ""),
        ("uuids without one", IdType::Uuid, "", false, ""),
        ("varchars, and counts of their own", IdType::Varchar, "", false, "counts"),
        (
            "partitions without a foreign key",
            IdType::Text,
            "create table post_views (post_id text not null, user_id text not null, viewed_at timestamptz not null default now(),
               primary key (post_id, user_id)) partition by hash (post_id);
             create table post_views_0 partition of post_views for values with (modulus 2, remainder 0);
             create table post_views_1 partition of post_views for values with (modulus 2, remainder 1)",
            true,
            "",
        ),
    ];
    let server = Arc::new(RedisServer::start().await);
    for (what, ids, ledger, indexed, counts) in layouts {
        let database = postgres::shared().await.database().await;
        let posts = PostsTable { count_type: "bigint".to_owned(), ..PostsTable::with_ids(ids) };
        posts.create(&database.client().await).await;
        database.client().await.batch_execute(ledger).await.unwrap();
        let world = World::over(Arc::clone(&server), database, posts).await;
        let env: Vec<(&str, &str)> =
            [("REDIS_PREFIX", what.split(' ').next().unwrap().trim_matches(',')), ("COUNT_TABLE", counts)]
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .collect();
        let post = |number: u32| format!("550e8400-e29b-41d4-a716-{number:012}");
        for number in 0..30 {
            world.posts.insert_post(&world.sql, &post(number), None).await;
        }
        let mut migrate = vec!["migrate"];
        if indexed {
            migrate.push("--viewer-index");
        }
        let (status, _, told) = world.run(&migrate, &env).await;
        assert_eq!(status, Some(0), "{what}: {told}");
        let rows: String =
            (0..30).map(|number| format!("('{}', '{VIEWER}'), ('{}', '{other}'),", post(number), post(number))).collect();
        // Spelled otherwise by somebody else.
        let rows = if ids == IdType::Text { rows + &format!("('{}', '{}'),", post(3), VIEWER.to_uppercase()) } else { rows };
        let insert = format!("insert into post_views (post_id, user_id) values {}", rows.trim_end_matches(','));
        world.sql.batch_execute(&insert).await.unwrap();
        let (status, text, told) = world.run(&["recount"], &env).await;
        assert_eq!(status, Some(0), "{what}: {text}{told}");
        let sum =
            if counts.is_empty() { "select sum(views_count)::int8 from posts" } else { "select sum(views)::int8 from counts" };
        let sum = async || -> i64 { world.sql.query_one(sum, &[]).await.unwrap().get(0) };
        if ledger.is_empty() {
            // Of a post that nobody has any more.
            world.posts.delete_post(&world.sql, &post(29)).await;
        }
        let his = "select count(*) from post_views where lower(replace(user_id::text, '-', '')) = $1";
        let his = async || -> i64 { world.sql.query_one(his, &[&VIEWER.replace('-', "")]).await.unwrap().get(0) };
        let (at_first, rows) = (sum().await, his().await);
        let (status, receipt) = forget(&world, &VIEWER.replace('-', "").to_uppercase(), &env).await;
        assert_eq!(status, Some(0), "{what}: {receipt}");
        assert_eq!(receipt["ledger"].as_i64(), Some(rows), "{what}: {receipt}");
        assert_eq!(sum().await, at_first, "{what}");
        assert_eq!(his().await, 0, "{what}");
        let (status, text, told) = world.run(&["recount", "--json"], &env).await;
        assert!(status == Some(0) && text.contains(r#""changed":0"#), "{what}: {text}{told}");
        let (status, _, told) = world.run(&["forget", "somebody"], &env).await;
        assert_eq!(status, Some(0), "{what}: {told}");
        assert_eq!(told.contains("--viewer-index"), !indexed, "{what}: {told}");
    }
}
