//! Locks on whole tables, on rows of the ledger, and on rows that a foreign key leads to; and losses while something waits.

use std::time::{Duration, Instant};

use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand};
use testkit::{
    eventually,
    postgres::PostgresServer,
    posts::{IdType, PostsTable},
    redis::RedisServer,
};

use super::{Application, SECONDS, daemon, posts, readiness, stored, updates_at_once};
use crate::support::World;

#[tokio::test]
async fn a_locked_table_is_waited_for_and_buries_nothing() {
    for table in ["posts", "post_views"] {
        let world = World::new().await;
        posts(&world, [1, 2]).await;
        let (_daemon, client) = daemon(&world).await;
        // Until it has drained for the first time, it is not ready for that reason.
        readiness(&client, 200, SECONDS).await;
        let mut views = 0;
        for mode in ["share", "share row exclusive", "exclusive", "access exclusive"] {
            let application = Application::begins(&world, &format!("lock table {table} in {mode} mode")).await;
            views += 1;
            world.record("1", &[&views.to_string()]).await;
            world.record("2", &[&views.to_string()]).await;
            let body = readiness(&client, 503, SECONDS).await;
            assert!(body.contains("lock"), "{mode}: {body}");
            let since = Instant::now();
            while since.elapsed() < Duration::from_secs(3) {
                assert_eq!(client.get("/readyz").await.status, 503, "{table} {mode}");
                assert_eq!(world.live("1").await, views);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            application.does("rollback").await;
            stored(&world, 1, views, SECONDS).await;
            stored(&world, 2, views, SECONDS).await;
            readiness(&client, 200, SECONDS).await;
        }
        assert_eq!((world.outbox_length().await, world.dead().await.len()), (0, 0));
    }
}

#[tokio::test]
async fn a_pair_that_the_application_is_just_storing_keeps_no_other_one_waiting() {
    for end in ["commit", "rollback"] {
        let world = World::new().await;
        posts(&world, 1..=5).await;
        let (daemon, client) = daemon(&world).await;
        let insert = "insert into post_views values (1, 1, now()); update posts set views_count = views_count + 1 where id = 5";
        let application = Application::begins(&world, insert).await;
        for post in 1..=4 {
            world.record(&post.to_string(), &["1", "2", "3"]).await;
        }
        for post in 2..=4 {
            stored(&world, post, 3, SECONDS).await;
            updates_at_once(&world, post).await;
        }
        updates_at_once(&world, 1).await;
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(7) {
            assert_eq!(world.live("1").await, 3);
            if since.elapsed().as_millis().is_multiple_of(5) {
                // A scan has nothing to mend.
                daemon.signal("HUP");
            }
            updates_at_once(&world, 1).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let body = readiness(&client, 503, SECONDS).await;
        assert!(body.contains("lock"), "{body}");
        let ledger = "select count(*) from post_views where post_id = 1";
        assert_eq!(world.sql.query_one(ledger, &[]).await.unwrap().get::<_, i64>(0), 2, "the other viewers are stored");
        application.does(end).await;
        eventually("nothing waits any more", SECONDS, async || world.outbox_length().await == 0).await;
        assert_eq!(world.dead().await.len(), 0);
        assert_eq!(world.sql.query_one(ledger, &[]).await.unwrap().get::<_, i64>(0), 3);
        let [_, recorded, acked] = world.meta("1").await;
        assert_eq!((recorded, acked), (3, 3));
        readiness(&client, 200, SECONDS).await;
    }
}

#[tokio::test]
async fn a_locked_user_keeps_only_his_own_views_waiting() {
    let world = World::new().await;
    posts(&world, 1..=120).await;
    let users = "create table users (id bigint primary key); insert into users select generate_series(1, 99);
                 alter table post_views add foreign key (user_id) references users";
    world.sql.batch_execute(users).await.unwrap();
    let (_daemon, _) = daemon(&world).await;
    let application = Application::begins(&world, "select from users where id = 66 for update").await;
    for post in 1..=100 {
        world.record(&post.to_string(), &["66", "1"]).await;
    }
    for post in 101..=120 {
        world.record(&post.to_string(), &["1", "2"]).await;
    }
    for post in 101..=120 {
        stored(&world, post, 2, SECONDS).await;
    }
    let others = "select count(*) from post_views where post_id <= 100";
    let stored_others = async || world.sql.query_one(others, &[]).await.unwrap().get::<_, i64>(0) == 100;
    eventually("the other viewers of the same posts are stored", SECONDS, stored_others).await;
    for viewer in 3..=12 {
        world.record("120", &[&viewer.to_string()]).await;
        stored(&world, 120, viewer, SECONDS).await;
        updates_at_once(&world, viewer as i32).await;
    }
    application.does("commit").await;
    for post in 1..=100 {
        stored(&world, post, 2, SECONDS).await;
    }
    assert_eq!(world.dead().await.len(), 0);
}

#[tokio::test]
async fn a_row_that_a_trigger_writes_for_a_post_of_many_viewers_keeps_no_other_post_waiting() {
    let world = World::new().await;
    posts(&world, 1..=20).await;
    let statistics = "create table statistics (post_id bigint primary key, views int not null default 0);
                      insert into statistics select generate_series(1, 20);
                      create function count_view() returns trigger language plpgsql as $$ begin
                        update statistics set views = views + 1 where post_id = new.post_id; return new; end $$;
                      create trigger count_view after insert on post_views for each row execute function count_view()";
    world.sql.batch_execute(statistics).await.unwrap();
    let (_daemon, client) = daemon(&world).await;
    let application = Application::begins(&world, "select from statistics where post_id = 7 for update").await;
    let viewers: Vec<String> = (1_000..6_000).map(|viewer| viewer.to_string()).collect();
    for chunk in viewers.chunks(100) {
        world.add_entry(chunk.iter().map(|viewer| ("7", viewer.as_str())).collect()).await;
    }
    for viewer in 1..=8 {
        let started = Instant::now();
        world.record("9", &[&viewer.to_string()]).await;
        stored(&world, 9, viewer, SECONDS).await;
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    }
    readiness(&client, 503, SECONDS).await;
    application.does("commit").await;
    stored(&world, 7, 5_000, SECONDS * 3).await;
    assert_eq!(world.dead().await.len(), 0);
    readiness(&client, 200, SECONDS).await;
}

#[tokio::test]
async fn a_locked_user_who_has_viewed_a_thousand_posts_does_not_keep_others_waiting() {
    let world = World::new().await;
    let users = "insert into posts (id, author_id) select id, 999999 from generate_series(1, 1010) id;
                 create table users (id bigint primary key); insert into users select generate_series(1, 99);
                 alter table post_views add foreign key (user_id) references users";
    world.sql.batch_execute(users).await.unwrap();
    let (_daemon, client) = daemon(&world).await;
    let application = Application::begins(&world, "select from users where id = 66 for update").await;
    let ids: Vec<String> = (1..=1_000).map(|post| post.to_string()).collect();
    for viewer in ["66", "1"] {
        for chunk in ids.chunks(100) {
            world.add_entry(chunk.iter().map(|post| (post.as_str(), viewer)).collect()).await;
        }
    }
    let ledger = async |viewer: i64| -> i64 {
        let statement = "select count(*) from post_views where user_id = $1 and post_id <= 1000";
        world.sql.query_one(statement, &[&viewer]).await.unwrap().get(0)
    };
    eventually("the other viewer is stored", SECONDS * 2, async || ledger(1).await == 1_000).await;
    for viewer in 1..=10 {
        let started = Instant::now();
        world.record("1010", &[&viewer.to_string()]).await;
        eventually("another post is stored", SECONDS, async || world.stored("1010").await == viewer).await;
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        updates_at_once(&world, 1_009).await;
    }
    readiness(&client, 503, SECONDS).await;
    application.does("commit").await;
    eventually("everything is acknowledged", SECONDS * 3, async || world.outbox_length().await == 0).await;
    assert_eq!((ledger(66).await, world.dead().await.len()), (1_000, 0));
    readiness(&client, 200, SECONDS).await;
}

#[tokio::test]
async fn what_waits_survives_the_loss_of_either_connection_and_of_the_process() {
    let postgres = PostgresServer::start().await;
    let database = postgres.database().await;
    let redis = RedisServer::start_with(&[("appendonly", "yes")]).await;
    let mut world = World::with_stores(redis, database, PostsTable::with_ids(IdType::Bigint)).await;
    posts(&world, 1..=3).await;
    let (daemon, client) = daemon(&world).await;
    let lock = "update posts set author_id = author_id where id = 1";
    let application = Application::begins(&world, lock).await;
    world.record("1", &["1", "2"]).await;
    world.add_entry(vec![("2", "1"), ("1", "2")]).await;
    eventually("the other post is stored", SECONDS, async || world.stored("2").await == 1).await;
    readiness(&client, 503, SECONDS).await;

    let kill = CustomCommand::new_static("CLIENT", ClusterHash::FirstKey, false);
    let _: i64 = world.redis.custom(kill, vec!["KILL", "TYPE", "normal"]).await.unwrap();
    world.record("3", &["1"]).await;
    stored(&world, 3, 1, SECONDS).await;
    // What waits has waited all the time.
    assert_eq!(client.get("/readyz").await.status, 503);

    let others = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and query !~ 'author_id'
                  and backend_type = 'client backend'";
    world.sql.query(others, &[]).await.unwrap();
    world.record("3", &["2"]).await;
    stored(&world, 3, 2, SECONDS).await;
    assert_eq!(client.get("/readyz").await.status, 503);

    daemon.kill9().await;
    let (_daemon, client) = self::daemon(&world).await;
    world.record("3", &["3"]).await;
    stored(&world, 3, 3, SECONDS).await;
    readiness(&client, 503, SECONDS).await;
    // The server's end is the transaction's, too.
    postgres.kill().await;
    drop(application);
    postgres.restart().await;
    world.sql = world.database.client().await;
    eventually("everything is stored", SECONDS * 4, async || world.outbox_length().await == 0).await;
    assert_eq!((world.stored("1").await, world.stored("2").await, world.dead().await.len()), (2, 1, 0));
    readiness(&client, 200, SECONDS).await;
}
