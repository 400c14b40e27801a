//! `view-syncd explain POST VIEWER`: what has become of a view, and why.

use fred::interfaces::{KeysInterface, StreamsInterface};
use serde_json::{Value, json};
use testkit::process::DaemonBuilder;
use views_core::ids::PostId;

use crate::support::World;

/// Runs a command `explain` that is built so far: the exit status, and what it tells.
async fn explain(explain: DaemonBuilder, post: &str, viewer: &str) -> (Option<i32>, Value) {
    let explain = explain.args(["--json", post, viewer]).start();
    let code = explain.wait_exit().await.code();
    let line = explain.lines_with("\"verdict\"").first().cloned().unwrap_or_else(|| panic!("{:?}", explain.output()));
    (code, serde_json::from_str(&line).unwrap())
}

#[tokio::test]
async fn each_way_that_a_view_can_go_is_told() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    world.record("7", &["2"]).await;
    world.record("7", &["999999"]).await;
    world.record("404", &["1"]).await;
    world.add_by_hand("7", &["3"]).await;
    let dead = vec![("post", "7"), ("viewer", "4"), ("reason", "no room"), ("at", "1700000000000")];
    let _: String = world.redis.xadd(world.keys.dead(), false, None, "*", dead).await.unwrap();
    for (post, viewer, code, verdict, words) in [
        ("7", "1", 0, "stored", "the ledger has the view since 2"),
        ("7", "2", 0, "on-its-way", "the outbox has the view for"),
        ("7", "3", 0, "on-its-way", "something else than view-ingest has written the set"),
        ("7", "4", 1, "dead", "no room: mend that and run `view-syncd dead retry`"),
        ("7", "5", 1, "not-counted", "no store knows of such a view"),
        ("7", "auth0|5", 1, "unfit-viewer", "can hold no such viewer"),
        ("7", "999999", 1, "own", "the viewer is the post's author"),
        ("404", "1", 1, "no-such-post", "becomes a dead letter"),
        ("no-number", "1", 1, "no-such-post", "has no such post"),
    ] {
        let (status, told) = explain(world.command("explain"), post, viewer).await;
        assert_eq!((status, told["verdict"].as_str()), (Some(code), Some(verdict)), "{told}");
        assert!(told["text"].as_str().unwrap().contains(words), "{words}: {told}");
        assert_eq!(told["counts"], json!(code == 0), "{told}");
    }
    let (_, told) = explain(world.command("explain"), "7", "2").await;
    assert_eq!(told["ledger"]["count"], 1, "{told}");
    assert_eq!(
        (&told["ledger"]["base"], &told["ledger"]["rows"], &told["ledger"]["agrees"]),
        (&Value::Null, &json!(1), &Value::Null),
        "{told}"
    );
    assert_eq!(
        (&told["redis"]["live"], &told["redis"]["member"], &told["redis"]["members"]),
        (&json!(3), &json!(true), &json!(4)),
        "{told}"
    );
    assert!(told["outbox"]["age_seconds"].as_f64().unwrap() < 60.0, "{told}");

    // Another count in PostgreSQL than the one that Redis has.
    world.sql.batch_execute("update posts set views_count = 5 where id = 7").await.unwrap();
    let text = world.command("explain").args(["7", "2"]).start();
    assert!(text.wait_exit().await.success(), "{:?}", text.output());
    let lines = text.output().join(" ");
    assert!(lines.contains("agrees with the outbox, but PostgreSQL has 5"), "{lines}");

    // A drift, a count that was written back, and a row that was deleted.
    let meta = world.keys.meta(&PostId::parse("7").unwrap());
    let () = fred::interfaces::HashesInterface::hincrby(&world.redis, &meta, "recorded", 2).await.unwrap();
    world
        .sql
        .batch_execute("insert into post_views_base values (7, 0); update posts set views_count = 9 where id = 7")
        .await
        .unwrap();
    let (_, told) = explain(world.command("explain"), "7", "2").await;
    assert_eq!((&told["redis"]["drift"], &told["ledger"]["agrees"]), (&json!(2), &json!(false)), "{told}");
    let text = world.command("explain").args(["7", "2"]).start();
    assert!(text.wait_exit().await.success(), "{:?}", text.output());
    let lines = text.output();
    assert!(lines[0].starts_with("on its way: the outbox has the view for "), "{lines:#?}");
    for words in
        ["+2 against the outbox", "differs, `view-syncd recount --post` mends that", "has the viewer, and 4 in all, kept for 23h"]
    {
        assert!(lines.iter().any(|line| line.contains(words)), "{words}: {lines:#?}");
    }
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{lines:#?}");

    // Away, each of them.
    let away = world.command("explain").env("REDIS_URL", "redis://127.0.0.1:1");
    let (status, told) = explain(away, "7", "1").await;
    assert_eq!((status, told["verdict"].as_str()), (Some(0), Some("stored")), "{told}");
    let away = || world.command("explain").env("DATABASE_URL", "postgres://postgres@127.0.0.1:1/x");
    let (status, told) = explain(away(), "7", "2").await;
    assert_eq!((status, told["verdict"].as_str()), (Some(0), Some("on-its-way")), "{told}");
    let (status, told) = explain(away(), "7", "1").await;
    assert_eq!((status, told["verdict"].as_str()), (Some(1), Some("unknown")), "{told}");
    assert!(told["unknown"][0].as_str().unwrap().contains("PostgreSQL is not available"), "{told}");
    for ids in [["a b", "1"], ["7", "two words"], ["", "1"]] {
        let wrong = world.command("explain").args(ids).start();
        assert_eq!(wrong.wait_exit().await.code(), Some(64), "{ids:?}: {:?}", wrong.output());
    }
}

#[tokio::test]
async fn a_view_is_found_in_a_long_outbox_and_what_holds_it_back_is_named() {
    let world = World::new().await;
    world.post("7").await;
    world.post("8").await;
    let mut fields: Vec<(String, String)> = (0..128).map(|viewer| ("8".to_owned(), (1_000 + viewer).to_string())).collect();
    for number in 1..=300 {
        let _: String = world.redis.xadd(world.keys.outbox(), false, None, format!("{number}-0"), fields.clone()).await.unwrap();
        fields[0].1 = number.to_string();
    }
    let _: String = world.redis.xadd(world.keys.outbox(), false, None, "5000-0", vec![("7", "1")]).await.unwrap();
    let (status, told) = explain(world.command("explain"), "7", "1").await;
    assert_eq!((status, &told["outbox"]["id"]), (Some(0), &json!("5000-0")), "{told}");
    assert!(told["text"].as_str().unwrap().contains("no view-syncd leads, which would store it: start it"), "{told}");
    assert_eq!(told["redis"]["drift"], Value::Null, "the outbox is too long: {told}");
    let application = world.database.client().await;
    application.batch_execute("begin; select from posts where id = 7 for update").await.unwrap();
    let daemon = world.daemon().start();
    daemon.wait_for_line("Sync completed").await;
    let is_long = "select clock_timestamp() - xact_start > '4 s' from pg_stat_activity where pid = pg_backend_pid()";
    testkit::eventually("the lock is held for long", testkit::SOON, async || -> bool {
        application.query_one(is_long, &[]).await.unwrap().get(0)
    })
    .await;
    let (_, told) = explain(world.command("explain"), "7", "1").await;
    assert!(told["text"].as_str().unwrap().contains("held back by a lock"), "{told}");
    let backend: i32 = application.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    assert!(told["text"].as_str().unwrap().contains(&format!("backend {backend} ")), "{told}");
    let () = world.redis.del(world.keys.outbox()).await.unwrap();
}
