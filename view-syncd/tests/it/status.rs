//! `view-syncd status`: who leads, how far behind PostgreSQL is, what could not be stored.

use std::time::{Duration, Instant};

use fred::{
    interfaces::{ClientLike, KeysInterface, StreamsInterface},
    types::{ClusterHash, CustomCommand},
};
use serde_json::{Value, json};
use testkit::process::DaemonBuilder;

use crate::support::World;

/// Runs a command `status` that is built so far: the exit status, and what it tells.
async fn status(status: DaemonBuilder) -> (Option<i32>, Value) {
    let status = status.arg("--json").start();
    let code = status.wait_exit().await.code();
    let line = status.lines_with("\"well\"").first().cloned().unwrap_or_else(|| panic!("{:?}", status.output()));
    (code, serde_json::from_str(&line).unwrap())
}

#[tokio::test]
async fn it_is_well_only_when_nothing_waits_and_somebody_leads() {
    let world = World::new().await;
    world.post("7").await;
    let look = async || status(world.command("status")).await;
    let (code, told) = look().await;
    assert_eq!((code, &told["well"], &told["leader"]), (Some(1), &json!(false), &Value::Null), "{told}");
    assert_eq!(told["problems"], json!(["no view-syncd leads: start it"]));
    assert_eq!(told["outbox"], json!({ "entries": 0, "oldest": null, "lag_seconds": 0.0 }));

    let daemon = world.patient_daemon().await;
    let (code, told) = look().await;
    assert_eq!((code, &told["problems"]), (Some(0), &json!([])), "{told}");
    assert_eq!((&told["well"], &told["standbys"]), (&json!(true), &json!(0)), "{told}");
    assert!(told["leader"]["backend"].is_i64() && told["leader"]["connected_seconds"].as_f64().unwrap() < 60.0, "{told}");
    assert!(told["last_cycle"]["age_seconds"].as_f64().unwrap() < 60.0, "{told}");
    assert_eq!(told["dead"], json!({ "entries": 0, "counted": 0, "reasons": [] }));
    let standby = world.daemon().start();
    standby.wait_for_line("another view-syncd leads").await;
    // A view that waits, and is young, is nothing unusual: the linger of this daemon is long.
    world.record("7", &["1", "2"]).await;
    let (code, told) = look().await;
    assert_eq!((code, &told["standbys"], &told["outbox"]["entries"]), (Some(0), &json!(1), &json!(1)), "{told}");
    assert_eq!(told["posts"], json!({ "about": 1, "exact": true }));

    let text = world.command("status").start();
    assert!(text.wait_exit().await.success(), "{:?}", text.output());
    let lines = text.output();
    assert_eq!(lines[0], "well");
    assert!(lines[1].starts_with("leader      backend ") && lines[1].ends_with(" · 1 standby"), "{lines:#?}");
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{lines:#?}");

    // Full, it takes no writes, and says nothing of that in INFO.
    let config = || CustomCommand::new_static("CONFIG", ClusterHash::FirstKey, false);
    let _: fred::types::Value = world.redis.custom(config(), vec!["SET", "maxmemory", "1"]).await.unwrap();
    let (code, told) = look().await;
    assert_eq!(code, Some(1), "{told}");
    let problem = told["problems"][0].as_str().unwrap();
    assert!(problem.starts_with("Redis takes no writes (OOM") && problem.ends_with("raise maxmemory"), "{told}");
    let _: fred::types::Value = world.redis.custom(config(), vec!["SET", "maxmemory", "0"]).await.unwrap();

    let dead = vec![("post", "7"), ("viewer", "9"), ("reason", "no room"), ("at", "5")];
    let _: String = world.redis.xadd(world.keys.dead(), false, None, "*", dead).await.unwrap();
    let (code, told) = look().await;
    assert_eq!(code, Some(1), "{told}");
    assert_eq!(
        told["dead"],
        json!({ "entries": 1, "counted": 1, "reasons": [{ "reason": "no room", "entries": 1, "retry": false }] })
    );
    assert_eq!(told["problems"], json!(["1 view could not be stored: see `view-syncd dead list`"]));

    // Away, each of them: what the other one knows is told.
    let (code, told) = status(world.command("status").env("REDIS_URL", "redis://127.0.0.1:1")).await;
    assert_eq!((code, &told["redis"]["up"], &told["outbox"]), (Some(1), &json!(false), &Value::Null), "{told}");
    assert!(told["problems"][0].as_str().unwrap().starts_with("Redis is away (redis://127.0.0.1:1/0)"), "{told}");
    assert!(told["leader"]["backend"].is_i64(), "{told}");
    let (code, told) = status(world.command("status").env("DATABASE_URL", "postgres://postgres@127.0.0.1:1/x")).await;
    assert_eq!((code, &told["postgresql"]["up"], &told["leader"]), (Some(1), &json!(false), &Value::Null), "{told}");
    assert_eq!(told["outbox"]["entries"], 1, "{told}");
    world.server.pause();
    let began = Instant::now();
    let (code, told) = look().await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    world.server.resume();
    assert_eq!((code, &told["redis"]["up"]), (Some(1), &json!(false)), "{told}");
    assert!(told["leader"]["backend"].is_i64(), "{told}");
    // Not as needed.
    let (code, told) = status(world.command("status").env("POSTS_TABLE", "nothing")).await;
    assert_eq!(code, Some(78), "{told}");
    let () = world.redis.set(world.keys.owner(), "another one", None, None, false).await.unwrap();
    let (code, told) = look().await;
    assert_eq!(code, Some(78), "{told}");
    assert!(told["problems"][0].as_str().unwrap().contains("run `view-syncd claim`"), "{told}");
    drop(daemon);
}

#[tokio::test]
async fn what_waits_for_long_and_cycles_that_do_not_come_are_told() {
    let world = World::new().await;
    // One that leads and does nothing, as far as others can see.
    let leader = world.database.client().await;
    let lead = "set application_name = 'view-syncd leader, last cycle 2020-01-01T00:00:00.000Z';
        select pg_try_advisory_lock(722643, hashtext('\"public\".\"post_views\"'))";
    leader.batch_execute(lead).await.unwrap();
    let _: String = world.redis.xadd(world.keys.outbox(), false, None, "1000-0", vec![("7", "1")]).await.unwrap();
    let (code, told) = status(world.command("status")).await;
    assert_eq!((code, told["last_cycle"]["at"].as_str()), (Some(1), Some("2020-01-01T00:00:00Z")), "{told}");
    let problems: Vec<&str> = told["problems"].as_array().unwrap().iter().map(|problem| problem.as_str().unwrap()).collect();
    assert!(problems[0].starts_with("the last cycle succeeded ") && problems[0].ends_with("one every 5m"), "{told}");
    assert!(problems[1].starts_with("the oldest view waits for "), "{told}");
    leader.batch_execute("set application_name = 'psql'").await.unwrap();
    let (_, told) = status(world.command("status")).await;
    assert_eq!(told["problems"][0], "no cycle has succeeded since the one that leads took over", "{told}");
}
