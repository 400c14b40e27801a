//! The ways in which Redis is away, for what has to be so in each of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use testkit::{
    SOON, eventually,
    http::Client,
    posts::{IdType, PostsTable},
    redis::RedisServer,
};
use tokio::task::JoinHandle;

use crate::{
    outbox::set_maxmemory,
    redis_refuses::command,
    support::{Ingest, World},
};

/// How long an answer may take that nothing is in the way of, on a machine that does other things as well.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(900);

/// A way to be away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Away {
    /// The server is dead.
    Dead,
    /// Its memory is full: it answers what is only read.
    Full,
    /// It has become somebody's replica.
    ReadOnly,
}

impl Away {
    pub(crate) const ALL: [Self; 3] = [Self::Dead, Self::Full, Self::ReadOnly];

    /// Takes Redis away, and waits until the program writes past it: a view of a post of its own.
    pub(crate) async fn begin(self, world: &World, app: &Ingest) {
        match self {
            Self::Dead => world.server.kill().await,
            Self::Full => set_maxmemory(world, "1").await,
            Self::ReadOnly => {
                command(&world.redis, &["REPLICAOF", "127.0.0.1", &testkit::ports::free().to_string()]).await.unwrap();
            }
        }
        // Of each worker's.
        for number in 0..8 {
            let post = format!("past-{number}");
            // Of several programs each begins by itself.
            world.sql().execute("insert into posts (id) values ($1) on conflict do nothing", &[&post]).await.unwrap();
            let viewer = app.address.to_string();
            eventually("PostgreSQL takes the views", SOON, || async { app.view(&viewer, &post).await.status == 200 }).await;
        }
    }

    /// Brings Redis back.
    pub(crate) async fn end(self, world: &World) {
        match self {
            Self::Dead => world.server.restart().await,
            Self::Full => set_maxmemory(world, "0").await,
            Self::ReadOnly => {
                command(&world.redis, &["REPLICAOF", "NO", "ONE"]).await.unwrap();
            }
        }
    }
}

/// A world whose Redis comes back with what it had.
pub(crate) async fn durable_world() -> World {
    let database = testkit::postgres::shared().await.database().await;
    let server = RedisServer::start_with(&[("appendonly", "yes"), ("appendfsync", "always")]).await;
    World::with_stores(server, database, PostsTable::with_ids(IdType::Text)).await
}

/// The verdicts on simultaneous views, and how long the slowest of them took.
pub(crate) async fn views(app: &Ingest, views: impl IntoIterator<Item = (String, String)>) -> (Vec<String>, Duration) {
    let started = Instant::now();
    let verdicts = join_all(views.into_iter().map(|(viewer, post)| async move { app.verdict(&viewer, &post).await })).await;
    (verdicts, started.elapsed())
}

/// Demands that an answer came at once.
#[track_caller]
pub(crate) fn assert_at_once(took: Duration, what: &str) {
    assert!(took < AT_ONCE, "{what}: {took:?}");
}

/// Asks all the time whether the program is ready.
pub(crate) struct Polls {
    over: Arc<AtomicBool>,
    answers: JoinHandle<Vec<u16>>,
}

impl Polls {
    pub(crate) fn begin(client: &Client) -> Self {
        let (client, over) = (client.clone(), Arc::new(AtomicBool::new(false)));
        let is_over = Arc::clone(&over);
        let answers = tokio::spawn(async move {
            let mut answers = Vec::new();
            while !is_over.load(Relaxed) {
                answers.push(client.get("/readyz").await.status);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            answers
        });
        Self { over, answers }
    }

    /// Demands that all answers since the beginning had this status.
    pub(crate) async fn assert_all(self, status: u16) {
        self.over.store(true, Relaxed);
        let answers = self.answers.await.unwrap();
        assert!(answers.iter().all(|answer| *answer == status), "{answers:?}");
    }
}
