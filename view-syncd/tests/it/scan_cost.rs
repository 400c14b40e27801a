use fred::interfaces::SetsInterface;
use testkit::posts::{IdType, PostsTable};
use view_syncd::daemon::cycle::Synced;

use crate::support::World;

#[tokio::test]
async fn a_post_that_nothing_happened_to_costs_no_write_and_one_query() {
    let world = World::new().await;
    for post in 1..=30 {
        world.post(&post.to_string()).await;
        world.record(&post.to_string(), &["1", "2"]).await;
    }
    world.synchronizer(&[]).await.cycle().await.unwrap();
    world.database.log_statements().await;
    let mut synchronizer = world.synchronizer(&[]).await;
    world.reset_statistics().await;
    assert_eq!(synchronizer.cycle().await.unwrap(), Synced { successful: 30, errors: 0 });

    for write in ["hset", "hincrby", "expire", "eval", "sscan", "multi", "unlink", "publish", "xadd", "xdel"] {
        assert_eq!(world.calls(write).await, 0, "{write}");
    }
    // Nothing is asked of a post twice, however the walk meets its two keys.
    assert_eq!((world.calls("scard").await, world.calls("hmget").await, world.calls("ttl").await), (30, 30, 60));
    assert_eq!(world.calls("exists").await, 0);
    let statements = world.database.statements();
    let named = |name: &str| statements.iter().filter(|text| text.contains(name)).count();
    assert_eq!((named("-- compare"), named("-- drain"), named("-- hydrate")), (1, 0, 0), "{statements:?}");
}

#[tokio::test]
async fn many_posts_are_scanned_in_bounded_steps() {
    const POSTS: i64 = 20_000;
    let world = World::new().await;
    let insert = "insert into posts (id, author_id) select generate_series(1, $1::bigint), 999999";
    world.sql.execute(insert, &[&POSTS]).await.unwrap();
    for first in (1..=POSTS).step_by(1_000) {
        let pipeline = world.redis.pipeline();
        for post in first..first + 1_000 {
            let () = pipeline.sadd(format!("post:{post}:views"), "1").await.unwrap();
        }
        let () = pipeline.last().await.unwrap();
    }
    // All of them are new to the scan, and then none of them is.
    for _ in 0..2 {
        world.reset_statistics().await;
        let synced = world.synchronizer(&[]).await.cycle().await.unwrap();
        // SCAN may give a key twice while Redis resizes its table.
        assert!(synced.successful >= POSTS as u64 && synced.errors == 0, "{synced:?}");
        assert_eq!((world.calls("keys").await, world.calls("smembers").await), (0, 0));
        // Each key once. A page has more than one step, so that none of them is long.
        let scans = world.calls("scan").await;
        assert!((400..=2_500).contains(&scans), "{scans} calls of SCAN");
    }
    let counted = world.sql.query_one("select count(*) from posts where views_count = 1", &[]).await.unwrap();
    assert_eq!(counted.get::<_, i64>(0), POSTS);
    assert_eq!(world.calls("sscan").await, 0);
}

#[tokio::test]
async fn only_what_differs_comes_from_postgresql_and_only_that_is_written() {
    let world = World::new().await;
    for post in 1..=20 {
        world.post(&post.to_string()).await;
        world.record(&post.to_string(), &["1", "2"]).await;
    }
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    let changes = "alter table posts alter views_count drop not null;
        update posts set views_count = 70 where id = 7; update posts set views_count = null where id = 8";
    world.sql.batch_execute(changes).await.unwrap();
    world.posts.delete_post(&world.sql, "9").await;
    world.reset_statistics().await;
    assert_eq!(synchronizer.cycle().await.unwrap(), Synced { successful: 19, errors: 0 });
    assert_eq!((world.live("7").await, world.live("8").await), (70, 0));
    assert!(!world.exists("post:9:views".into()).await);
    // Two counts, and the two keys of one post.
    assert_eq!((world.calls("hset").await, world.calls("unlink").await), (2, 1));
}

#[tokio::test]
async fn counts_are_compared_whatever_the_type_of_the_ids() {
    for id_type in [IdType::Uuid, IdType::Text, IdType::Bigint] {
        let server = testkit::redis::RedisServer::start().await;
        let database = testkit::postgres::shared().await.database().await;
        let world = World::with_stores(server, database, PostsTable::with_ids(id_type)).await;
        let ids = [
            "11111111-2222-4333-8444-555555555555",
            "aaaaaaaa-2222-4333-8444-555555555555",
            "aaaaaaaa-2222-4333-8444-666666666666",
        ];
        let [first, second, viewer] = if matches!(id_type, IdType::Bigint) { ["9", "10", "11"] } else { ids };
        for post in [first, second] {
            world.posts.insert_post(&world.sql, post, None).await;
            world.record(post, &[viewer]).await;
        }
        let mut synchronizer = world.synchronizer(&[]).await;
        synchronizer.cycle().await.unwrap();
        world.reset_statistics().await;
        assert_eq!(synchronizer.cycle().await.unwrap(), Synced { successful: 2, errors: 0 });
        assert_eq!(world.calls("hset").await, 0);
        let change = format!(
            "update {} set {} = 5 where {}::text = '{second}'",
            world.posts.table, world.posts.count_column, world.posts.id_column
        );
        world.sql.batch_execute(&change).await.unwrap();
        synchronizer.cycle().await.unwrap();
        assert_eq!((world.live(first).await, world.live(second).await), (1, 5));
        assert_eq!(world.calls("hset").await, 1);
    }
}

#[tokio::test]
async fn many_sets_of_an_older_service_are_united_with_few_commits() {
    const POSTS: usize = 1_200;
    let world = World::new().await;
    let insert = "insert into posts (id, author_id) select generate_series(1, 1200), 999999";
    world.sql.batch_execute(insert).await.unwrap();
    let pipeline = world.redis.pipeline();
    for post in 1..=POSTS {
        let () = pipeline.sadd(format!("post:{post}:views"), vec!["1", "2"]).await.unwrap();
    }
    let () = pipeline.last().await.unwrap();
    world.database.log_statements().await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.cycle().await.unwrap();
    let drains = world.database.statements().iter().filter(|text| text.contains("-- insert")).count();
    assert!((1..=4).contains(&drains), "{drains} statements");
    let stored = world.sql.query_one("select count(*) from posts where views_count = 2", &[]).await.unwrap();
    assert_eq!(stored.get::<_, i64>(0), POSTS as i64);
}
