//! No answer is ever above the distinct viewers whose view has been sent, nor below those whose view had been
//! acknowledged when it was asked for: while the drain acknowledges, whoever else drains or scans, and whatever dies.

use std::net::SocketAddr;

use serde_json::json;
use testkit::{
    SOON, eventually,
    http::Client,
    process::{Daemon, DaemonBuilder},
    proxy::Proxy,
    tokens,
};
use tokio::time::{Instant, sleep};

use crate::{
    crowd::{Crowd, Habit, LOAD, Seen},
    support::{SECRET, World, ready},
};

const POSTS: [&str; 2] = ["7", "8"];
const CLIENTS: usize = 12;

/// Both posts, and as many processes of view-ingest.
async fn site<const N: usize>() -> (World, [Daemon; N], [SocketAddr; N]) {
    let world = World::new().await;
    for post in POSTS {
        world.post(post).await;
    }
    let mut ingests = Vec::new();
    for _ in 0..N {
        let (ingest, _) = ready(world.ingest_program().env("VIEW_INGEST_WORKERS", "2")).await;
        let address = ingest.wait_for_listening("public").await;
        ingests.push((ingest, address));
    }
    let (daemons, addresses): (Vec<Daemon>, Vec<SocketAddr>) = ingests.into_iter().unzip();
    (world, daemons.try_into().ok().unwrap(), addresses.try_into().unwrap())
}

/// A daemon that has many small batches.
fn busy(world: &World) -> DaemonBuilder {
    world.daemon().env("SYNC_LINGER", "10ms").env("SYNC_BATCH_SIZE", "100")
}

/// What must hold when the crowd is gone: nobody was lost, nobody counts twice, and every count says so.
async fn settles(world: &World, ingests: &[Daemon], seen: &Seen) {
    seen.is_true(ingests);
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    // Without any scan.
    for post in POSTS.iter().filter(|_| !seen.has_outlasted_the_grace()) {
        let stored = world.stored(post).await;
        let agrees = async || if world.live(post).await == stored { Ok(()) } else { Err((post, stored, world.meta(post).await)) };
        eventually("the counts agree", SOON, agrees).await;
    }
    for _ in 0..2 {
        let synced = world.command("sync").start();
        assert!(synced.wait_exit().await.success(), "{:?}", synced.output());
    }
    for (post, sent, acknowledged) in &seen.posts {
        let stored = world.stored(post).await;
        assert!((*acknowledged..=*sent).contains(&stored), "{stored} views of {post} are stored: {seen:?}");
        // Repairs are the leader's, with its next scan.
        if !seen.has_outlasted_the_grace() {
            world.assert_views(post, stored).await;
        }
    }
    assert_eq!(world.dead().await.len(), 0);
}

#[tokio::test]
async fn counts_are_true_beside_a_busy_drain() {
    let (world, ingests, addresses) = site::<1>().await;
    let _syncd = busy(&world).start();
    let crowd = Crowd::start(&addresses, &POSTS, CLIENTS, Habit::Once);
    sleep(LOAD).await;
    settles(&world, &ingests, &crowd.stop().await).await;
}

#[tokio::test]
async fn counts_are_true_at_two_processes() {
    let (world, ingests, addresses) = site::<2>().await;
    let _syncd = busy(&world).start();
    let crowd = Crowd::start(&addresses, &POSTS, CLIENTS, Habit::Once);
    sleep(LOAD).await;
    settles(&world, &ingests, &crowd.stop().await).await;
}

#[tokio::test]
async fn counts_are_true_where_every_viewer_views_at_two_processes_at_once() {
    let (world, ingests, addresses) = site::<2>().await;
    let _syncd = busy(&world).start();
    let crowd = Crowd::start(&addresses, &POSTS, CLIENTS, Habit::Twice);
    sleep(LOAD).await;
    settles(&world, &ingests, &crowd.stop().await).await;
}

/// The drain is held up again and again, until more viewers are known to be in the outbox twice than the post's hash
/// lists one by one.
#[tokio::test]
async fn counts_are_true_where_viewers_view_at_two_processes_while_the_drain_is_held_up() {
    let (world, ingests, addresses) = site::<2>().await;
    let syncd = busy(&world).start();
    syncd.wait_for_line("Sync completed").await;
    let crowd = Crowd::start(&addresses, &POSTS, CLIENTS, Habit::Twice);
    for _ in 0..3 {
        syncd.signal("STOP");
        for post in POSTS {
            eventually("the list is full", SOON, async || world.repeated(post).await.contains("..")).await;
        }
        let stored = world.posts.views_count(&world.sql, POSTS[0]).await;
        syncd.signal("CONT");
        eventually("it drains", SOON, async || world.posts.views_count(&world.sql, POSTS[0]).await > stored + 100).await;
    }
    settles(&world, &ingests, &crowd.stop().await).await;
}

#[tokio::test]
async fn counts_are_true_where_views_come_in_batches() {
    let (world, ingests, addresses) = site::<2>().await;
    let _syncd = busy(&world).start();
    let crowd = Crowd::start(&addresses, &POSTS, CLIENTS, Habit::Batch);
    sleep(LOAD).await;
    settles(&world, &ingests, &crowd.stop().await).await;
}

#[tokio::test]
async fn counts_are_true_while_view_syncd_is_killed_again_and_again() {
    let (world, ingests, addresses) = site::<2>().await;
    let crowd = Crowd::start(&addresses, &POSTS, CLIENTS, Habit::Once);
    let until = Instant::now() + LOAD;
    while Instant::now() < until {
        let syncd = busy(&world).start();
        syncd.wait_for_line("this view-syncd leads").await;
        let stored = world.posts.views_count(&world.sql, POSTS[0]).await;
        // Killed wherever it is when it has stored something.
        eventually("it drains", SOON, async || world.posts.views_count(&world.sql, POSTS[0]).await > stored).await;
        syncd.kill9().await;
    }
    let seen = crowd.stop().await;
    let _syncd = busy(&world).start();
    settles(&world, &ingests, &seen).await;
}

#[tokio::test]
async fn counts_are_true_while_others_scan_beside_the_leader() {
    let (world, ingests, addresses) = site::<2>().await;
    let leader = busy(&world).env("SYNC_INTERVAL", "1s").start();
    leader.wait_for_line("this view-syncd leads").await;
    let standby = busy(&world).start();
    standby.wait_for_line("another view-syncd leads").await;
    let operators = Client::new(standby.wait_for_listening("admin").await);
    eventually("the standby is ready", SOON, async || operators.get("/readyz").await.status == 200).await;
    let crowd = Crowd::start(&addresses, &POSTS, CLIENTS, Habit::Once);
    let until = Instant::now() + LOAD;
    let (token, body) = (tokens::admin(SECRET, "1"), json!({}));
    while Instant::now() < until {
        let by_hand = world.command("sync").start();
        let answer = operators.post_json("/posts/sync-views", Some(&token), &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(by_hand.wait_exit().await.success(), "{:?}", by_hand.output());
        leader.signal("HUP");
    }
    settles(&world, &ingests, &crowd.stop().await).await;
}

#[tokio::test]
async fn counts_are_true_while_others_lock_a_post() {
    let (world, ingests, addresses) = site::<2>().await;
    let _syncd = busy(&world).start();
    let crowd = Crowd::start(&addresses, &POSTS, CLIENTS, Habit::Once);
    let until = Instant::now() + LOAD;
    let locker = world.database.client().await;
    while Instant::now() < until {
        locker.batch_execute("begin; select from posts where id = 7 for update").await.unwrap();
        let stored = world.posts.views_count(&world.sql, "8").await;
        eventually("the other post goes on", SOON, async || world.posts.views_count(&world.sql, "8").await > stored + 100).await;
        locker.batch_execute("commit").await.unwrap();
        let stored = world.posts.views_count(&world.sql, "7").await;
        eventually("the post goes on", SOON, async || world.posts.views_count(&world.sql, "7").await > stored).await;
    }
    settles(&world, &ingests, &crowd.stop().await).await;
}

/// One of two processes loses Redis again and again, and goes past it, while the acknowledgements of the drain are slow.
#[tokio::test]
async fn counts_are_true_while_one_process_goes_past_redis() {
    let (world, ingests, addresses) = site::<1>().await;
    let slow = Proxy::to_port(world.server.port()).await;
    let flaky = Proxy::to_port(world.server.port()).await;
    let url = |proxy: &Proxy| format!("redis://127.0.0.1:{}/0", proxy.port());
    let _syncd = busy(&world).env("REDIS_URL", url(&slow)).env("SYNC_INTERVAL", "1h").start();
    let [one] = ingests;
    let (other, _) = ready(world.ingest_program().env("REDIS_URL", url(&flaky))).await;
    slow.delay(std::time::Duration::from_millis(20));
    let addresses = [addresses[0], other.wait_for_listening("public").await];
    let ingests = [one, other];
    let crowd = Crowd::start(&addresses, &POSTS, CLIENTS, Habit::Once);
    let mut round = 0;
    let until = Instant::now() + LOAD;
    while Instant::now() < until {
        // Now nothing reaches Redis, now it does everything and nobody hears of it.
        round += 1;
        if round % 2 == 0 {
            flaky.break_networking().await;
        } else {
            flaky.swallow_replies();
        }
        sleep(std::time::Duration::from_millis(100)).await;
        flaky.restore().await;
        sleep(std::time::Duration::from_millis(400)).await;
    }
    settles(&world, &ingests, &crowd.stop().await).await;
}

/// Nobody has looked the posts up, as PostgreSQL was away from view-ingest, and view-syncd drains them all the same.
#[tokio::test]
async fn counts_are_true_of_posts_that_could_not_be_looked_up() {
    let (world, [], []) = site::<0>().await;
    let port = testkit::postgres::shared().await.port();
    let proxy = Proxy::to_port(port).await;
    let url = world.database.url().replace(&format!(":{port}/"), &format!(":{}/", proxy.port()));
    let (ingest, client) = ready(world.ingest_program().env("DATABASE_URL", url)).await;
    let syncd = busy(&world).env("SYNC_INTERVAL", "1h").start();
    syncd.wait_for_line("Sync completed").await;
    proxy.break_networking().await;
    let crowd = Crowd::start(&[ingest.wait_for_listening("public").await], &POSTS, CLIENTS, Habit::Once);
    eventually("it drains", SOON, async || world.posts.views_count(&world.sql, POSTS[0]).await > 100).await;
    assert_eq!(world.author(POSTS[0]).await, None);
    proxy.restore().await;
    for post in POSTS {
        eventually("the post is looked up", SOON, async || world.author(post).await.is_some()).await;
    }
    sleep(LOAD / 2).await;
    let seen = crowd.stop().await;
    let ingests = [ingest];
    seen.is_true(&ingests);
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    for (post, _, acknowledged) in &seen.posts {
        let told = client.get(&format!("/posts/{post}/views")).await.json();
        assert_eq!(told["viewsCount"], *acknowledged);
    }
    settles(&world, &ingests, &seen).await;
}

#[tokio::test]
async fn counts_are_true_while_others_lock_a_post_and_view_syncd_is_killed() {
    let (world, ingests, addresses) = site::<2>().await;
    let crowd = Crowd::start(&addresses, &POSTS, CLIENTS, Habit::Once);
    let until = Instant::now() + LOAD;
    let locker = world.database.client().await;
    while Instant::now() < until {
        let syncd = busy(&world).start();
        syncd.wait_for_line("this view-syncd leads").await;
        locker.batch_execute("begin; select from posts where id = 7 for update").await.unwrap();
        let stored = world.posts.views_count(&world.sql, "8").await;
        eventually("the other post goes on", SOON, async || world.posts.views_count(&world.sql, "8").await > stored + 200).await;
        locker.batch_execute("commit").await.unwrap();
        let stored = world.posts.views_count(&world.sql, "7").await;
        eventually("the post goes on", SOON, async || world.posts.views_count(&world.sql, "7").await > stored).await;
        syncd.kill9().await;
    }
    let seen = crowd.stop().await;
    let _syncd = busy(&world).start();
    settles(&world, &ingests, &seen).await;
}

/// The connection that decides who leads is lost again and again: for a moment, both do.
#[tokio::test]
async fn counts_are_true_while_two_believe_to_lead() {
    let (world, ingests, addresses) = site::<2>().await;
    let port = testkit::postgres::shared().await.port();
    let mut daemons = Vec::new();
    for _ in 0..2 {
        let proxy = Proxy::to_port(port).await;
        let url = world.database.url().replace(&format!(":{port}/"), &format!(":{}/", proxy.port()));
        let daemon = busy(&world).env("DATABASE_URL", url).env("SYNC_INTERVAL", "1s").start();
        daemon.wait_for_line("leads").await;
        daemons.push((daemon, proxy));
    }
    let crowd = Crowd::start(&addresses, &POSTS, CLIENTS, Habit::Once);
    let until = Instant::now() + LOAD;
    while Instant::now() < until {
        for (_, proxy) in &daemons {
            proxy.break_networking().await;
            proxy.restore().await;
            sleep(std::time::Duration::from_millis(1_400)).await;
        }
    }
    settles(&world, &ingests, &crowd.stop().await).await;
    let changes: usize = daemons.iter().map(|(daemon, _)| daemon.lines_with("this view-syncd leads").len()).sum();
    assert!(changes >= 2, "the lead has not changed");
}
