//! Batches as large as they are where the outbox is long: two statements work side by side, and the next batch is read
//! meanwhile.

use testkit::posts::ledger_count;
use view_syncd::drain::{Drained, Urgency};

use crate::support::World;

const POSTS: i64 = 40;
const VIEWERS: i64 = 1_500;

/// Every viewer sees every post, and every third of them twice. Gives the number of pairs that were recorded.
async fn record_all(world: &World) -> i64 {
    let viewers: Vec<String> = (1..=VIEWERS).map(|viewer| viewer.to_string()).collect();
    let mut pairs = 0;
    for chunk in viewers.chunks(100) {
        for post in 1..=POSTS {
            let viewers: Vec<&str> = chunk.iter().map(String::as_str).collect();
            world.record(&post.to_string(), &viewers).await;
            pairs += viewers.len() as i64;
            if post % 3 == 0 {
                let repeated: Vec<(String, &str)> = viewers.iter().map(|viewer| (post.to_string(), *viewer)).collect();
                world.add_entry(repeated.iter().map(|(post, viewer)| (post.as_str(), *viewer)).collect()).await;
                pairs += repeated.len() as i64;
            }
        }
    }
    pairs
}

#[tokio::test]
async fn every_pair_of_a_large_batch_is_stored_once() {
    let world = World::new().await;
    // The last post does not exist.
    for post in 1..POSTS {
        world.post(&post.to_string()).await;
    }
    let pairs = record_all(&world).await;
    let dead = world.add_entry(vec![("1", "nobody"), ("2", "7"), ("no-number", "7")]).await;
    let mut synchronizer = world.synchronizer(&["--batch-size", "30000"]).await;
    let mut drained = 0;
    loop {
        match synchronizer.drain(Urgency::AtOnce).await.unwrap() {
            Drained::Stored { pairs, .. } => drained += pairs as i64,
            other => break assert_eq!(other, Drained::Idle),
        }
    }
    assert_eq!((drained, world.outbox_length().await), (pairs + 3, 0));
    assert_eq!(ledger_count(&world.sql, &POSTS.to_string()).await, 0);
    assert!(!world.exists(format!("post:{POSTS}:views")).await);
    for post in 1..POSTS {
        assert_eq!(world.stored(&post.to_string()).await, VIEWERS, "post {post}");
        let [persisted, recorded, acked] = world.meta(&post.to_string()).await;
        assert_eq!((persisted, recorded), (VIEWERS, acked), "post {post}");
    }
    let (gone, letters): (Vec<_>, Vec<_>) = world.dead().await.into_iter().partition(|letter| letter[2] == "no such post");
    assert!(gone.iter().all(|letter| letter[0] == POSTS.to_string() || letter[..2] == ["no-number", "7"]));
    assert_eq!(gone.len() as i64, VIEWERS + 1);
    assert_eq!(letters.len(), 1, "{letters:?} of {dead}");
    assert_eq!(letters[0][..2], ["1", "nobody"]);
}

#[tokio::test]
async fn a_pair_that_is_refused_is_found_among_tens_of_thousands() {
    let world = World::new().await;
    for post in 1..=POSTS {
        world.post(&post.to_string()).await;
    }
    // The application has a rule of its own.
    world.sql.batch_execute("alter table post_views add check (post_id <> 20 or user_id <> 1234)").await.unwrap();
    record_all(&world).await;
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.drain_all().await.unwrap();
    assert_eq!(world.outbox_length().await, 0);
    let dead = world.dead().await;
    assert_eq!(dead.iter().map(|letter| &letter[..2]).collect::<Vec<_>>(), [["20", "1234"]]);
    for post in 1..=POSTS {
        assert_eq!(world.stored(&post.to_string()).await, VIEWERS - i64::from(post == 20), "post {post}");
    }
}
