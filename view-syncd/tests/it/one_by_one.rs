//! `/readyz?verbose` says how everything is that the daemon depends on, in each outage.

use std::time::Duration;

use fred::interfaces::{ClientLike, KeysInterface};
use serde_json::Value;
use testkit::{
    eventually,
    http::Client,
    postgres,
    posts::{IdType, PostsTable},
    proxy::Proxy,
    redis::RedisServer,
};

use crate::support::World;

const SOON: Duration = Duration::from_secs(20);
const CLOSED: &str = "create function closed() returns trigger language plpgsql as $$ begin raise exception 'closed'; end $$;
    create trigger closed before insert on post_views for each row execute function closed()";

/// Waits until the states are these: of Redis, of PostgreSQL, of the drain, of the role.
#[track_caller]
fn becomes<'a>(client: &'a Client, states: [&'static str; 4]) -> impl Future<Output = Value> + 'a {
    let is = move || async move {
        let answer = client.get("/readyz?verbose").await;
        let plain = client.get("/readyz").await.status;
        let checks = &answer.json()["checks"];
        let seen = ["redis", "postgresql", "drain", "role"].map(|name| checks[name]["state"].as_str().unwrap_or("").to_owned());
        if seen == states && answer.status == plain {
            Ok(answer.json())
        } else {
            Err(format!("{seen:?}, {plain}: {}", answer.body))
        }
    };
    eventually("it is as expected", SOON, is)
}

fn reason<'b>(body: &'b Value, name: &str) -> &'b str {
    body["checks"][name]["reason"].as_str().unwrap_or_else(|| panic!("no reason for {name} in {body}"))
}

#[tokio::test]
async fn it_is_told_how_everything_is_in_each_outage() {
    let database = postgres::shared().await.database().await;
    let server = RedisServer::start_with(&[("appendonly", "yes"), ("appendfsync", "always")]).await;
    let world = World::with_stores(server, database, PostsTable::with_ids(IdType::Bigint)).await;
    world.post("7").await;
    let direct = world.database.url();
    let port = direct.split(':').nth(2).and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap();
    let proxy = Proxy::to_port(port).await;
    let url = direct.replace(&format!(":{port}/"), &format!(":{}/", proxy.port()));
    let daemon = world.daemon().env("DATABASE_URL", url).env("SYNC_LINGER", "50ms").start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    let body = becomes(&client, ["up", "up", "up", "leader"]).await;
    assert_eq!((&body["role"], &body["checks"]["drain"]["oldestEntryAgeSeconds"]), (&"leader".into(), &0.into()));
    let standby = world.daemon().start();
    let second = Client::new(standby.wait_for_listening("admin").await);
    becomes(&second, ["up", "up", "standby", "standby"]).await;
    drop((standby, second));

    proxy.break_networking().await;
    world.record("7", &["1"]).await;
    let body = becomes(&client, ["up", "away", "stuck", "leader"]).await;
    assert!(reason(&body, "drain").contains("PostgreSQL is away"), "{body}");
    proxy.restore().await;
    becomes(&client, ["up", "up", "up", "leader"]).await;
    daemon.wait_for_nth_line(2, "PostgreSQL connected").await;

    world.sql.batch_execute(CLOSED).await.unwrap();
    world.record("7", &["2"]).await;
    let body = becomes(&client, ["up", "refuses", "stuck", "leader"]).await;
    assert!(reason(&body, "postgresql").contains("closed"), "{body}");
    world.sql.batch_execute("drop function closed() cascade").await.unwrap();
    becomes(&client, ["up", "up", "up", "leader"]).await;

    world.sql.batch_execute("alter table post_views rename to elsewhere").await.unwrap();
    world.record("7", &["3"]).await;
    let body = becomes(&client, ["up", "misconfigured", "stuck", "leader"]).await;
    assert!(reason(&body, "postgresql").contains("post_views"), "{body}");
    world.sql.batch_execute("alter table elsewhere rename to post_views").await.unwrap();
    becomes(&client, ["up", "up", "up", "leader"]).await;

    let application = world.database.client().await;
    application.batch_execute("begin; select from posts where id = 7 for update").await.unwrap();
    world.record("7", &["4"]).await;
    let body = becomes(&client, ["up", "up", "waiting", "leader"]).await;
    assert_eq!(body["checks"]["drain"]["waitingPosts"], 1);
    assert!(body["checks"]["drain"]["oldestEntryAgeSeconds"].as_u64().unwrap() >= 3, "{body}");
    application.batch_execute("commit").await.unwrap();
    becomes(&client, ["up", "up", "up", "leader"]).await;

    let owner: String = world.redis.get("views:owner").await.unwrap();
    let () = world.redis.set("views:owner", "another one's", None, None, false).await.unwrap();
    becomes(&client, ["misconfigured", "up", "stuck", "leader"]).await;
    let () = world.redis.set("views:owner", owner, None, None, false).await.unwrap();
    becomes(&client, ["up", "up", "up", "leader"]).await;

    let set = async |value: &'static str| {
        let command = fred::types::CustomCommand::new_static("CONFIG", fred::types::ClusterHash::FirstKey, false);
        world.redis.custom::<(), _>(command, vec!["SET", "min-replicas-to-write", value]).await.unwrap();
    };
    world.record("7", &["5"]).await;
    set("3").await;
    let body = becomes(&client, ["refuses", "up", "stuck", "leader"]).await;
    assert!(reason(&body, "redis").contains("NOREPLICAS"), "{body}");
    set("0").await;
    becomes(&client, ["up", "up", "up", "leader"]).await;

    world.server.kill().await;
    becomes(&client, ["away", "up", "stuck", "leader"]).await;
    world.server.restart().await;
    let body = becomes(&client, ["up", "up", "up", "leader"]).await;
    assert_eq!((&body["checks"]["cycle"]["state"], &body["checks"]["keys"]["state"]), (&"up".into(), &"up".into()));
    daemon.signal("TERM");
    daemon.wait_exit().await;
    world.assert_views("7", 5).await;
}
