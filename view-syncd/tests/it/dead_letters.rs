//! `view-syncd dead`: what could not be stored is shown, offered again and removed.

use std::{collections::BTreeMap, time::Duration};

use fred::interfaces::StreamsInterface;
use serde_json::Value;
use testkit::eventually;

use crate::support::World;

const SECONDS: Duration = Duration::from_secs(15);

/// The status of a command, and what it prints.
async fn dead(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let (status, text, _) = world.run(&[&["dead"], args].concat(), &[]).await;
    (status, text)
}

/// The same in JSON.
async fn dead_json(world: &World, args: &[&str]) -> (Option<i32>, Value) {
    let (status, text) = dead(world, &[args, &["--json"]].concat()).await;
    assert_eq!(text.lines().count(), 1, "{text}");
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

/// Adds a letter, and gives its id.
async fn letter(world: &World, fields: &[(&str, &str)]) -> String {
    world.redis.xadd(world.keys.dead(), false, None, "*", fields.to_vec()).await.unwrap()
}

/// A letter as this version writes them.
async fn write(world: &World, post: &str, viewer: &str, reason: &str, at: i64, retry: bool) -> String {
    let at = at.to_string();
    let mut fields = vec![("post", post), ("viewer", viewer), ("reason", reason), ("at", &at)];
    if retry {
        fields.push(("retry", "1"));
    }
    letter(world, &fields).await
}

/// When the pairs of the ledger were viewed, in milliseconds since 1970.
async fn times(world: &World) -> BTreeMap<(i64, i64), i64> {
    let statement = "select post_id, user_id, (extract(epoch from viewed_at) * 1000)::bigint from post_views";
    let rows = world.sql.query(statement, &[]).await.unwrap();
    rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect()
}

async fn world() -> World {
    let world = World::new().await;
    for post in ["1", "2", "3"] {
        world.post(post).await;
    }
    world
}

const AT: i64 = 1_700_000_000_123;

#[tokio::test]
async fn letters_are_listed_with_their_time_and_found_by_id_post_and_reason() {
    let world = world().await;
    assert_eq!(dead(&world, &["list"]).await, (Some(0), String::new()));
    assert_eq!(dead_json(&world, &["list"]).await, (Some(0), Value::Array(vec![])));
    let one = write(&world, "1", "5", "violates \"no_robots\" (23514)", AT, false).await;
    let two = write(&world, "2", "6", "no such post", AT + 1_000, false).await;
    let three = write(&world, "2", "7", "closed (P0001)", AT, true).await;
    let strange = write(&world, "\u{1b}[31m", "a\nb", "not the id of a post", AT, false).await;

    let (status, all) = dead(&world, &["list"]).await;
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!((status, lines.len()), (Some(1), 4), "{all}");
    assert!(lines[0].contains(&one) && lines[0].contains("2023-11-14T22:13:20.123Z") && lines[0].contains("no_robots"), "{all}");
    assert!(lines[2].contains("offered again") && !lines[1].contains("offered again"), "{all}");
    assert!(!all.contains('\u{1b}'), "{all:?}");

    let ids = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
    };
    let (status, all) = dead_json(&world, &["list"]).await;
    assert_eq!((status, ids(&all)), (Some(1), vec![one.clone(), two.clone(), three.clone(), strange]));
    assert_eq!(all[0]["post"], "1");
    assert_eq!((&all[0]["viewer"], &all[0]["retry"]), (&Value::from("5"), &Value::from(false)));
    assert_eq!((&all[2]["at"], &all[2]["retry"]), (&Value::from("2023-11-14T22:13:20.123Z"), &Value::from(true)));

    for (filter, expected) in [
        (vec!["--post", "2"], vec![&two, &three]),
        (vec!["--reason", "no_robots"], vec![&one]),
        (vec!["--post", "2", "--reason", "no such"], vec![&two]),
        (vec![two.as_str(), one.as_str()], vec![&one, &two]),
        (vec![two.as_str(), "--post", "1"], vec![]),
        (vec!["--post", "nobody"], vec![]),
        (vec!["5-5"], vec![]),
    ] {
        let (status, found) = dead_json(&world, &[&["list"], filter.as_slice()].concat()).await;
        let expected: Vec<String> = expected.into_iter().cloned().collect();
        assert_eq!((status, ids(&found)), (Some(i32::from(!expected.is_empty())), expected), "{filter:?}");
    }
}

#[tokio::test]
async fn what_is_no_id_and_no_filter_is_a_wrong_setting() {
    let world = world().await;
    let id = write(&world, "1", "5", "closed (P0001)", AT, true).await;
    for args in [
        vec!["retry", "abc"],
        vec!["retry", "1-2-3"],
        vec!["drop", ""],
        vec!["drop", "-"],
        vec!["drop", "99999999999999999999999"],
        vec!["list", "+1-1"],
        vec!["list", "1-"],
        vec!["list", "*"],
        vec!["list", "--post"],
        vec!["drop", &id, "--force"],
        vec!["bury"],
        vec![],
    ] {
        let (status, text, told) = world.run(&[&["dead"], args.as_slice()].concat(), &[]).await;
        assert_eq!((status, text), (Some(64), String::new()), "{args:?}: {told}");
    }
    assert_eq!(world.dead().await.len(), 1);
}

#[tokio::test]
async fn a_retry_stores_what_goes_in_now_with_the_time_of_the_view() {
    let world = world().await;
    world.sql.batch_execute("alter table post_views add constraint no_robots check (user_id <> 66)").await.unwrap();
    world.record("1", &["66", "5"]).await;
    let entry = world.oldest_ms().await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.drain(view_syncd::drain::Urgency::AtOnce).await.unwrap();
    write(&world, "2", "6", "no such post", AT, false).await;
    write(&world, "404", "6", "no such post", AT, false).await;
    write(&world, "1", "not-a-number", "the viewer's id does not fit the column's type", AT, true).await;
    write(&world, "a b", "7", "not the id of a post", AT, false).await;
    // Of the previous version: the time is that of the letter.
    let old = letter(&world, &[("post", "3"), ("viewer", "8"), ("reason", "closed")]).await;
    letter(&world, &[("post", "2"), ("reason", "the post has no viewer")]).await;
    letter(&world, &[("something", "else")]).await;
    // A pair that is there already.
    write(&world, "1", "5", "closed (P0001)", AT, true).await;

    let (status, result) = dead_json(&world, &["retry"]).await;
    let expected = serde_json::json!({"stored": 3, "removed": 3, "left": 6});
    assert_eq!((status, result), (Some(1), expected));
    let old_ms: i64 = old.split('-').next().unwrap().parse().unwrap();
    let expected = [((1, 5), entry), ((2, 6), AT), ((3, 8), old_ms)];
    assert_eq!(times(&world).await, BTreeMap::from(expected));

    world.sql.batch_execute("alter table post_views drop constraint no_robots").await.unwrap();
    assert_eq!(
        dead(&world, &["retry", "--post", "1", "--reason", "no_robots"]).await,
        (Some(0), "stored 1 · removed 1 · left 0\n".into())
    );
    assert_eq!(times(&world).await.get(&(1, 66)), Some(&entry));
    world.assert_views("1", 2).await;
    // Nothing is left of it, and nothing happens.
    assert_eq!(dead(&world, &["retry", "--reason", "no_robots"]).await, (Some(0), "stored 0 · removed 0 · left 0\n".into()));

    world.sql.batch_execute("insert into posts (id) values (404)").await.unwrap();
    assert_eq!(dead(&world, &["retry", "--post", "404"]).await.0, Some(0));
    assert_eq!(times(&world).await.get(&(404, 6)), Some(&AT));
    assert_eq!(world.dead_ids().await.len(), 4);
}

#[tokio::test]
async fn a_retry_beside_a_table_that_takes_nothing_leaves_everything() {
    let world = world().await;
    world.sql.batch_execute("alter table post_views add constraint closed check (false) not valid").await.unwrap();
    for viewer in 1..=30 {
        write(&world, "1", &viewer.to_string(), "closed (P0001)", AT, true).await;
    }
    let (status, _, told) = world.run(&["dead", "retry"], &[]).await;
    assert_eq!(status, Some(1));
    assert!(told.contains("closed"), "{told}");
    assert_eq!(world.dead().await.len(), 30);
    world.sql.batch_execute("alter table post_views drop constraint closed").await.unwrap();
    assert_eq!(dead(&world, &["retry"]).await, (Some(0), "stored 30 · removed 30 · left 0\n".into()));
    assert_eq!(world.stored("1").await, 30);
}

#[tokio::test]
async fn a_retry_goes_past_posts_that_others_have_locked() {
    let world = world().await;
    for post in ["1", "2"] {
        write(&world, post, "5", "closed (P0001)", AT, true).await;
    }
    let application = world.database.client().await;
    application.batch_execute("begin; select from posts where id = 1 for update").await.unwrap();
    assert_eq!(dead(&world, &["retry"]).await, (Some(1), "stored 1 · removed 1 · left 1\n".into()));
    application.batch_execute("commit").await.unwrap();
    assert_eq!(dead(&world, &["retry"]).await, (Some(0), "stored 1 · removed 1 · left 0\n".into()));
}

#[tokio::test]
async fn many_letters_are_offered_and_dropped_page_by_page() {
    let world = world().await;
    for number in 0..1_700 {
        write(
            &world,
            &(1 + number % 3).to_string(),
            &number.to_string(),
            if number % 2 == 0 { "even" } else { "odd" },
            AT,
            false,
        )
        .await;
    }
    assert_eq!(dead_json(&world, &["list"]).await.1.as_array().unwrap().len(), 1_700);
    let result = dead_json(&world, &["drop", "--reason", "odd"]).await;
    assert_eq!(result, (Some(0), serde_json::json!({"stored": 0, "removed": 850, "left": 0})));
    assert_eq!(dead(&world, &["retry"]).await, (Some(0), "stored 850 · removed 850 · left 0\n".into()));
    assert_eq!((times(&world).await.len(), world.dead().await.len()), (850, 0));
    assert_eq!(dead(&world, &["drop"]).await, (Some(0), "stored 0 · removed 0 · left 0\n".into()));
}

#[tokio::test]
async fn a_drop_takes_what_it_is_told_and_nothing_else() {
    let world = world().await;
    let one = write(&world, "1", "5", "closed", AT, true).await;
    let two = write(&world, "1", "6", "closed", AT, true).await;
    assert_eq!(dead(&world, &["drop", &one, "7-7"]).await, (Some(0), "stored 0 · removed 1 · left 0\n".into()));
    assert_eq!(world.dead_ids().await, [two]);
    assert_eq!(times(&world).await.len(), 0);
}

#[tokio::test]
async fn retries_beside_a_daemon_store_everything_once_and_show_the_counts() {
    let world = world().await;
    let daemon = world.daemon().env("SYNC_LINGER", "20ms").env("SYNC_INTERVAL", "1s").start();
    daemon.wait_for_line("Sync completed").await;
    world.sql.batch_execute("alter table post_views add constraint no_robots check (user_id < 500)").await.unwrap();
    let viewers: Vec<String> = (400..600).map(|viewer| viewer.to_string()).collect();
    for post in ["1", "2", "3"] {
        world.record(post, &viewers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    eventually("the bad ones are kept aside", SECONDS, async || {
        world.dead().await.len() == 300 && world.outbox_length().await == 0
    })
    .await;
    world.sql.batch_execute("alter table post_views drop constraint no_robots").await.unwrap();
    let more = async {
        for viewer in 1..=200 {
            for post in ["1", "2", "3"] {
                world.record(post, &[&viewer.to_string()]).await;
            }
        }
    };
    let (one, other, ()) = tokio::join!(dead_json(&world, &["retry"]), dead_json(&world, &["retry"]), more);
    assert!(one.0 == Some(0) && other.0 == Some(0), "{one:?} {other:?}");
    assert_eq!(world.dead().await.len(), 0);
    eventually("everything is acknowledged", SECONDS, async || world.outbox_length().await == 0).await;
    daemon.signal("HUP");
    for post in ["1", "2", "3"] {
        eventually("the counts are right", SECONDS * 2, async || (world.live(post).await == 400).then_some(())).await;
        world.assert_views(post, 400).await;
    }
}

#[tokio::test]
async fn letters_that_wait_do_not_keep_others_from_their_turn() {
    let world = world().await;
    // As many bad ones as two pages have, before those that may go in; and some that no retry is due for.
    world.sql.batch_execute("alter table post_views add constraint no_robots check (user_id < 5000)").await.unwrap();
    for number in 0..1_000 {
        write(&world, "1", &(5_000 + number).to_string(), "closed (P0001)", AT, true).await;
    }
    write(&world, "2", "6", "no such post", AT, false).await;
    for viewer in 1..=20 {
        write(&world, "3", &viewer.to_string(), "closed (P0001)", AT, true).await;
    }
    let daemon = world.daemon().env("SYNC_INTERVAL", "1s").env("SYNC_LINGER", "20ms").start();
    daemon.wait_for_line("Sync completed").await;
    eventually("those behind are stored", Duration::from_secs(20), async || times(&world).await.len() == 20).await;
    // What is viewed meanwhile has its turn, too.
    for viewer in 1..=5 {
        world.record("2", &[&viewer.to_string()]).await;
        eventually("views are stored", SECONDS + SECONDS, async || world.stored("2").await == viewer).await;
    }
    assert_eq!(world.dead().await.len(), 1_001);
}
