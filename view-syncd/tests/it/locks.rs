//! What others lock in the same database stops nothing but what needs the lock, and nobody waits for view-syncd.

mod hot;
mod tables;

use std::time::{Duration, Instant};

use fred::interfaces::HashesInterface;
use testkit::{SOON, eventually, http::Client, process::Daemon};
use views_core::ids::PostId;

use crate::support::World;

/// What is stored although others hold locks is stored within this time, and what has waited for one within this time
/// after its end.
const SECONDS: Duration = Duration::from_secs(15);
/// Longer than this, nobody waits for view-syncd.
const NOTICEABLE: Duration = Duration::from_millis(400);

/// The application, in a transaction of its own.
struct Application(tokio_postgres::Client);

impl Application {
    /// Begins a transaction and does something in it.
    async fn begins(world: &World, statement: &str) -> Self {
        let session = world.database.client().await;
        session.batch_execute(&format!("begin; {statement}")).await.unwrap();
        Self(session)
    }

    async fn does(&self, statement: &str) {
        self.0.batch_execute(statement).await.unwrap();
    }
}

/// A daemon that stores quickly, done with its first cycle, and its operators' client.
async fn daemon(world: &World) -> (Daemon, Client) {
    let daemon = world.daemon().env("SYNC_LINGER", "50ms").start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    (daemon, client)
}

/// Posts that view-ingest knows.
async fn posts(world: &World, posts: impl IntoIterator<Item = i32>) {
    for post in posts {
        world.post(&post.to_string()).await;
        known(world, post).await;
    }
}

/// Has Redis know a post, as after its first touch.
async fn known(world: &World, post: i32) {
    let meta = world.keys.meta(&PostId::parse(&post.to_string()).unwrap());
    let () = world.redis.hset(meta, vec![("author", "999999"), ("persisted", "0")]).await.unwrap();
}

/// Waits until a post has so many views in PostgreSQL, and all that was recorded of it is acknowledged.
#[track_caller]
fn stored<'a>(world: &'a World, post: i32, views: i64, limit: Duration) -> impl Future<Output = ()> + 'a {
    let done = move || async move {
        let (stored, meta) = (world.stored(&post.to_string()).await, world.meta(&post.to_string()).await);
        if stored == views && meta == [views, meta[1], meta[1]] { Ok(()) } else { Err((stored, meta)) }
    };
    eventually("the views of a post are stored and acknowledged", limit, done)
}

/// Whether another session updates a post without waiting.
async fn updates_at_once(world: &World, post: i32) {
    let started = Instant::now();
    world.sql.batch_execute(&format!("update posts set author_id = author_id where id = {post}")).await.unwrap();
    assert!(started.elapsed() < NOTICEABLE, "an update of post {post} took {:?}", started.elapsed());
}

/// Waits until `/readyz` has this status, and gives its body.
#[track_caller]
fn readiness<'a>(client: &'a Client, status: u16, limit: Duration) -> impl Future<Output = String> + 'a {
    let answer = move || async move {
        let answer = client.get("/readyz").await;
        if answer.status == status { Ok(answer.body) } else { Err(answer.body) }
    };
    eventually("the readiness changes", limit, answer)
}

async fn metric(client: &Client, name: &str) -> f64 {
    let metrics = client.get("/metrics").await.body;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).parse().unwrap()
}

/// When the views of a post were, in milliseconds since 1970.
async fn times(world: &World, post: i32) -> Vec<String> {
    let statement = "select ((extract(epoch from viewed_at) * 1000)::bigint)::text from post_views where post_id = $1 order by 1";
    let rows = world.sql.query(statement, &[&i64::from(post)]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn ms(entry: &str) -> String {
    entry.split('-').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_locked_post_keeps_no_other_one_waiting_and_is_stored_soon_after() {
    for (lock, end) in [
        ("update posts set author_id = 999998 where id = 1", "commit"),
        ("update posts set author_id = 999998 where id = 1", "rollback"),
        ("select from posts where id = 1 for update", "commit"),
        ("select from posts where id = 1 for no key update", "rollback"),
        ("select from posts where id = 1 for share", "commit"),
    ] {
        let world = World::new().await;
        posts(&world, 1..=20).await;
        let (_daemon, _) = daemon(&world).await;
        let application = Application::begins(&world, lock).await;
        // The locked post has entries of its own, and one in common with another post.
        let mut sent = vec![ms(&world.add_entry(vec![("1", "1"), ("2", "1")]).await)];
        for post in ["1", "2"] {
            let meta = world.keys.meta(&PostId::parse(post).unwrap());
            let () = world.redis.hincrby(meta, "recorded", 1).await.unwrap();
        }
        for post in 1..=20 {
            world.record(&post.to_string(), &["2", "3"]).await;
        }
        for post in 2..=20 {
            stored(&world, post, if post == 2 { 3 } else { 2 }, SECONDS).await;
            updates_at_once(&world, post).await;
        }
        assert_eq!(world.live("1").await, 3, "{lock}");
        // It goes on like this.
        for viewer in 4..=13 {
            world.record("1", &[&viewer.to_string()]).await;
            world.record("20", &[&viewer.to_string()]).await;
            stored(&world, 20, viewer - 1, SECONDS).await;
            updates_at_once(&world, 20).await;
            assert_eq!((world.live("1").await, world.live("20").await), (viewer, viewer - 1), "{lock}");
        }
        eventually("only what names the locked post stays", SECONDS, async || world.outbox_length().await == 12).await;
        application.does(end).await;
        stored(&world, 1, 13, SECONDS).await;
        assert_eq!((world.outbox_length().await, world.dead().await), (0, Vec::new()), "{lock}");
        sent.truncate(1);
        assert!(times(&world, 1).await.contains(&sent[0]), "{lock}: {sent:?}");
    }
}

#[tokio::test]
async fn the_views_of_a_locked_post_keep_their_time() {
    let world = World::new().await;
    posts(&world, [1]).await;
    let (_daemon, _) = daemon(&world).await;
    let application = Application::begins(&world, "update posts set author_id = author_id where id = 1").await;
    let mut sent = Vec::new();
    for viewer in 1..=5 {
        sent.push(ms(&world.add_entry(vec![("1", &viewer.to_string())]).await));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    application.does("commit").await;
    eventually("the views are stored", SECONDS, async || world.stored("1").await == 5).await;
    assert_eq!(times(&world, 1).await, sent);
}

#[tokio::test]
async fn a_post_that_is_deleted_while_its_views_wait_for_it_is_a_post_that_does_not_exist() {
    let world = World::new().await;
    posts(&world, [1, 2]).await;
    let (_daemon, _) = daemon(&world).await;
    let application = Application::begins(&world, "delete from posts where id = 1").await;
    world.add_entry(vec![("1", "1"), ("2", "1")]).await;
    world.record("1", &["2"]).await;
    world.record("2", &["2"]).await;
    eventually("the other post is stored", SECONDS, async || world.stored("2").await == 2).await;
    eventually("only what names the locked post stays", SECONDS, async || world.outbox_length().await == 2).await;
    application.does("commit").await;
    eventually("nothing waits any more", SECONDS, async || world.outbox_length().await == 0).await;
    let gone = |viewer: &str| ["1", viewer, "no such post"].map(str::to_owned);
    assert_eq!(world.dead().await, [gone("1"), gone("2")]);
    let meta = world.keys.meta(&PostId::parse("1").unwrap());
    eventually("the keys of the post are gone", SOON, async || !world.exists(meta.clone()).await).await;
}

#[tokio::test]
async fn a_transaction_that_updates_a_high_post_and_then_a_low_one_is_never_the_victim() {
    let world = World::new().await;
    posts(&world, 1..=50).await;
    let (_daemon, _) = daemon(&world).await;
    let (high, low) = (world.database.client().await, world.database.client().await);
    let rounds = async {
        for round in 0..6 {
            for session in [&high, &low] {
                let update = |post: i32| format!("update posts set author_id = author_id where id = {post}");
                session.batch_execute(&format!("begin; {}", update(50 - round))).await.unwrap();
                // Longer than the server takes to find a deadlock.
                tokio::time::sleep(Duration::from_millis(1_300)).await;
                let started = Instant::now();
                session.batch_execute(&update(1 + round)).await.unwrap();
                session.batch_execute("commit").await.unwrap();
                assert!(started.elapsed() < NOTICEABLE, "{:?}", started.elapsed());
            }
        }
    };
    let views = async {
        for viewer in 1.. {
            let fields: Vec<(String, String)> = (1..=50).map(|post| (post.to_string(), viewer.to_string())).collect();
            let fields = fields.iter().map(|(post, viewer)| (post.as_str(), viewer.as_str())).collect();
            world.add_entry(fields).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        () = views => {}
    }
    eventually("everything is stored", SECONDS, async || world.outbox_length().await == 0).await;
    assert_eq!(world.dead().await, Vec::<[String; 3]>::new());
    let counts = world.sql.query("select views_count from posts group by 1", &[]).await.unwrap();
    assert_eq!(counts.len(), 1, "every post has the same views");
}

#[tokio::test]
async fn views_that_wait_for_a_lock_make_it_unready_and_are_named_at_the_stop() {
    let world = World::new().await;
    posts(&world, [1, 2]).await;
    let (daemon, client) = daemon(&world).await;
    let application = Application::begins(&world, "select from posts where id = 1 for update").await;
    world.record("1", &["1", "2"]).await;
    world.record("2", &["1"]).await;
    stored(&world, 2, 1, SECONDS).await;
    let body = readiness(&client, 503, SECONDS).await;
    assert!(body.contains("lock") && body.contains("the oldest entry of the outbox is"), "{body}");
    // Also while others are stored.
    for viewer in 2..=30 {
        world.record("2", &[&viewer.to_string()]).await;
        stored(&world, 2, viewer, SECONDS).await;
        assert_eq!(client.get("/readyz").await.status, 503);
    }
    assert!(metric(&client, "view_syncd_outbox_oldest_entry_age_seconds").await >= 3.0);
    assert_eq!(metric(&client, "view_syncd_held_posts").await, 1.0);
    assert!(metric(&client, "view_syncd_held_posts_oldest_age_seconds").await >= 3.0);
    assert_eq!(metric(&client, "view_syncd_posts_deferred_total{reason=\"row_locked\"}").await, 1.0);
    assert_eq!(client.get("/livez").await.status, 200);

    let stopped = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.wait_exit().await.code(), Some(1));
    assert!(stopped.elapsed() < Duration::from_secs(8), "{:?}", stopped.elapsed());
    let left = daemon.lines_with("of posts that others have locked");
    assert_eq!(left.len(), 1, "{:?}", daemon.output());
    assert!(left[0].contains("2 views") && left[0].contains("posts=1"), "{left:?}");

    // The next start stores them as soon as it can.
    let (next, client) = self::daemon(&world).await;
    readiness(&client, 503, SECONDS).await;
    application.does("commit").await;
    stored(&world, 1, 2, SECONDS).await;
    readiness(&client, 200, SECONDS).await;
    // The next look at the outbox finds it empty.
    let gauges = ["outbox_oldest_entry_age_seconds", "held_posts", "held_posts_oldest_age_seconds"];
    for name in gauges.map(|name| format!("view_syncd_{name}")) {
        let name = name.as_str();
        eventually(name, SECONDS, async || metric(&client, name).await == 0.0).await;
    }
    next.signal("TERM");
    assert_eq!(next.wait_exit().await.code(), Some(0));
}
