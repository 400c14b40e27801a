//! Another table under the right name, or the right one that is empty for a while.

use fred::interfaces::HashesInterface;
use testkit::{
    SOON, eventually,
    posts::{ledger_count, ledger_viewers},
};
use view_syncd::{
    drain::{Drained, Urgency},
    error::Failure,
};

use super::verdict;
use crate::support::World;

#[tokio::test]
async fn views_of_an_empty_table_are_kept_and_come_in_with_a_retry() {
    let world = World::new().await;
    for post in ["7", "8"] {
        world.post(post).await;
    }
    // The same columns, and no row; the ledger is that of another schema.
    world
        .sql
        .batch_execute("create schema other; create table other.posts (like posts including all); create table other.post_views (like post_views including all)")
        .await
        .unwrap();
    world.record("7", &["1", "2"]).await;
    let first = world.add_entry(vec![("8", "1")]).await;
    let wrong = world.daemon().env("POSTS_TABLE", "other.posts").env("SYNC_LINGER", "10ms").start();
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    let gone = |post: &str, viewer: &str| [post.to_owned(), viewer.to_owned(), "no such post".to_owned()];
    let mut dead = world.dead().await;
    dead.sort();
    assert_eq!(dead, [gone("7", "1"), gone("7", "2"), gone("8", "1")]);
    eventually("the keys are removed", SOON, async || !world.exists("post:7:views".into()).await).await;
    assert!(!world.exists("{post:7:views}:meta".into()).await);
    let warnings = wrong.lines_with("no such post");
    assert!(!warnings.is_empty() && warnings.len() <= 2, "a line a batch: {warnings:?}");
    assert!(warnings.iter().all(|line| line.contains("WARN") && !line.contains("viewer=")), "{warnings:?}");
    wrong.signal("TERM");
    assert!(wrong.wait_exit().await.success());

    // The keys are the other table's by now, which is told with what to do.
    let refused = world.command("dead").arg("retry").start();
    assert_eq!(refused.wait_exit().await.code(), Some(78), "{:?}", refused.output());
    assert_eq!(refused.lines_with("view-syncd claim").len(), 1, "{:?}", refused.output());
    let claimed = world.command("claim").start();
    assert!(claimed.wait_exit().await.success(), "{:?}", claimed.output());
    let list = world.command("dead").arg("list").start();
    assert_eq!(list.wait_exit().await.code(), Some(1));
    assert_eq!(list.lines_with("no such post").len(), 3, "{:?}", list.output());
    let retry = world.command("dead").arg("retry").start();
    assert_eq!(retry.wait_exit().await.code(), Some(0), "{:?}", retry.output());
    assert_eq!(world.dead().await.len(), 0);
    assert_eq!(ledger_viewers(&world.sql, "7").await, ["1", "2"]);
    assert_eq!((world.stored("7").await, world.stored("8").await), (2, 1));
    let at = "select (extract(epoch from viewed_at) * 1000)::bigint from post_views where post_id = 8";
    let at: i64 = world.sql.query_one(at, &[]).await.unwrap().get(0);
    assert_eq!(at.to_string(), first.split('-').next().unwrap(), "the time of the view");
    // Nothing of it counts twice, whoever comes back.
    let (_ingest, client) = world.ingest().await;
    assert_eq!(verdict(&client, "1", "7").await, "duplicate 2");
}

#[tokio::test]
async fn a_daemon_with_an_empty_table_takes_nothing_from_one_with_the_right_one() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    world.sql.batch_execute("create table empty_posts (like posts including all)").await.unwrap();
    world.record("7", &["2", "3"]).await;
    let wrong = world.daemon().env("POSTS_TABLE", "empty_posts").env("SYNC_LINGER", "10ms").start();
    assert_eq!(wrong.wait_exit().await.code(), Some(78), "{:?}", wrong.output());
    assert_eq!((world.outbox_length().await, world.dead().await.len()), (1, 0));
    assert!(world.exists("post:7:views".into()).await);
    synchronizer.cycle().await.unwrap();
    world.assert_views("7", 3).await;
}

#[tokio::test]
async fn a_table_that_is_emptied_and_filled_again_loses_no_view() {
    let world = World::new().await;
    for post in ["7", "8"] {
        world.post(post).await;
        world.record(post, &["1"]).await;
    }
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    // As a dump is restored: gone for a moment, with everything that refers to them.
    world.sql.batch_execute("truncate posts cascade").await.unwrap();
    world.record("7", &["2"]).await;
    synchronizer.cycle().await.unwrap();
    world.record("8", &["2"]).await;
    world
        .sql
        .batch_execute("insert into posts values (7, 999999, 1), (8, 999999, 1); insert into post_views values (7, 1), (8, 1)")
        .await
        .unwrap();
    synchronizer.cycle().await.unwrap();
    let retry = world.command("dead").arg("retry").start();
    assert_eq!(retry.wait_exit().await.code(), Some(0), "{:?}", retry.output());
    let (_ingest, client) = world.ingest().await;
    for post in ["7", "8"] {
        assert_eq!(ledger_viewers(&world.sql, post).await, ["1", "2"]);
        assert_eq!(verdict(&client, "2", post).await, "duplicate 2");
        assert_eq!(verdict(&client, "1", post).await, "duplicate 2");
        world.assert_views(post, 2).await;
    }
}

#[tokio::test]
async fn a_scan_believes_no_table_that_is_not_the_one_it_asks_for() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    world.record("7", &["2"]).await;
    // Renamed for a moment, as tools that rewrite tables do; and without the right to read it.
    world.sql.batch_execute("alter table posts rename to posts_old").await.unwrap();
    assert!(matches!(synchronizer.cycle().await.unwrap_err(), Failure::Database(_)));
    assert!(matches!(synchronizer.drain(Urgency::AtOnce).await.unwrap_err(), Failure::Database(_)));
    world.sql.batch_execute("alter table posts_old rename to posts").await.unwrap();
    assert_eq!((world.outbox_length().await, world.dead().await.len()), (1, 0));
    assert!(world.exists("post:7:views".into()).await);
    assert!(matches!(synchronizer.drain(Urgency::AtOnce).await.unwrap(), Drained::Stored { .. }));
    // Copied into a new one that takes its name in one transaction.
    world.record("7", &["3"]).await;
    world
        .sql
        .batch_execute(
            "begin; create table posts_new (like posts including all); insert into posts_new select * from posts;
             alter table post_views drop constraint post_views_post_id_fkey;
             alter table post_views_base drop constraint post_views_base_post_id_fkey;
             drop table posts; alter table posts_new rename to posts;
             alter table post_views add foreign key (post_id) references posts on delete cascade; commit",
        )
        .await
        .unwrap();
    let stored = async {
        while !matches!(synchronizer.drain(Urgency::AtOnce).await, Ok(Drained::Stored { .. })) {}
        synchronizer.cycle().await
    };
    stored.await.unwrap();
    world.assert_views("7", 3).await;
    assert_eq!(ledger_count(&world.sql, "7").await, 3);
    let recorded: i64 = world.redis.hget("{post:7:views}:meta", "recorded").await.unwrap();
    assert_eq!(recorded, 3);
}
