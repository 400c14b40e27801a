//! `/readyz?verbose` says how everything is that the process depends on, in each outage, and strangers no reasons.

use std::time::Duration;

use fred::interfaces::KeysInterface;
use serde_json::Value;
use testkit::{eventually, http::Client, proxy::Proxy};

use crate::{
    away::durable_world,
    fallback_faults::REFUSE_ALL,
    outbox::set_maxmemory,
    redis_refuses::command,
    support::{Ingest, World},
};

const VERBOSE: &str = "/readyz?verbose";
/// Longer than the pause between two proofs of a Redis that nobody writes to.
const SOON: Duration = Duration::from_secs(15);

/// Waits until the states are these (of Redis, of PostgreSQL, and of where views go), on both listeners.
#[track_caller]
fn becomes<'a>(app: &'a Ingest, states: [&'static str; 3]) -> impl Future<Output = Value> + 'a {
    let is = move || async move {
        let answers = [(&app.http, app.http.get(VERBOSE).await), (&app.admin, app.admin.get(VERBOSE).await)];
        let seen = answers.each_ref().map(|(_, answer)| {
            let checks = &answer.json()["checks"];
            ["redis", "postgresql", "writes"].map(|name| checks[name]["state"].as_str().unwrap_or("").to_owned())
        });
        if seen.iter().all(|seen| *seen == states) { Ok(answers[1].1.json()) } else { Err(format!("{seen:?}")) }
    };
    eventually("it is as expected", SOON, is)
}

async fn assert_no_reasons(client: &Client) {
    let body = client.get(VERBOSE).await.json();
    for check in body["checks"].as_object().unwrap().values() {
        let names: Vec<&String> = check.as_object().unwrap().keys().collect();
        assert_eq!(names, ["since", "state"], "{body}");
    }
}

#[tokio::test]
async fn both_listeners_tell_how_everything_is_in_each_outage() {
    let world: World = durable_world().await;
    world.post_of("p", "author").await;
    let direct = world.database().url();
    let port = direct.split(':').nth(2).and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap();
    let proxy = Proxy::to_port(port).await;
    let url = direct.replace(&format!(":{port}/"), &format!(":{}/", proxy.port()));
    let app = world.ingest_with(&[("DATABASE_URL", &url)]).await;

    let body = becomes(&app, ["up", "up", "redis"]).await;
    assert_eq!((&body["status"], &body["checks"]["process"]["state"]), (&"ok".into(), &"running".into()));
    assert_eq!(body["checks"]["keys"]["number"], 1);
    assert!(body["checks"]["redis"]["since"].as_str().unwrap().ends_with('Z'), "{body}");
    let plain = app.admin.get("/readyz").await;
    assert_eq!(plain.body, r#"{"status":"ok"}"#);
    assert_eq!(app.http.get("/readyz?verbose=0").await.body, plain.body);

    // Nobody sends a view meanwhile.
    set_maxmemory(&world, "1").await;
    let body = becomes(&app, ["refuses", "up", "postgresql"]).await;
    assert!(body["checks"]["redis"]["reason"].as_str().unwrap().starts_with("OOM"), "{body}");
    assert_eq!(app.view("ann", "p").await.status, 200);
    becomes(&app, ["refuses", "up", "postgresql"]).await;
    set_maxmemory(&world, "0").await;
    assert_eq!(app.view("bob", "p").await.status, 200);
    becomes(&app, ["up", "up", "redis"]).await;

    command(&world.redis, &["REPLICAOF", "127.0.0.1", &testkit::ports::free().to_string()]).await.unwrap();
    let body = becomes(&app, ["refuses", "up", "postgresql"]).await;
    assert_eq!(body["checks"]["redis"]["reason"], "it is a replica");
    assert_eq!(app.http.get(VERBOSE).await.status, 200);
    command(&world.redis, &["REPLICAOF", "NO", "ONE"]).await.unwrap();
    becomes(&app, ["up", "up", "redis"]).await;

    let owner: Option<String> = world.redis.get("views:owner").await.unwrap();
    let () = world.redis.set("views:owner", "another one's", None, None, false).await.unwrap();
    let body = becomes(&app, ["misconfigured", "up", "postgresql"]).await;
    assert!(body["checks"]["redis"]["reason"].as_str().unwrap().contains("another one's"), "{body}");
    assert_no_reasons(&app.http).await;
    match owner {
        Some(owner) => world.redis.set::<(), _, _>("views:owner", owner, None, None, false).await.unwrap(),
        None => world.redis.del::<(), _>("views:owner").await.unwrap(),
    }
    becomes(&app, ["up", "up", "redis"]).await;

    proxy.break_networking().await;
    let body = becomes(&app, ["up", "away", "redis"]).await;
    assert!(body["checks"]["postgresql"]["reason"].is_string(), "{body}");
    assert_eq!(body["status"], "ok");
    app.daemon.wait_for_line("PostgreSQL is away").await;

    world.server.kill().await;
    assert_eq!(app.view("ann", "p").await.status, 503);
    let body = becomes(&app, ["away", "away", "none"]).await;
    assert_eq!((&body["statusCode"], &body["error"]), (&503.into(), &"Service Unavailable".into()));
    assert_eq!(app.http.get(VERBOSE).await.status, 503);
    assert_eq!(app.http.get(VERBOSE).await.header("retry-after"), "1");
    assert_no_reasons(&app.http).await;

    proxy.restore().await;
    becomes(&app, ["away", "up", "postgresql"]).await;
    assert_eq!(app.daemon.lines_with("PostgreSQL connected").len(), 2, "{:?}", app.daemon.output());
    world.sql().batch_execute(REFUSE_ALL).await.unwrap();
    assert_eq!(app.view("cid", "p").await.status, 503);
    let body = becomes(&app, ["away", "refuses", "none"]).await;
    assert!(body["checks"]["postgresql"]["reason"].as_str().unwrap().contains("PostgreSQL refuses"), "{body}");

    world.server.restart().await;
    becomes(&app, ["up", "up", "redis"]).await;
    app.daemon.signal("TERM");
    app.daemon.wait_exit().await;
}
