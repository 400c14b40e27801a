use std::time::Duration;

use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use testkit::{
    SOON, postgres,
    posts::{PostsTable, ledger_viewers},
    redis::RedisServer,
};
use view_syncd::drain::{Drained, Urgency};

use crate::support::{World, drain_deferred};

#[tokio::test]
async fn repeats_own_views_and_unknown_posts_are_counted_nowhere() {
    let world = World::new().await;
    world.posts.insert_post(&world.sql, "7", "50").await;
    world.post("8").await;
    world.record("7", &["1", "2"]).await;
    world.record("7", &["50"]).await;
    world.add_entry(vec![("7", "1"), ("8", "1"), ("7", "1"), ("12345", "1"), ("not-a-number", "1")]).await;
    world.record("12345", &["3"]).await;

    let mut synchronizer = world.synchronizer(&[]).await;
    let drained = synchronizer.drain(Urgency::AtOnce).await.unwrap();
    assert!(matches!(drained, Drained::Stored { pairs: 9, .. }), "{drained:?}");
    assert_eq!(synchronizer.drain(Urgency::AtOnce).await.unwrap(), Drained::Idle);
    assert_eq!(ledger_viewers(&world.sql, "7").await, ["1", "2"]);
    assert_eq!((world.stored("7").await, world.stored("8").await), (2, 1));
    assert_eq!(world.outbox_length().await, 0);
    // A post that does not exist leaves no key in Redis, and its pairs are kept aside.
    assert!(!world.exists("post:12345:views".into()).await);
    assert!(!world.exists("{post:12345:views}:meta".into()).await);
    let gone = |post: &str, viewer: &str| [post.to_owned(), viewer.to_owned(), "no such post".to_owned()];
    let mut dead = world.dead().await;
    dead.sort();
    assert_eq!(dead, [gone("12345", "1"), gone("12345", "3"), gone("not-a-number", "1")]);
}

#[tokio::test]
async fn every_view_is_acknowledged_also_the_one_that_does_not_count() {
    let world = World::new().await;
    world.posts.insert_post(&world.sql, "7", "50").await;
    world.record("7", &["1", "2", "50"]).await;
    world.record("7", &["1"]).await;
    world.synchronizer(&[]).await.drain(Urgency::AtOnce).await.unwrap();
    assert_eq!(world.meta("7").await, [2, 4, 4]);
}

#[tokio::test]
async fn what_can_never_be_stored_is_kept_aside_and_blocks_nothing() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1", "not-a-number"]).await;
    world.add_entry(vec![("a b", "1")]).await;
    world.add_entry(vec![("7", "two words")]).await;
    world.add_entry(vec![("7", "99999999999999999999")]).await;
    world.record("7", &["2"]).await;
    world.synchronizer(&[]).await.drain(Urgency::AtOnce).await.unwrap();

    assert_eq!(ledger_viewers(&world.sql, "7").await, ["1", "2"]);
    assert_eq!(world.outbox_length().await, 0);
    assert_eq!(world.live("7").await, 2);
    let dead = world.dead().await;
    assert_eq!(dead.len(), 4, "{dead:?}");
    let does_not_fit = "the viewer's id does not fit the column's type";
    for [post, viewer, reason] in [
        ["a b", "1", "not the id of a post"],
        ["7", "two words", "not the id of a viewer"],
        ["7", "not-a-number", does_not_fit],
        ["7", "99999999999999999999", does_not_fit],
    ] {
        assert!(dead.contains(&[post.to_owned(), viewer.to_owned(), reason.to_owned()]), "{viewer} is missing in {dead:?}");
    }
}

#[tokio::test]
async fn a_post_whose_views_are_all_dead_stays_a_post() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["not-a-number"]).await;
    world.synchronizer(&[]).await.drain(Urgency::AtOnce).await.unwrap();
    assert_eq!(world.meta("7").await, [0, 1, 1]);
    assert!(world.exists("post:7:views".into()).await);
}

#[tokio::test]
async fn a_pair_that_a_constraint_of_the_application_refuses_is_found_among_many() {
    let world = World::new().await;
    world.post("7").await;
    world
        .sql
        .batch_execute(
            "alter table post_views add constraint no_robots check (user_id <> 66);
             create table users (id bigint primary key); insert into users select generate_series(1, 99);
             alter table post_views add foreign key (user_id) references users",
        )
        .await
        .unwrap();
    let viewers: Vec<String> = (1..=100).map(|viewer| viewer.to_string()).collect();
    world.record("7", &viewers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.synchronizer(&[]).await.drain(Urgency::AtOnce).await.unwrap();

    world.assert_views("7", 98).await;
    let mut dead = world.dead().await;
    dead.sort();
    assert_eq!(dead.iter().map(|dead| dead[1].as_str()).collect::<Vec<_>>(), ["100", "66"]);
    assert!(dead[1][2].contains("no_robots"), "{dead:?}");
}

#[tokio::test]
async fn two_spellings_of_a_viewer_are_one_and_of_a_post_are_none() {
    let database = postgres::shared().await.database().await;
    let world = World::with_stores(RedisServer::start().await, database, PostsTable::default()).await;
    let (post, viewer) = ("00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b");
    world.posts.insert_post(&world.sql, post, None).await;
    let (loud_post, loud_viewer) = (post.to_uppercase(), viewer.to_uppercase());
    world.add_entry(vec![(post, viewer), (post, &loud_viewer), (&loud_post, viewer)]).await;
    world.synchronizer(&[]).await.drain(Urgency::AtOnce).await.unwrap();
    assert_eq!(world.stored(post).await, 1);
    assert_eq!(world.dead().await.len(), 1);
}

#[tokio::test]
async fn a_view_is_dated_by_its_entry() {
    let world = World::new().await;
    world.post("7").await;
    let id = world.add_entry(vec![("7", "1")]).await;
    world.synchronizer(&[]).await.drain(Urgency::AtOnce).await.unwrap();
    let row = world.sql.query_one("select (extract(epoch from viewed_at) * 1000)::bigint from post_views", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0).to_string(), id.split('-').next().unwrap());
}

#[tokio::test]
async fn a_batch_waits_for_company_until_it_is_full_or_somebody_is_in_a_hurry() {
    let world = World::new().await;
    world.post("7").await;
    let mut synchronizer = world.synchronizer(&["--linger", "1h", "--batch-size", "3"]).await;
    assert_eq!(synchronizer.drain(Urgency::Patient).await.unwrap(), Drained::Idle);
    world.record("7", &["1", "2"]).await;
    for _ in 0..2 {
        assert!(matches!(synchronizer.drain(Urgency::Patient).await.unwrap(), Drained::Waiting(_)));
    }
    assert_eq!(world.stored("7").await, 0);
    world.record("7", &["3"]).await;
    assert!(matches!(synchronizer.drain(Urgency::Patient).await.unwrap(), Drained::Stored { pairs: 3, .. }));
    world.record("7", &["4"]).await;
    assert!(matches!(synchronizer.drain(Urgency::AtOnce).await.unwrap(), Drained::Stored { pairs: 1, .. }));
    world.assert_views("7", 4).await;

    let mut quick = world.synchronizer(&["--linger", "10ms"]).await;
    world.record("7", &["5"]).await;
    while let Drained::Waiting(until) = quick.drain(Urgency::Patient).await.unwrap() {
        tokio::time::sleep_until(until.into()).await;
    }
    world.assert_views("7", 5).await;
}

#[tokio::test]
async fn thousands_of_pairs_in_hundreds_of_entries_are_exact() {
    let world = World::new().await;
    for post in 1..=20 {
        world.post(&post.to_string()).await;
    }
    let viewers: Vec<String> = (1..=1_500).map(|viewer| viewer.to_string()).collect();
    let all: Vec<&str> = viewers.iter().map(String::as_str).collect();
    // One entry that is larger than a script's share, and more entries than a page or a batch has.
    world.record("1", &all).await;
    for chunk in all.chunks(100) {
        for post in 2..=20 {
            world.record(&post.to_string(), &chunk[..20]).await;
        }
    }
    let mut synchronizer = world.synchronizer(&["--batch-size", "500"]).await;
    synchronizer.drain_all().await.unwrap();
    assert_eq!(world.outbox_length().await, 0);
    world.assert_views("1", 1_500).await;
    for post in 2..=20 {
        world.assert_views(&post.to_string(), 300).await;
    }
}

#[tokio::test]
async fn counts_that_changed_are_published_and_no_others() {
    let world = World::new().await;
    world.post("7").await;
    world.post("8").await;
    let subscriber = world.server.client().await;
    let mut messages = subscriber.message_rx();
    let () = subscriber.subscribe("views:updates").await.unwrap();
    let mut synchronizer = world.synchronizer(&[]).await;
    world.record("7", &["1", "2"]).await;
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    // A repeat changes nothing.
    world.add_entry(vec![("7", "1")]).await;
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    world.record("8", &["1"]).await;
    synchronizer.drain(Urgency::AtOnce).await.unwrap();

    for expected in [r#"{"postId":"7","viewsCount":2}"#, r#"{"postId":"8","viewsCount":1}"#] {
        let message = tokio::time::timeout(SOON, messages.recv()).await.unwrap().unwrap();
        assert_eq!(message.value.as_string().unwrap(), expected);
    }
    subscriber.quit().await.unwrap();
}

#[tokio::test]
async fn a_post_that_is_locked_waits_although_the_rest_of_its_batch_is_settled_in_parts() {
    let world = World::new().await;
    world.post("7").await;
    world.post("8").await;
    // Each refusal takes its time, so that some posts are settled before all are done.
    let refuse = "create function refuse() returns trigger language plpgsql as \
        $$ begin perform pg_sleep(0.2); raise exception 'not now'; end $$; \
        create trigger refuse before insert on post_views for each row when (new.user_id > 100) execute function refuse()";
    world.sql.batch_execute(refuse).await.unwrap();
    world.record("7", &["1", "2"]).await;
    world.record("8", &["1", "2", "101", "102", "103", "104", "105", "106"]).await;
    let application = world.database.client().await;
    application.batch_execute("begin; select from posts where id = 7 for update").await.unwrap();

    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    assert_eq!((world.stored("7").await, world.stored("8").await), (0, 2));
    assert_eq!(world.dead().await.len(), 6);
    assert_eq!(world.meta("7").await, [0, 2, 0], "nothing of it is acknowledged");
    application.batch_execute("rollback").await.unwrap();
    drain_deferred(&mut synchronizer).await;
    world.assert_views("7", 2).await;
}

#[tokio::test]
async fn an_entry_stays_for_a_post_that_is_locked_while_others_of_it_are_locked_again_and_free_again() {
    let world = World::new().await;
    for post in ["7", "8", "9"] {
        world.post(post).await;
    }
    world.add_entry(vec![("7", "1"), ("8", "1"), ("9", "1")]).await;
    let locked = async |posts: &str| {
        let application = world.database.client().await;
        application.batch_execute(&format!("begin; select from posts where id in ({posts}) for update")).await.unwrap();
        application
    };
    let (seven, nine) = (locked("7").await, locked("9").await);
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    assert_eq!((world.stored("8").await, world.outbox_length().await), (1, 1));
    // The second view of a post waits whose first one is stored, and that is in an entry which stays.
    let eight = locked("8").await;
    world.add_entry(vec![("8", "2")]).await;
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    assert_eq!((world.stored("8").await, world.outbox_length().await), (1, 2));
    drop((seven, eight));
    while (world.stored("7").await, world.stored("8").await) != (1, 2) {
        if let Drained::Deferred(until) = synchronizer.drain(Urgency::AtOnce).await.unwrap() {
            tokio::time::sleep_until(until.into()).await;
        }
    }
    assert_eq!(world.outbox_length().await, 1, "the entry stays for the post that is still locked");
    drop(nine);
    drain_deferred(&mut synchronizer).await;
    assert_eq!((world.stored("9").await, world.outbox_length().await), (1, 0));
}

#[tokio::test]
async fn an_application_that_locks_in_any_order_is_never_the_victim_of_a_deadlock() {
    let world = World::new().await;
    for post in 1..=10 {
        world.post(&post.to_string()).await;
    }
    // A deadlock is found after a second otherwise, which makes for a long test.
    let quickly = format!("alter database {} set deadlock_timeout = '20ms'", world.database.name());
    world.sql.batch_execute(&quickly).await.unwrap();
    // The application updates the same rows in the opposite order, again and again.
    let rival = world.database.client().await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let rival = tokio::spawn(async move {
        let mut deadlocks = 0;
        while stopped.try_recv().is_err() {
            let _ = rival.batch_execute("begin").await;
            for post in (1..=10).rev() {
                let update = format!("update posts set author_id = author_id where id = {post}");
                if rival.batch_execute(&update).await.is_err() {
                    deadlocks += 1;
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let _ = rival.batch_execute("rollback").await;
        }
        deadlocks
    });
    let mut synchronizer = world.synchronizer(&[]).await;
    for viewer in 1..=15 {
        for post in 1..=10 {
            world.record(&post.to_string(), &[&viewer.to_string()]).await;
        }
        synchronizer.drain(Urgency::AtOnce).await.unwrap();
    }
    let _ = stop.send(());
    assert_eq!(rival.await.unwrap(), 0, "its transactions were killed");
    drain_deferred(&mut synchronizer).await;
    for post in 1..=10 {
        world.assert_views(&post.to_string(), 15).await;
    }
}
