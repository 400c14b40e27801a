use testkit::{SOON, eventually, process::Daemon, redis::RedisServer};

use crate::support::World;

async fn until_stored(world: &World, post: &str, views: i64) {
    eventually("the views are in PostgreSQL", SOON, async || world.posts.views_count(&world.sql, post).await == views).await;
}

#[tokio::test]
async fn views_reach_postgresql_by_themselves() {
    let world = World::new().await;
    world.post("7").await;
    let daemon = world.daemon().env("SYNC_LINGER", "100ms").start();
    daemon.wait_for_line("Sync completed: 0 successful, 0 errors").await;
    world.record("7", &["1", "2"]).await;
    until_stored(&world, "7", 2).await;
    eventually("the live count agrees", SOON, async || world.live("7").await == 2).await;
}

#[tokio::test]
async fn hangup_drains_at_once_in_spite_of_a_long_linger_and_the_log_says_so() {
    let world = World::new().await;
    let daemon = world.patient_daemon().await;
    for post in 1..=15 {
        world.post(&post.to_string()).await;
        world.record(&post.to_string(), &["1"]).await;
    }
    daemon.signal("HUP");
    let line = daemon.wait_for_line("Sync completed: 15").await;
    assert!(line.ends_with("Sync completed: 15 successful, 0 errors"), "{line}");
    for post in 1..=15 {
        world.assert_views(&post.to_string(), 1).await;
    }
    for exact in ["Starting views synchronization", "Found 15 posts with views in Redis"] {
        assert!(daemon.lines_with(exact).iter().any(|line| line.ends_with(exact)), "{:?}", daemon.output());
    }
    assert_eq!(daemon.lines_with("Redis connected").len(), 1);
}

#[tokio::test]
async fn hangups_during_a_cycle_make_one_more_follow() {
    let world = World::new().await;
    world.post("7").await;
    let daemon = world.patient_daemon().await;
    // A lock on the posts holds the next cycle up.
    let blocker = world.database.client().await;
    blocker.batch_execute("begin; lock table posts in access exclusive mode").await.unwrap();
    world.record("7", &["1"]).await;
    daemon.signal("HUP");
    daemon.wait_for_nth_line(2, "Starting views synchronization").await;
    for number in 2..=4 {
        daemon.signal("HUP");
        daemon.wait_for_nth_line(number, "SIGHUP").await;
    }
    blocker.batch_execute("commit").await.unwrap();
    daemon.wait_for_nth_line(3, "Sync completed").await;

    daemon.signal("TERM");
    assert!(daemon.wait_exit().await.success());
    assert_eq!(daemon.lines_with("Starting views synchronization").len(), 3, "{:?}", daemon.output());
    world.assert_views("7", 1).await;
}

#[tokio::test]
async fn there_is_a_cycle_at_every_interval() {
    let world = World::new().await;
    let daemon = world.daemon().env("SYNC_INTERVAL", "1s").start();
    daemon.wait_for_nth_line(3, "Sync completed").await;
}

#[tokio::test]
async fn a_stop_leaves_an_empty_outbox() {
    let world = World::new().await;
    world.post("7").await;
    for signal in ["TERM", "INT"] {
        let daemon = world.patient_daemon().await;
        for viewer in 1..=300 {
            world.record("7", &[&format!("{viewer}{}", signal.len())]).await;
        }
        daemon.signal(signal);
        assert_eq!(daemon.wait_exit().await.code(), Some(0), "{:?}", daemon.output());
        assert_eq!(world.outbox_length().await, 0);
    }
    let views = world.stored("7").await;
    world.assert_views("7", views).await;
}

#[tokio::test]
async fn a_stop_ends_in_time_although_others_go_on_recording() {
    let world = World::new().await;
    world.post("7").await;
    let daemon = world.patient_daemon().await;
    let recorder = world.server.client().await;
    let (enough, mut is_enough) = tokio::sync::oneshot::channel::<()>();
    let recording = tokio::spawn(async move {
        use fred::interfaces::StreamsInterface;
        let mut viewer = 0;
        while is_enough.try_recv().is_err() {
            viewer += 1;
            let _: String = recorder.xadd("views:outbox", false, None, "*", ("7", viewer)).await.unwrap();
        }
    });
    world.record("7", &["1000000"]).await;
    daemon.signal("TERM");
    // With the time for the last drain used up, it would be 1.
    assert_eq!(daemon.wait_exit().await.code(), Some(0), "{:?}", daemon.output());
    let _ = enough.send(());
    recording.await.unwrap();
    let sql = "select count(*) from post_views where user_id = 1000000";
    assert_eq!(world.sql.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_standby_takes_over_when_the_leader_is_killed_and_nothing_is_counted_twice() {
    let world = World::new().await;
    for post in 1..=5 {
        world.post(&post.to_string()).await;
    }
    let start = || world.daemon().env("SYNC_LINGER", "0").env("SYNC_BATCH_SIZE", "50").start();
    let leader: Daemon = start();
    leader.wait_for_line("this view-syncd leads").await;
    leader.wait_for_line("Sync completed").await;
    let standby: Daemon = start();
    standby.wait_for_line("another view-syncd leads").await;
    for viewer in 1..=200 {
        for post in 1..=5 {
            world.record(&post.to_string(), &[&viewer.to_string()]).await;
        }
        if viewer == 100 {
            leader.kill9().await;
        }
    }
    standby.wait_for_line("this view-syncd leads").await;
    standby.wait_for_line("Sync completed").await;
    // A view that was drained before it was added to `recorded` is put right by the scans.
    for round in 2..=3 {
        standby.signal("HUP");
        standby.wait_for_nth_line(round, "Sync completed").await;
    }
    standby.signal("TERM");
    assert_eq!(standby.wait_exit().await.code(), Some(0), "{:?}", standby.output());
    assert_eq!(world.outbox_length().await, 0);
    for post in 1..=5 {
        world.assert_views(&post.to_string(), 200).await;
    }
}

/// The lock is a courtesy: the synchronizer must stay exact where two work at once.
#[tokio::test]
async fn two_that_drain_at_the_same_time_count_nothing_twice() {
    let world = World::new().await;
    for post in 1..=5 {
        world.post(&post.to_string()).await;
    }
    let flags = ["--batch-size", "50", "--linger", "0"];
    let (mut one, mut other) = (world.synchronizer(&flags).await, world.synchronizer(&flags).await);
    for viewer in 1..=200 {
        for post in 1..=5 {
            world.record(&post.to_string(), &[&viewer.to_string()]).await;
        }
        if viewer % 20 == 0 {
            let (one, other) = tokio::join!(one.cycle(), other.cycle());
            assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
        }
    }
    // What one settled from an old look while the other was faster is put right by the scans.
    for _ in 0..2 {
        one.cycle().await.unwrap();
    }
    for post in 1..=5 {
        world.assert_views(&post.to_string(), 200).await;
    }
}

#[tokio::test]
async fn one_synchronization_can_be_run_by_hand() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    let program = world.command("sync").start();
    assert!(program.wait_exit().await.success());
    assert!(program.lines_with("Sync completed: 1 successful, 0 errors").len() == 1, "{:?}", program.output());
    world.assert_views("7", 1).await;

    world.add_by_hand("8", &["1"]).await;
    world.post("8").await;
    let () = fred::interfaces::KeysInterface::set(&world.redis, "{post:8:views}:meta", "wrong", None, None, false).await.unwrap();
    let program = world.command("sync").start();
    assert_eq!(program.wait_exit().await.code(), Some(1), "a post that is not in order is a failure");
}

#[tokio::test]
async fn a_missing_ledger_is_told_with_the_command_that_creates_it() {
    let world = World::new().await;
    world.sql.batch_execute("drop table post_views").await.unwrap();
    let daemon = world.daemon().start();
    assert_eq!(daemon.wait_exit().await.code(), Some(78));
    assert_eq!(daemon.lines_with("run `view-syncd migrate`").len(), 1, "{:?}", daemon.output());
}

#[tokio::test]
async fn a_redis_that_may_evict_views_is_refused_unless_allowed() {
    let server = RedisServer::start_with(&[("maxmemory", "64mb"), ("maxmemory-policy", "allkeys-lru")]).await;
    let world = World::with_redis(server).await;
    let daemon = world.daemon().start();
    assert_eq!(daemon.wait_exit().await.code(), Some(78));
    assert_eq!(daemon.lines_with("allkeys-lru").len(), 1, "{:?}", daemon.output());
    let allowed = world.daemon().arg("--allow-eviction").start();
    allowed.wait_for_line("Sync completed").await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let world = World::new().await;
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let daemon = world.daemon().env("VIEW_SYNCD_ADMIN_LISTEN", &taken).start();
    assert_eq!(daemon.wait_exit().await.code(), Some(1));
    assert_eq!(daemon.lines_with(&format!("cannot listen on {taken}")).len(), 1, "{:?}", daemon.output());
}
