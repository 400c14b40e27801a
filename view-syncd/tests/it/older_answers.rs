//! A count that Redis has is never set back by an older answer of PostgreSQL's, nor raised by what the outbox has as
//! well: whoever writes counts, against each other, in every order.

use std::time::Duration;

use fred::interfaces::{HashesInterface, KeysInterface, SetsInterface};
use views_core::{
    ids::{PostId, ViewerId},
    keys::Keys,
    post::KnownPost,
    ttl::Ttl,
};
use views_redis::{
    Epoch, Redis, Session,
    resp::{Commands, Replies, Reply},
    scripts::{self, Adjustment, Depth, Settled, Settlement},
};

use crate::support::World;

const TTL: Ttl = Ttl::new(Duration::from_secs(3_600));

fn post() -> PostId {
    PostId::parse("7").unwrap()
}

fn viewers(names: &[&str]) -> Vec<ViewerId> {
    names.iter().map(|name| ViewerId::parse(name).unwrap()).collect()
}

fn known(views: i64, viewers: &[&str]) -> KnownPost {
    KnownPost { author: "50".to_owned(), views, viewers: viewers.iter().map(|viewer| (*viewer).to_owned()).collect() }
}

/// The keys with a time to live that no default is.
fn keys(world: &World) -> Keys {
    world.keys.clone().with_ttl(TTL)
}

/// A session of a test's own.
fn session(world: &World) -> Session {
    Session::new(&Redis::from(world.redis.clone()), std::time::Duration::from_secs(5), Epoch::default())
}

/// Brings the post up to date after views past Redis, where Redis still has the count `seen`.
async fn refresh(world: &World, known: &KnownPost, seen: &str, missed: &[&str]) -> bool {
    try_refresh(world, known, Some(seen), missed).await
}

async fn try_refresh(world: &World, known: &KnownPost, seen: Option<&str>, missed: &[&str]) -> bool {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    scripts::queue_refresh(&mut commands, &keys(world), &post(), known, seen, &viewers(missed));
    session(world).exchange(&commands, &mut replies).await.unwrap();
    scripts::refreshed(replies.iter().next().unwrap()).unwrap()
}

async fn set_meta(world: &World, fields: &[(&str, &str)]) {
    let () = world.redis.hset(world.keys.meta(&post()), fields.to_vec()).await.unwrap();
}

fn authors(known: &str, author: &str) -> Option<[String; 2]> {
    Some([known, author].map(str::to_owned))
}

async fn replies(world: &World, commands: &Commands) -> Replies {
    let mut replies = Replies::default();
    session(world).exchange(commands, &mut replies).await.unwrap();
    replies
}

async fn adjust(world: &World, adjustment: Adjustment) -> i64 {
    let mut commands = Commands::default();
    scripts::adjust(&mut commands, &keys(world), &[adjustment]);
    let replies = replies(world, &commands).await;
    let Some(Reply::List(all)) = replies.iter().next() else { panic!("{replies:?}") };
    all.iter().next().and_then(Reply::number).unwrap()
}

/// Acknowledges pairs, with the counts before and after them, and the count that Redis had when PostgreSQL was asked
/// once more.
async fn settle(world: &World, entries: [&str; 2], pairs: u64, [before, views]: [i64; 2], seen: Option<&str>) -> Settled {
    let ([first, last], seen) = (entries.map(str::to_owned), seen.map(str::to_owned));
    let mut commands = Commands::default();
    scripts::settle(&mut commands, &world.keys, &[Settlement { post: post(), first, last, pairs, views, before, seen }], false);
    let replies = replies(world, &commands).await;
    let Some(Reply::List(all)) = replies.iter().next() else { panic!("{replies:?}") };
    all.iter().next().and_then(scripts::settled).unwrap()
}

/// Three viewers in the outbox, of a post of which five are in PostgreSQL.
async fn three_wait(world: &World) {
    world.record("7", &["11", "12", "13"]).await;
    set_meta(world, &[("author", "50"), ("persisted", "5"), ("settled", "4-0")]).await;
}

#[tokio::test]
async fn what_the_outbox_has_is_not_counted_twice_after_views_past_redis() {
    let world = World::new().await;
    three_wait(&world).await;
    // PostgreSQL has the three by now, which nobody has acknowledged yet, and two more that went past Redis.
    assert!(refresh(&world, &known(10, &[]), "5", &["21", "22"]).await);
    assert_eq!((world.live("7").await, world.meta("7").await), (10, [7, 5, 2]));
    // Repeating it changes nothing.
    assert!(refresh(&world, &known(10, &[]), "7", &["21", "22"]).await);
    assert_eq!(world.meta("7").await, [7, 5, 2]);
    // Whoever acknowledges the three has read the count before the two were there. He asks again, and is not told that
    // PostgreSQL has lost any.
    assert_eq!(settle(&world, ["5-0", "5-0"], 3, [5, 8], None).await, Settled::Doubtful("7".to_owned()));
    assert_eq!(world.meta("7").await, [7, 5, 2]);
    assert_eq!(settle(&world, ["5-0", "5-0"], 3, [7, 10], Some("7")).await, Settled::Done);
    assert_eq!((world.live("7").await, world.meta("7").await), (10, [10, 5, 5]));
}

#[tokio::test]
async fn several_processes_that_went_past_redis_tell_it_each_their_own() {
    let world = World::new().await;
    three_wait(&world).await;
    // Of five that are new in PostgreSQL, two are one process's, one another's, and two are in the outbox.
    assert!(refresh(&world, &known(10, &[]), "5", &["21", "22"]).await);
    assert!(!refresh(&world, &known(10, &[]), "5", &["31"]).await, "it has to look again");
    assert!(refresh(&world, &known(10, &[]), "7", &["31"]).await);
    assert_eq!(world.live("7").await, 11, "five, three that went past Redis, and three that wait");
    assert_eq!(settle(&world, ["5-0", "5-0"], 3, [8, 11], None).await, Settled::Done);
    assert_eq!(world.meta("7").await, [11, 6, 6]);
}

#[tokio::test]
async fn whom_the_ledger_brings_along_is_counted_with_those_who_are_named() {
    let world = World::new().await;
    three_wait(&world).await;
    // Two are named, and the ledger has a third one by now whom the next refresh is to name.
    assert!(refresh(&world, &known(11, &["11", "12", "13", "21", "22", "31"]), "5", &["21", "22"]).await);
    assert_eq!(world.live("7").await, 11);
    assert!(refresh(&world, &known(11, &["11", "12", "13", "21", "22", "31"]), "8", &["21", "22", "31"]).await);
    assert_eq!((world.live("7").await, world.meta("7").await), (11, [8, 6, 3]));
}

#[tokio::test]
async fn who_was_stored_before_the_post_was_looked_up_anew_counts_once() {
    let world = World::new().await;
    // Redis has forgotten everything, and somebody has looked the post up since: the count has everybody in it.
    scripts::hydrate(&Redis::from(world.redis.clone()), &keys(&world), &post(), &known(2_000, &[]), Depth::View).await.unwrap();
    assert!(refresh(&world, &known(2_000, &[]), "2000", &["21", "22"]).await);
    assert_eq!((world.live("7").await, world.meta("7").await), (2_000, [2_000, 2, 2]));
    // Whom one process cannot name any more is in the count.
    assert!(refresh(&world, &known(2_005, &[]), "2000", &[]).await);
    assert_eq!(world.live("7").await, 2_005);
}

#[tokio::test]
async fn a_post_that_is_viewed_past_redis_and_unknown_to_it_gets_everything() {
    let world = World::new().await;
    assert!(try_refresh(&world, &known(2, &["21", "22"]), None, &["21"]).await);
    assert_eq!(world.meta("7").await, [2, 2, 2]);
    assert_eq!(world.author("7").await.as_deref(), Some("50"));
    let ttl: i64 = world.redis.ttl(world.keys.meta(&post())).await.unwrap();
    assert!((3_590..=3_600).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_scan_writes_no_count_over_one_that_came_after_its_look() {
    let world = World::new().await;
    three_wait(&world).await;
    let look = Adjustment { known: Some(5), views: Some(6), ..Adjustment::of(post()) };
    // The drain was faster: six of PostgreSQL's and two of the three make eight.
    assert_eq!(settle(&world, ["5-0", "5-0"], 3, [5, 8], None).await, Settled::Done);
    assert_eq!(adjust(&world, look.clone()).await, 0);
    assert_eq!(world.meta("7").await, [8, 3, 3]);
    // A look before there was any count.
    assert_eq!(adjust(&world, Adjustment { known: None, ..look.clone() }).await, 0);
    assert_eq!(world.meta("7").await, [8, 3, 3]);
    // And one that is right, twice.
    let right = Adjustment { known: Some(8), views: Some(9), ..look };
    assert_eq!((adjust(&world, right.clone()).await, adjust(&world, right).await), (1, 0));
    assert_eq!(world.meta("7").await, [9, 3, 3]);
}

#[tokio::test]
async fn where_another_process_drains_nothing_is_written_that_it_may_have_to_settle() {
    let world = World::new().await;
    three_wait(&world).await;
    let quiet = Adjustment { known: Some(5), views: Some(8), is_quiet: true, ..Adjustment::of(post()) };
    assert_eq!(adjust(&world, quiet.clone()).await, 0);
    assert_eq!((world.meta("7").await, world.live("7").await), ([5, 3, 0], 8));
    // Its author is, all the same.
    let author = Adjustment { author: authors("50", "51"), ..quiet };
    adjust(&world, author).await;
    assert_eq!(world.author("7").await.as_deref(), Some("51"));
    assert_eq!(world.meta("7").await, [5, 3, 0]);
}

#[tokio::test]
async fn an_author_that_another_scan_has_written_is_left_alone() {
    let world = World::new().await;
    three_wait(&world).await;
    let change = |known, author| Adjustment { author: authors(known, author), ..Adjustment::of(post()) };
    assert_eq!(adjust(&world, change("50", "51")).await, 1);
    // An answer from before the change arrives late.
    assert_eq!(adjust(&world, change("49", "50")).await, 0);
    assert_eq!(world.author("7").await.as_deref(), Some("51"));
    assert_eq!(adjust(&world, change("51", "")).await, 1);
    assert_eq!(adjust(&world, change("51", "52")).await, 0);
    assert_eq!(adjust(&world, change("", "52")).await, 1);
    assert_eq!(world.author("7").await.as_deref(), Some("52"));
    assert_eq!(world.meta("7").await, [5, 3, 0]);
}

#[tokio::test]
async fn an_older_look_up_neither_lowers_nor_raises_what_is_known() {
    let world = World::new().await;
    three_wait(&world).await;
    for views in [8, 0, 4, 100] {
        scripts::hydrate(&Redis::from(world.redis.clone()), &keys(&world), &post(), &known(views, &["1", "2"]), Depth::Read)
            .await
            .unwrap();
        assert_eq!(world.meta("7").await, [5, 3, 0], "a reader brings nobody");
    }
    for views in [8, 0, 4, 100] {
        // The two are among the five.
        scripts::hydrate(&Redis::from(world.redis.clone()), &keys(&world), &post(), &known(views, &["1", "2"]), Depth::View)
            .await
            .unwrap();
        assert_eq!(world.meta("7").await, [5, 5, 2]);
    }
    for views in [0, 4, 8] {
        assert!(refresh(&world, &known(views, &[]), "5", &[]).await);
        assert_eq!(world.meta("7").await, [5, 5, 2]);
        assert!(
            !refresh(&world, &known(views, &["1", "2"]), "4", &["3"]).await,
            "Redis has another count than when it was looked at"
        );
        assert_eq!(world.meta("7").await, [5, 5, 2]);
    }
}

#[tokio::test]
async fn a_reader_puts_nothing_beside_what_is_no_set() {
    let world = World::new().await;
    let key = world.keys.views(&post());
    let () = world.redis.set(&key, "somebody else's", None, None, false).await.unwrap();
    let read =
        scripts::hydrate(&Redis::from(world.redis.clone()), &keys(&world), &post(), &known(8, &[]), Depth::Read).await.unwrap();
    assert!(!read, "it is left to a view's look-up");
    assert_eq!(world.redis.exists::<i64, _>(world.keys.meta(&post())).await.unwrap(), 0);
}

#[tokio::test]
async fn a_union_corrects_what_still_differs_and_nothing_else() {
    let world = World::new().await;
    world.record("7", &["1", "2"]).await;
    set_meta(&world, &[("author", "50"), ("persisted", "2"), ("acked", "2")]).await;
    world.add_by_hand("7", &["3"]).await;
    let union = Adjustment { known: Some(2), views: Some(3), is_quiet: true, recorded: 1, acked: 1, ..Adjustment::of(post()) };
    assert_eq!(adjust(&world, union.clone()).await, 1);
    assert_eq!(world.meta("7").await, [3, 3, 3]);
    // Two daemons unite the same set: the second finds nothing to correct.
    assert_eq!(adjust(&world, union).await, 0);
    assert_eq!(world.meta("7").await, [3, 3, 3]);
}

#[tokio::test]
async fn nothing_brings_a_hash_back_that_has_expired() {
    let world = World::new().await;
    let one_of_each = Adjustment {
        known: Some(5),
        views: Some(6),
        author: authors("50", "51"),
        recorded: 1,
        acked: 1,
        ..Adjustment::of(post())
    };
    world.add_by_hand("7", &["1"]).await;
    for adjustment in [
        one_of_each.clone(),
        Adjustment { recorded: 0, ..one_of_each.clone() },
        Adjustment { views: None, author: None, recorded: 0, ..one_of_each.clone() },
        Adjustment { known: None, ..one_of_each },
        Adjustment::of(post()),
    ] {
        assert_eq!(adjust(&world, adjustment.clone()).await, 0, "{adjustment:?}");
        assert!(!world.exists(world.keys.meta(&post())).await, "{adjustment:?}");
    }
    assert_eq!(settle(&world, ["5-0", "6-0"], 3, [5, 8], None).await, Settled::Done);
    let mut commands = Commands::default();
    scripts::raced(&mut commands, &world.keys, &post(), "5-0", 1);
    scripts::take_out(&mut commands, &world.keys, &post(), &viewers(&["1"]).iter().collect::<Vec<_>>(), 1);
    replies(&world, &commands).await;
    assert!(!world.exists(world.keys.meta(&post())).await);
    assert_eq!(world.redis.scard::<i64, _>(world.keys.views(&post())).await.unwrap(), 0);
}

#[tokio::test]
async fn a_set_without_a_hash_gets_a_time_to_live() {
    let world = World::new().await;
    world.add_by_hand("7", &["1"]).await;
    assert_eq!(adjust(&world, Adjustment::of(post())).await, 0);
    let ttl: i64 = world.redis.ttl(world.keys.views(&post())).await.unwrap();
    assert!((3_590..=3_600).contains(&ttl), "{ttl}");
}
