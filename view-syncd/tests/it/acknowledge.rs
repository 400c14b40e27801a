use fred::interfaces::{HashesInterface, KeysInterface};
use views_core::ids::PostId;
use views_redis::{
    Epoch, Redis, Session,
    resp::{Commands, Replies, Reply},
    scripts::{self, Settled, Settlement},
};

use crate::support::World;

fn post() -> PostId {
    PostId::parse("7").unwrap()
}

/// A session of a test's own.
fn session(world: &World) -> Session {
    Session::new(&Redis::from(world.redis.clone()), std::time::Duration::from_secs(5), Epoch::default())
}

/// Acknowledges pairs of the post that are in the entries from `first` to `last`, and gives what Redis replies.
async fn settle(world: &World, first: &str, last: &str, pairs: u64, views: i64, is_final: bool) -> Settled {
    settle_after(world, first, last, pairs, views, views, is_final).await
}

/// The same with the count before these pairs.
async fn settle_after(world: &World, first: &str, last: &str, pairs: u64, before: i64, views: i64, is_final: bool) -> Settled {
    let settled = settle_once(world, [first, last], pairs, [before, views], None, is_final).await;
    // PostgreSQL says the same when it is asked once more.
    let Settled::Doubtful(seen) = settled else { return settled };
    settle_once(world, [first, last], pairs, [before, views], Some(seen), is_final).await
}

async fn settle_once(
    world: &World,
    [first, last]: [&str; 2],
    pairs: u64,
    [before, views]: [i64; 2],
    seen: Option<String>,
    is_final: bool,
) -> Settled {
    let settlement = Settlement { post: post(), first: first.to_owned(), last: last.to_owned(), pairs, views, before, seen };
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    scripts::settle(&mut commands, &world.keys, &[settlement], is_final);
    session(world).exchange(&commands, &mut replies).await.unwrap();
    let Some(Reply::List(all)) = replies.iter().next() else { panic!("{replies:?}") };
    all.iter().next().and_then(scripts::settled).unwrap()
}

async fn field(world: &World, name: &str) -> Option<String> {
    world.redis.hget(world.keys.meta(&post()), name).await.unwrap()
}

async fn set_meta(world: &World, fields: &[(&str, &str)]) {
    let () = world.redis.hset(world.keys.meta(&post()), fields.to_vec()).await.unwrap();
}

#[tokio::test]
async fn acknowledging_twice_changes_nothing() {
    let world = World::new().await;
    set_meta(&world, &[("author", ""), ("recorded", "3"), ("persisted", "9")]).await;
    assert_eq!(settle(&world, "5-1", "5-1", 1, 10, false).await, Settled::Done);
    assert_eq!(world.meta("7").await, [10, 3, 1]);
    // Also with another count: the first one was that of the same statement, or of one after it.
    assert_eq!(settle(&world, "5-1", "5-1", 1, 9, false).await, Settled::Done);
    assert_eq!(world.meta("7").await, [10, 3, 1]);
}

#[tokio::test]
async fn what_overlaps_with_another_acknowledgement_is_told_and_changes_nothing() {
    let world = World::new().await;
    set_meta(&world, &[("author", ""), ("recorded", "9"), ("persisted", "0")]).await;
    assert_eq!(settle(&world, "5-1", "9-0", 3, 3, false).await, Settled::Done);
    assert_eq!(settle(&world, "8-0", "10-0", 4, 5, false).await, Settled::UpTo("9-0".to_owned()));
    assert_eq!(world.meta("7").await, [3, 9, 3]);
    assert_eq!(settle(&world, "9-1", "10-0", 2, 5, false).await, Settled::Done);
    assert_eq!((world.meta("7").await, field(&world, "settled").await.as_deref()), ([5, 9, 5], Some("10-0")));
}

#[tokio::test]
async fn ids_are_compared_as_numbers_however_large_they_are() {
    let world = World::new().await;
    set_meta(&world, &[("author", ""), ("recorded", "9"), ("persisted", "0"), ("settled", "999-18446744073709551614")]).await;
    assert_eq!(settle(&world, "999-18446744073709551614", "999-18446744073709551614", 1, 1, false).await, Settled::Done);
    assert_eq!(world.meta("7").await, [0, 9, 0]);
    assert_eq!(settle(&world, "999-18446744073709551615", "1000-0", 2, 2, false).await, Settled::Done);
    assert_eq!(world.meta("7").await, [2, 9, 2]);
}

#[tokio::test]
async fn an_increment_that_is_on_its_way_is_waited_for_and_one_that_is_lost_is_not() {
    let world = World::new().await;
    set_meta(&world, &[("author", "50"), ("recorded", "2")]).await;
    assert_eq!(settle(&world, "5-1", "5-1", 3, 3, false).await, Settled::Short);
    assert_eq!(world.meta("7").await, [0, 2, 0]);
    assert_eq!(settle(&world, "5-1", "5-1", 3, 3, true).await, Settled::Done);
    assert_eq!(world.meta("7").await, [3, 2, 2]);
}

#[tokio::test]
async fn pairs_that_two_processes_have_recorded_at_once_are_not_waited_for() {
    let world = World::new().await;
    set_meta(&world, &[("author", "50"), ("recorded", "2"), ("persisted", "0"), ("repeated", "5-1=2 7-0=1")]).await;
    assert_eq!(settle_after(&world, "5-1", "5-1", 4, 0, 2, false).await, Settled::Done);
    assert_eq!(world.meta("7").await, [2, 2, 2]);
    assert_eq!(field(&world, "repeated").await.as_deref(), Some("7-0=1"));
    // The last entry of a process stands for all of its entries.
    assert_eq!(settle_after(&world, "6-0", "6-0", 1, 2, 2, false).await, Settled::Done);
    assert_eq!((world.meta("7").await, field(&world, "repeated").await.as_deref()), ([2, 2, 2], Some("")));
}

/// More races than the hash lists one by one, and settled only in part, as by a drain that was held up for a moment.
#[tokio::test]
async fn a_count_is_true_however_many_viewers_two_processes_have_recorded_at_once() {
    const VIEWERS: i64 = 300;
    let world = World::new().await;
    let entry = |(viewer, place): (i64, i64)| format!("{}-{place}", 1_764_000_000_000 + viewer);
    let pairs: Vec<(i64, i64)> = (1..=VIEWERS).flat_map(|viewer| [(viewer, 0), (viewer, 1)]).collect();
    // Odd numbers of pairs at a time, so that those of a viewer are settled apart; and a count that grows with them, or
    // has all of them, as after a death between COMMIT and settling.
    for (at_a_time, is_committed) in [(3, false), (35, false), (251, false), (35, true), (251, true)] {
        let () = world.redis.del(world.keys.meta(&post())).await.unwrap();
        set_meta(&world, &[("author", "50"), ("persisted", "0"), ("recorded", &(2 * VIEWERS).to_string())]).await;
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        for viewer in 1..=VIEWERS {
            // The pair that comes first in the outbox is not always first in the set, nor who was first the first to say so.
            let viewer = if viewer % 10 == 0 { viewer } else { viewer / 10 * 10 + 10 - viewer % 10 };
            scripts::raced(&mut commands, &world.keys, &post(), &entry((viewer, viewer % 2)), 1);
        }
        session(&world).exchange(&commands, &mut replies).await.unwrap();
        assert_eq!((world.meta("7").await, world.live("7").await), ([0, VIEWERS, 0], VIEWERS));
        assert!(world.repeated("7").await.len() < 2_100, "{}", world.repeated("7").await);
        let mut before = if is_committed { VIEWERS } else { 0 };
        for batch in pairs.chunks(at_a_time) {
            let [first, last] = [batch[0], batch[batch.len() - 1]];
            let views = if is_committed { VIEWERS } else { last.0 };
            let settled = settle_after(&world, &entry(first), &entry(last), batch.len() as u64, before, views, false).await;
            assert_eq!(settled, Settled::Done, "{last:?}");
            assert_eq!(world.live("7").await, VIEWERS, "{last:?}, {:?}, {}", world.meta("7").await, world.repeated("7").await);
            before = views;
        }
        assert_eq!((world.meta("7").await, world.repeated("7").await), ([VIEWERS; 3], String::new()));
    }
}

#[tokio::test]
async fn pairs_that_are_refused_are_not_taken_for_such_that_are_recorded_twice_later() {
    let world = World::new().await;
    set_meta(&world, &[("author", "50"), ("recorded", "5"), ("persisted", "0")]).await;
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    scripts::raced(&mut commands, &world.keys, &post(), "9-0", 1);
    session(&world).exchange(&commands, &mut replies).await.unwrap();
    // Two of three are stored. The fourth is in a later entry, and once more in the one behind it.
    assert_eq!(settle_after(&world, "5-1", "5-3", 3, 0, 2, false).await, Settled::Done);
    assert_eq!((world.meta("7").await, world.live("7").await), ([2, 4, 3], 3));
    assert_eq!(settle_after(&world, "8-0", "8-0", 1, 2, 3, false).await, Settled::Done);
    assert_eq!((world.meta("7").await, world.live("7").await), ([3, 4, 4], 3));
    assert_eq!(settle_after(&world, "9-0", "9-0", 1, 3, 3, false).await, Settled::Done);
    assert_eq!((world.meta("7").await, world.live("7").await), ([3, 4, 4], 3));
}

#[tokio::test]
async fn that_postgresql_has_fewer_views_than_it_had_is_told_and_remembered() {
    let world = World::new().await;
    set_meta(&world, &[("author", ""), ("persisted", "7"), ("recorded", "1")]).await;
    assert_eq!(settle(&world, "5-1", "5-1", 1, 1, false).await, Settled::Fallen);
    assert_eq!(world.meta("7").await, [1, 1, 1]);
    assert_eq!(field(&world, "fallen").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn fewer_views_are_noticed_also_where_new_ones_have_made_up_for_them() {
    let world = World::new().await;
    set_meta(&world, &[("author", ""), ("persisted", "2"), ("recorded", "2")]).await;
    assert_eq!(settle_after(&world, "5-1", "5-2", 2, 0, 2, false).await, Settled::Fallen);
    assert_eq!(world.meta("7").await, [2, 2, 2]);
}

#[tokio::test]
async fn what_postgresql_has_and_the_outbox_still_holds_counts_once() {
    let world = World::new().await;
    set_meta(&world, &[("author", ""), ("persisted", "5"), ("recorded", "4")]).await;
    // Four pairs were committed together, and only the first of their entries is settled by this.
    assert_eq!(settle(&world, "5-1", "5-1", 1, 9, false).await, Settled::Done);
    assert_eq!((world.meta("7").await, world.live("7").await), ([6, 4, 1], 9));
    assert_eq!(settle(&world, "5-2", "5-4", 3, 9, false).await, Settled::Done);
    assert_eq!(world.meta("7").await, [9, 4, 4]);
}

#[tokio::test]
async fn a_count_that_redis_lacks_is_written_when_nothing_is_left_that_could_be_in_it_twice() {
    let world = World::new().await;
    set_meta(&world, &[("author", ""), ("recorded", "4")]).await;
    assert_eq!(settle(&world, "5-1", "5-1", 1, 9, false).await, Settled::Done);
    assert_eq!(field(&world, "persisted").await, None);
    assert_eq!(settle(&world, "5-2", "5-4", 3, 9, false).await, Settled::Done);
    assert_eq!(world.meta("7").await, [9, 4, 4]);
}

#[tokio::test]
async fn numbers_stay_exact_however_large_they_are() {
    let world = World::new().await;
    let large = 9_007_199_254_740_000_i64;
    set_meta(&world, &[("author", "50"), ("recorded", &large.to_string()), ("acked", &(large - 1).to_string())]).await;
    assert_eq!(settle(&world, "5-1", "5-1", 1, large + 1, false).await, Settled::Done);
    assert_eq!(world.meta("7").await, [large + 1, large, large]);
}

#[tokio::test]
async fn a_hash_that_has_only_been_read_gets_the_count() {
    let world = World::new().await;
    set_meta(&world, &[("author", ""), ("persisted", "3")]).await;
    assert_eq!(settle(&world, "5-1", "5-1", 1, 4, true).await, Settled::Done);
    assert_eq!(world.meta("7").await, [4, 0, 0]);
}

#[tokio::test]
async fn a_key_of_another_type_stops_nobody() {
    let world = World::new().await;
    world.post("7").await;
    world.post("8").await;
    world.record("7", &["1"]).await;
    world.record("8", &["1"]).await;
    let () = world.redis.del(world.keys.meta(&post())).await.unwrap();
    let () = world.redis.set(world.keys.meta(&post()), "by hand", None, None, false).await.unwrap();
    world.synchronizer(&[]).await.drain(view_syncd::drain::Urgency::AtOnce).await.unwrap();
    assert_eq!((world.stored("7").await, world.outbox_length().await), (1, 0));
    world.assert_views("8", 1).await;
}

#[tokio::test]
async fn a_hash_that_has_expired_is_not_brought_back_to_life() {
    let world = World::new().await;
    world.record("7", &["1"]).await;
    let () = world.redis.del(world.keys.meta(&post())).await.unwrap();
    world.post("7").await;
    world.synchronizer(&[]).await.drain(view_syncd::drain::Urgency::AtOnce).await.unwrap();
    assert_eq!(world.stored("7").await, 1);
    assert!(!world.exists(world.keys.meta(&post())).await);
}
