//! The types of ids become wider while both programs run.

use testkit::{SOON, eventually, http::Client};

use super::verdict;
use crate::support::World;

#[tokio::test]
async fn ids_become_bigint_while_both_run() {
    let world = World::new().await;
    world.post("7").await;
    world
        .sql
        .batch_execute("alter table post_views alter post_id type integer; alter table posts alter id type integer")
        .await
        .unwrap();
    let daemon = world.daemon().env("SYNC_LINGER", "10ms").start();
    daemon.wait_for_line("Sync completed").await;
    let (_ingest, client) = world.ingest().await;
    assert_eq!(verdict(&client, "1", "7").await, "counted 1");
    // Nobody has a post of such an id, yet.
    assert_eq!(verdict(&client, "1", "3000000000").await, "404");
    let widen = "alter table post_views alter post_id type bigint; alter table posts alter id type bigint";
    world.sql.batch_execute(&format!("begin; {widen}; insert into posts values (3000000000, 999999, 0); commit")).await.unwrap();
    let counted = async || verdict(&client, "2", "3000000000").await == "counted 1";
    eventually("the new post is found", SOON, counted).await;
    assert_eq!(verdict(&client, "3", "3000000000").await, "counted 2");
    assert_eq!(verdict(&client, "2", "7").await, "counted 2");
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    assert_eq!(world.dead().await.len(), 0);
    world.assert_views("3000000000", 2).await;
    world.assert_views("7", 2).await;
    daemon.signal("HUP");
    daemon.wait_for_line("Sync completed: 2 successful, 0 errors").await;
    world.assert_views("3000000000", 2).await;
}

#[tokio::test]
async fn ids_become_bigint_and_only_view_ingest_is_started_anew() {
    let world = World::new().await;
    world
        .sql
        .batch_execute("alter table post_views alter post_id type integer; alter table posts alter id type integer")
        .await
        .unwrap();
    world.post("7").await;
    let daemon = world.daemon().env("SYNC_LINGER", "10ms").start();
    daemon.wait_for_line("Sync completed").await;
    world.record("7", &["1"]).await;
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    // One after the other, with views in between: the ledger is too narrow for a moment.
    world
        .sql
        .batch_execute("alter table posts alter id type bigint; insert into posts values (3000000000, 999999, 0)")
        .await
        .unwrap();
    world.record("3000000000", &["1"]).await;
    world.record("7", &["2"]).await;
    let operators = Client::new(daemon.wait_for_listening("admin").await);
    let body = eventually("it is not ready", SOON, async || {
        let answer = operators.get("/readyz").await;
        (answer.status == 503).then_some(answer.body)
    })
    .await;
    assert!(body.contains("ALTER post_id TYPE bigint"), "{body}");
    assert_eq!(world.dead().await.len(), 0);
    world.sql.batch_execute("alter table post_views alter post_id type bigint").await.unwrap();
    let (_ingest, client) = world.ingest().await;
    assert_eq!(verdict(&client, "2", "3000000000").await, "counted 2");
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    world.assert_views("3000000000", 2).await;
    world.assert_views("7", 2).await;
    assert_eq!(world.dead().await.len(), 0);
}

#[tokio::test]
async fn viewers_become_bigint_while_both_run() {
    let world = World::new().await;
    world.post("7").await;
    world
        .sql
        .batch_execute("alter table post_views alter user_id type integer; alter table posts alter author_id type integer")
        .await
        .unwrap();
    let daemon = world.daemon().env("SYNC_LINGER", "10ms").start();
    daemon.wait_for_line("Sync completed").await;
    let (_ingest, client) = world.ingest().await;
    assert_eq!(verdict(&client, "1", "7").await, "counted 1");
    assert_eq!(verdict(&client, "3000000000", "7").await, "401");
    world
        .sql
        .batch_execute("alter table post_views alter user_id type bigint; alter table posts alter author_id type bigint")
        .await
        .unwrap();
    eventually("the viewer is one", SOON, async || verdict(&client, "3000000000", "7").await == "counted 2").await;
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    assert_eq!(world.dead().await.len(), 0);
    world.assert_views("7", 2).await;
}
