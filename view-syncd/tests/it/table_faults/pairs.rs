//! Pairs that the table does not take, while it takes others.

use std::time::{Duration, Instant};

use super::{SECONDS, cycle, daemon, ledger, letters, outbox_empties, passing, record, trigger};
use crate::support::World;

/// Instead of the ledger, one that is partitioned by ranges of posts, and has none for the posts from 100 to 199.
const PARTITIONED: &str = "drop table post_views;
    create table post_views (post_id bigint not null references posts on delete cascade, user_id bigint not null,
      viewed_at timestamptz not null default now(), primary key (post_id, user_id)) partition by range (post_id);
    create table low partition of post_views for values from (0) to (100);
    create table high partition of post_views for values from (200) to (300)";
const USERS: &str = "create table users (id bigint primary key); insert into users select generate_series(1, 1000);
    alter table post_views add constraint of_users foreign key (user_id) references users";

async fn world(posts: impl IntoIterator<Item = i32>, fault: &str) -> World {
    let world = World::new().await;
    for post in posts {
        world.post(&post.to_string()).await;
    }
    world.sql.batch_execute(fault).await.unwrap();
    world
}

#[tokio::test]
async fn pairs_of_a_missing_partition_wait_and_come_in_by_themselves() {
    let many: Vec<(i32, i32)> = (0..400).map(|number| (100 + number % 50, number)).collect();
    for (bad, good) in [
        (vec![(150, 1)], vec![]),
        (vec![(150, 1), (150, 2), (151, 1)], vec![(1, 1), (250, 1)]),
        (many.clone(), vec![(1, 1), (2, 2)]),
        (many, (0..400).map(|number| (1 + number % 50, number)).collect()),
    ] {
        let world = world((1..=50).chain(100..150).chain([150, 151, 250]), PARTITIONED).await;
        let (daemon, client) = daemon(&world).await;
        let all: Vec<(i32, i32)> = bad.iter().chain(&good).copied().collect();
        let sent = record(&world, &all).await;
        let started = Instant::now();
        outbox_empties(&world, SECONDS * 2).await;
        assert!(started.elapsed() < SECONDS * 2, "{:?}", started.elapsed());
        let is_bad = |(post, ..): &&(String, String, String)| (100..200).contains(&post.parse::<i32>().unwrap());
        let expected = sent.iter().filter(is_bad).cloned().collect::<Vec<_>>();
        assert_eq!(passing(&world).await, expected);
        assert_eq!(ledger(&world).await.len(), good.len());
        let reason = letters(&world).await[0].iter().find(|(field, _)| field == "reason").unwrap().1.clone();
        assert!(reason.contains("partition") && reason.contains("23514"), "{reason}");
        assert_eq!(client.get("/readyz").await.status, 200);
        // In vain.
        cycle(&daemon).await;
        assert_eq!(passing(&world).await, expected);
        world.sql.batch_execute("create table middle partition of post_views for values from (100) to (200)").await.unwrap();
        cycle(&daemon).await;
        assert_eq!(letters(&world).await.len(), 0);
        assert_eq!(ledger(&world).await, sent);
        assert_eq!(world.stored(&bad[0].0.to_string()).await, bad.iter().filter(|(post, _)| *post == bad[0].0).count() as i64);
    }
}

#[tokio::test]
async fn a_trigger_that_raises_for_one_viewer_or_post_keeps_only_those_out() {
    for (when, is_bad) in [
        ("new.user_id = 66", (|(_, viewer)| viewer == 66) as fn((i32, i32)) -> bool),
        ("new.post_id = 3", |(post, _)| post == 3),
        ("new.post_id = 3 and new.user_id = 66", |pair| pair == (3, 66)),
        ("new.user_id > 40", |(_, viewer)| viewer > 40),
    ] {
        for event in ["before insert on post_views", "after insert on post_views"] {
            let world = world(1..=5, &trigger(event, "P0001", when)).await;
            let (daemon, _) = daemon(&world).await;
            let all: Vec<(i32, i32)> = (1..=5)
                .flat_map(|post| (57..=76).map(move |viewer| (post, viewer - i32::from(when.contains('>')) * 30)))
                .collect();
            let sent = record(&world, &all).await;
            outbox_empties(&world, SECONDS).await;
            let pair = |(post, viewer, _): &(String, String, String)| (post.parse().unwrap(), viewer.parse().unwrap());
            let (bad, good): (Vec<_>, Vec<_>) = sent.iter().cloned().partition(|sent| is_bad(pair(sent)));
            assert_eq!((passing(&world).await, ledger(&world).await), (bad.clone(), good.clone()), "{event} {when}");
            cycle(&daemon).await;
            assert_eq!((passing(&world).await, ledger(&world).await), (bad, good), "{event} {when}");
            world.sql.batch_execute("drop function refuse() cascade").await.unwrap();
            cycle(&daemon).await;
            assert_eq!((letters(&world).await.len(), ledger(&world).await), (0, sent), "{event} {when}");
        }
    }
}

#[tokio::test]
async fn a_trigger_may_name_any_state_for_one_viewer() {
    // Those of a missing right, a serialization failure, a cancelled statement, a missing feature, and a server that
    // shuts down.
    for state in ["42501", "40001", "57014", "0A000", "57P01"] {
        let world = world(1..=5, &trigger("before insert on post_views", state, "new.user_id = 66")).await;
        let (_daemon, client) = daemon(&world).await;
        let all: Vec<(i32, i32)> = (1..=5).flat_map(|post| [65, 66, 67].map(|viewer| (post, viewer))).collect();
        let sent = record(&world, &all).await;
        outbox_empties(&world, SECONDS).await;
        let (bad, good): (Vec<_>, Vec<_>) = sent.into_iter().partition(|(_, viewer, _)| viewer == "66");
        assert_eq!((passing(&world).await, ledger(&world).await), (bad, good), "{state}");
        assert_eq!(client.get("/readyz").await.status, 200);
    }
}

#[tokio::test]
async fn viewers_that_are_no_users_are_found_quickly() {
    // By post; and whether the bad ones stand together.
    let mixed = |number: i32| if number % 2 == 0 { 1 + number / 2 } else { 5_000 + number };
    let apart = |number: i32| if number < 300 { 1 + number } else { 5_000 + number };
    let few = |number: i32| if number % 100 == 50 { 5_000 + number } else { 1 + number % 1_000 };
    type Viewer = fn(i32) -> i32;
    let cases: [(&str, i32, i32, Viewer); 6] = [
        ("half of 600", 600, 20, mixed),
        ("half of 600 at the end", 600, 20, apart),
        ("half of 600 of one post", 600, 1, mixed),
        ("half of 600 at the end of one post", 600, 1, apart),
        ("20 of 2,000", 2_000, 50, few),
        ("all but one", 300, 3, |number| if number == 150 { 1 } else { 5_000 + number }),
    ];
    for deferred in ["", " deferrable initially deferred"] {
        for (name, number, posts, viewer) in cases {
            let world = world(1..=posts, &format!("{USERS}{deferred}")).await;
            let (daemon, client) = daemon(&world).await;
            let mut all: Vec<(i32, i32)> = (0..number).map(|number| (1 + number % posts, viewer(number))).collect();
            all.sort_unstable();
            all.dedup();
            let sent = record(&world, &all).await;
            let started = Instant::now();
            outbox_empties(&world, SECONDS * 3).await;
            assert!(started.elapsed() < SECONDS, "{name}{deferred}: {:?}", started.elapsed());
            let is_user = |(_, viewer, _): &(String, String, String)| viewer.parse::<i32>().unwrap() <= 1_000;
            let (good, bad): (Vec<_>, Vec<_>) = sent.iter().cloned().partition(is_user);
            assert_eq!((passing(&world).await, ledger(&world).await), (bad, good), "{name}{deferred}");
            assert!(letters(&world).await.iter().all(|letter| letter[2].1.contains("of_users") && letter[2].1.contains("23503")));
            assert_eq!(daemon.lines_with("gave way").len(), 0);
            assert_eq!(client.get("/readyz").await.status, 200);
            world.sql.batch_execute("insert into users select generate_series(5000, 9000)").await.unwrap();
            cycle(&daemon).await;
            assert_eq!((letters(&world).await.len(), ledger(&world).await), (0, sent), "{name}{deferred}");
        }
    }
}

#[tokio::test]
async fn a_check_that_one_viewer_breaks_is_his_alone() {
    const CHECK: &str = "alter table post_views add constraint no_robots check (user_id not between 60 and 69)";
    for (name, before, pairs) in [
        ("alone", vec![], vec![(1, 66)]),
        ("alone after others", vec![(1, 1), (1, 2)], vec![(1, 66)]),
        ("all robots", vec![], (60..70).map(|viewer| (1, viewer)).collect()),
        ("among others", vec![], (1..=200).map(|viewer| (1 + viewer % 3, viewer)).collect::<Vec<_>>()),
    ] {
        for posts in [1, 3] {
            let world = world(1..=posts, CHECK).await;
            let (daemon, client) = daemon(&world).await;
            let pairs: Vec<(i32, i32)> = pairs.iter().map(|(post, viewer)| (1 + (post - 1) % posts, *viewer)).collect();
            record(&world, &before).await;
            outbox_empties(&world, SECONDS).await;
            record(&world, &pairs).await;
            outbox_empties(&world, SECONDS).await;
            let bad = pairs.iter().filter(|(_, viewer)| (60..70).contains(viewer)).count();
            let dead = world.dead().await;
            assert_eq!((dead.len(), ledger(&world).await.len()), (bad, before.len() + pairs.len() - bad), "{name}, {posts}");
            assert!(dead.iter().all(|[_, _, reason]| reason.contains("no_robots") && reason.contains("23514")), "{dead:?}");
            assert_eq!(client.get("/readyz").await.status, 200, "{name}");
            // Nothing that an operator has not asked for.
            cycle(&daemon).await;
            assert_eq!(passing(&world).await.len(), 0);
        }
    }
}

#[tokio::test]
async fn a_check_that_most_viewers_break_holds_up_nobody() {
    const CHECK: &str = "alter table post_views add constraint known check (user_id between 1 and 100)";
    for posts in [1, 5] {
        let world = world(1..=posts, CHECK).await;
        let (_daemon, _) = daemon(&world).await;
        for round in 0..3 {
            let pairs: Vec<(i32, i32)> = (1..=400).map(|viewer| (1 + viewer % posts, viewer + round * 20)).collect();
            record(&world, &pairs).await;
            outbox_empties(&world, SECONDS + Duration::from_secs(3)).await;
        }
        assert_eq!(ledger(&world).await.len(), 100);
    }
}

#[tokio::test]
async fn a_foreign_key_to_an_empty_table_waits_for_the_first_user() {
    let world = world([1, 2], USERS).await;
    world.sql.batch_execute("truncate users cascade").await.unwrap();
    let (daemon, _) = daemon(&world).await;
    let sent = record(&world, &[(1, 1), (1, 2), (2, 7)]).await;
    daemon.wait_for_line("the outbox cannot be drained").await;
    assert!(!daemon.lines_with("23503").is_empty(), "{:?}", daemon.output());
    assert_eq!(letters(&world).await.len(), 0);
    world.sql.batch_execute("insert into users values (7)").await.unwrap();
    outbox_empties(&world, SECONDS * 2).await;
    assert_eq!((passing(&world).await.len(), ledger(&world).await.len()), (2, 1));
    world.sql.batch_execute("insert into users values (1), (2)").await.unwrap();
    cycle(&daemon).await;
    assert_eq!((letters(&world).await.len(), ledger(&world).await), (0, sent));
}
