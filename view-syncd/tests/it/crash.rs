use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::support::World;

const POSTS: u32 = 7;
const CRASHES: u32 = 12;

/// Numbers without a pattern, the same in every run.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % limit
    }
}

#[tokio::test]
async fn a_daemon_that_is_killed_again_and_again_loses_nothing_and_counts_nothing_twice() {
    let world = World::new().await;
    for post in 1..=POSTS {
        world.post(&post.to_string()).await;
    }
    let over = AtomicBool::new(false);
    let recording = async {
        let mut random = Random(42);
        let mut pairs = HashSet::new();
        while !over.load(Ordering::Relaxed) {
            // Few enough viewers that many of them come again.
            let (post, viewer) = (1 + random.below(POSTS), 1 + random.below(3_000));
            pairs.insert((post, viewer));
            world.record(&post.to_string(), &[&viewer.to_string()]).await;
        }
        pairs
    };
    let crashing = async {
        let mut random = Random(7);
        for _ in 0..CRASHES {
            let settings = [("SYNC_LINGER", "0"), ("SYNC_BATCH_SIZE", "20"), ("SYNC_INTERVAL", "1s")];
            let daemon = settings.iter().fold(world.daemon(), |daemon, (name, value)| daemon.env(name, value)).start();
            daemon.wait_for_line("Starting views synchronization").await;
            // The moment is what this test is about.
            tokio::time::sleep(Duration::from_millis(random.below(150).into())).await;
            daemon.kill9().await;
        }
        over.store(true, Ordering::Relaxed);
    };
    let (pairs, ()) = tokio::join!(recording, crashing);

    for _ in 0..2 {
        let sync = world.command("sync").start();
        assert!(sync.wait_exit().await.success(), "{:?}", sync.output());
    }
    assert_eq!(world.outbox_length().await, 0);
    for post in 1..=POSTS {
        let views = pairs.iter().filter(|(of, _)| *of == post).count() as i64;
        world.assert_views(&post.to_string(), views).await;
    }
}
