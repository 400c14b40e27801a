//! A pooler between the program and PostgreSQL that drops what a session is given at its start: no deadline may hang on
//! that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use testkit::{SOON, eventually, proxy::Proxy};
use tokio::task::JoinHandle;

use crate::{
    away::{assert_at_once, durable_world, views},
    support::{Ingest, World},
};

/// How long the program tries.
const OUTAGE: Duration = Duration::from_secs(12);
/// A session that does one thing for this long is stuck.
const STUCK_AFTER: &str = "3 s";

/// Looks all the time for sessions of the program that are stuck, and counts how many there are at once.
struct Watch {
    over: Arc<AtomicBool>,
    found: JoinHandle<(Vec<String>, i64)>,
}

impl Watch {
    async fn begin(world: &World) -> Self {
        let client = world.database().client().await;
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let found = tokio::spawn(async move {
            let ours = "from pg_stat_activity where datname = current_database() and client_addr is not null";
            let stuck = format!(
                "select state || ' ' || query {ours} and state <> 'idle' and now() - state_change > interval '{STUCK_AFTER}'"
            );
            let number = format!("select count(*) {ours}");
            let (mut all, mut most) = (Vec::new(), 0);
            while !is_over.load(Relaxed) {
                all.extend(client.query(&stuck, &[]).await.unwrap().iter().map(|row| row.get::<_, String>(0)));
                most = most.max(client.query_one(&number, &[]).await.unwrap().get(0));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            (all, most)
        });
        Self { over, found }
    }

    /// Demands that nothing was stuck, and that there were never more sessions than the program's pool has.
    async fn assert_quiet(self) {
        self.over.store(true, Relaxed);
        let (stuck, most) = self.found.await.unwrap();
        assert!(stuck.is_empty(), "{stuck:#?}");
        assert!(most <= 8, "{most} sessions");
    }
}

/// The program behind the pooler, with Redis away.
async fn behind_pooler(world: &World) -> (Ingest, Proxy) {
    for number in 0..10 {
        let post = format!("p{number}");
        world.post_of(&post, "author").await;
        world.store(&post, &["old".to_owned()]).await;
    }
    let url = world.database().url();
    let port: u16 = url.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap();
    let pooler = Proxy::to_port(port).await;
    pooler.drop_options();
    let app = world.ingest_with(&[("DATABASE_URL", &url.replace(&format!(":{port}/"), &format!(":{}/", pooler.port())))]).await;
    world.server.kill().await;
    eventually("PostgreSQL takes the views", SOON, || async { app.view("first", "p9").await.status == 200 }).await;
    (app, pooler)
}

#[tokio::test]
async fn a_locked_row_leaves_no_session_behind() {
    let world = durable_world().await;
    let (app, _pooler) = behind_pooler(&world).await;
    let application = world.database().client().await;
    application.batch_execute("begin; update posts set author_id = author_id where id = 'p0'").await.unwrap();
    let watch = Watch::begin(&world).await;
    let started = std::time::Instant::now();
    let mut round = 0;
    while started.elapsed() < OUTAGE {
        let viewer = format!("viewer-{round}");
        let (verdicts, took) = views(&app, (0..9).map(|number| (viewer.clone(), format!("p{number}")))).await;
        assert_at_once(took, "one row is locked");
        let expected: Vec<String> =
            (0..9).map(|number| if number == 0 { "503".into() } else { format!("counted {}", round + 2) }).collect();
        assert_eq!(verdicts, expected);
        round += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    watch.assert_quiet().await;
}

#[tokio::test]
async fn neither_does_a_locked_table_or_a_rule_that_never_ends() {
    let world = durable_world().await;
    let (app, _pooler) = behind_pooler(&world).await;
    let sleep = "create function sleep() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return new; end $$";
    world.sql().batch_execute(sleep).await.unwrap();
    for (trouble, end) in [
        ("begin; lock table posts in access exclusive mode", "rollback"),
        (
            "create trigger sleep before insert on post_views for each row execute function sleep()",
            "drop trigger sleep on post_views",
        ),
    ] {
        let application = world.database().client().await;
        application.batch_execute(trouble).await.unwrap();
        let watch = Watch::begin(&world).await;
        let started = std::time::Instant::now();
        while started.elapsed() < OUTAGE {
            let (verdicts, _) = views(&app, (0..9).map(|number| ("ann".to_owned(), format!("p{number}")))).await;
            assert!(verdicts.iter().all(|verdict| verdict == "503"), "{verdicts:?}");
        }
        watch.assert_quiet().await;
        // A rule that is asked about is in its dropping's way, and no longer than for the deadline.
        application.batch_execute(end).await.unwrap();
        eventually("views are stored again", SOON, || async { app.view("first", "p1").await.status == 200 }).await;
    }
}
