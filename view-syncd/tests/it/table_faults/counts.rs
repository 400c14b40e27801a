//! A column of counts that is full.

use testkit::{
    eventually, postgres,
    posts::{IdType, PostsTable},
    redis::RedisServer,
};

use super::{SECONDS, daemon, ledger, letters, record};
use crate::support::World;

#[tokio::test]
async fn a_full_count_keeps_its_pairs_until_it_has_room() {
    for (count_type, most) in [("integer", 2_147_483_647_i64), ("smallint", 32_767)] {
        for room in [0, 1] {
            let posts = PostsTable { count_type: count_type.to_owned(), ..PostsTable::with_ids(IdType::Bigint) };
            let database = postgres::shared().await.database().await;
            let world = World::with_stores(RedisServer::start().await, database, posts).await;
            for post in ["1", "2"] {
                world.post(post).await;
            }
            let full = format!("update posts set views_count = {} where id = 1", most - room);
            world.sql.batch_execute(&full).await.unwrap();
            let (daemon, client) = daemon(&world).await;
            let sent = record(&world, &[(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)]).await;
            eventually("the other post is stored", SECONDS, async || {
                ledger(&world).await.iter().filter(|row| row.0 == "2").count() == 2
            })
            .await;
            for viewer in 3..=8 {
                record(&world, &[(2, viewer)]).await;
            }
            let others = async || ledger(&world).await.iter().filter(|row| row.0 == "2").count() == 8;
            eventually("the other post is stored", SECONDS, others).await;
            let unready = async || {
                let answer = client.get("/readyz").await;
                if answer.status == 503 && answer.body.contains("full") && answer.body.contains("oldest entry") {
                    Ok(())
                } else {
                    Err(answer)
                }
            };
            eventually("it says that the column is full", SECONDS, unready).await;
            assert_eq!(letters(&world).await.len(), 0);
            world.sql.batch_execute("alter table posts alter column views_count type bigint").await.unwrap();
            let stored = async || ledger(&world).await.iter().filter(|row| row.0 == "1").count() == 3;
            eventually("the pairs are stored", SECONDS, stored).await;
            eventually("it is ready", SECONDS, async || client.get("/readyz").await.status == 200).await;
            assert!(sent.iter().all(|pair| pair.0 != "1" || !pair.2.is_empty()));
            let times = ledger(&world).await;
            assert!(sent.iter().all(|pair| times.contains(pair)), "{count_type}: {sent:?} {times:?}");
            assert_eq!(world.posts.views_count(&world.sql, "1").await, most - room + 3);
            daemon.signal("TERM");
            assert_eq!(daemon.wait_exit().await.code(), Some(0));
        }
    }
}

#[tokio::test]
async fn a_stop_with_a_full_count_says_so() {
    let world = World::new().await;
    world.post("1").await;
    world.sql.batch_execute("update posts set views_count = 2147483647").await.unwrap();
    let (daemon, _) = daemon(&world).await;
    record(&world, &[(1, 1), (1, 2)]).await;
    eventually("it waits", SECONDS, async || {
        daemon.signal("HUP");
        !daemon.lines_with("1 errors").is_empty()
    })
    .await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit_within(SECONDS * 2).await.code(), Some(1));
    assert_eq!(daemon.lines_with("2 views in 1 entries of posts whose counts have no room").len(), 1, "{:?}", daemon.output());
    // The daemon is gone and the letters are none: all is in the outbox.
    assert_eq!((world.outbox_length().await, letters(&world).await.len()), (1, 0));
}
