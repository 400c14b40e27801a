//! Both programs as people run them: a view travels from an HTTP request into PostgreSQL, whatever happens on the way.

use fred::interfaces::ClientLike;
use futures_util::future::join_all;
use serde_json::json;
use testkit::{
    SOON, eventually,
    http::{Client, Response},
    tokens,
};

use crate::support::{SECRET, World};

const POST: &str = "7";

async fn view(client: &Client, viewer: &str) -> Response {
    client.post_json("/posts/view", Some(&tokens::hs256(SECRET, viewer)), &json!({ "postId": POST })).await
}

async fn live_count(client: &Client) -> i64 {
    client.get(&format!("/posts/{POST}/views")).await.json()["viewsCount"].as_i64().unwrap()
}

/// Two hundred views by a hundred viewers, all at once; gives how many were counted.
async fn storm(client: &Client) -> usize {
    let viewers: Vec<String> = (0..200).map(|view| (view / 2 + 1).to_string()).collect();
    let answers = join_all(viewers.iter().map(|viewer| view(client, viewer))).await;
    answers.iter().filter(|answer| answer.json()["status"] == "counted").count()
}

async fn settled(world: &World, views: i64) {
    eventually("the outbox is empty", SOON, || async { world.outbox_length().await == 0 }).await;
    world.assert_views(POST, views).await;
}

#[tokio::test]
async fn two_hundred_views_by_a_hundred_viewers_are_a_hundred_everywhere_and_for_ever() {
    let world = World::new().await;
    world.post(POST).await;
    let syncd = world.daemon().env("SYNC_LINGER", "10ms").start();
    let (ingest, client) = world.ingest().await;
    assert_eq!(storm(&client).await, 100);
    settled(&world, 100).await;
    assert_eq!(live_count(&client).await, 100);
    assert_eq!(storm(&client).await, 0);

    // Redis forgets everything: nobody is counted twice, and no count is reset.
    let () = world.redis.flushall(false).await.unwrap();
    assert_eq!(live_count(&client).await, 100);
    assert_eq!(storm(&client).await, 0);
    settled(&world, 100).await;

    for daemon in [&ingest, &syncd] {
        daemon.signal("TERM");
        assert!(daemon.wait_exit().await.success(), "{:?}", daemon.output());
    }
}

#[tokio::test]
async fn views_go_on_into_postgresql_when_the_leader_dies() {
    let world = World::new().await;
    world.post(POST).await;
    let leader = world.daemon().env("SYNC_LINGER", "10ms").start();
    leader.wait_for_line("this view-syncd leads").await;
    let standby = world.daemon().env("SYNC_LINGER", "10ms").start();
    standby.wait_for_line("another view-syncd leads").await;
    let (_ingest, client) = world.ingest().await;
    assert_eq!(view(&client, "1").await.status, 200);
    settled(&world, 1).await;
    leader.kill9().await;
    assert_eq!(view(&client, "2").await.status, 200);
    standby.wait_for_line("this view-syncd leads").await;
    settled(&world, 2).await;
    let readiness = Client::new(standby.wait_for_listening("admin").await).get("/readyz").await.json();
    assert_eq!(readiness, json!({ "status": "ok", "role": "leader" }));
}
