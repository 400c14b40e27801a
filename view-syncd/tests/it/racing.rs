//! Two view-ingest that are told of the same new viewer at the same moment: each of them may put the pair into the
//! outbox. `recorded` counts the viewer twice for as long as it takes the slower one to hear of the other, so that a
//! count is above what has been sent by what is under way at the very most; and when all is at rest, it is exact.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use fred::interfaces::{HashesInterface, KeysInterface, SetsInterface};
use futures_util::future::{join_all, try_join_all};
use serde_json::json;
use testkit::{
    SOON, eventually,
    http::Client,
    posts::ledger_count,
    process::{Daemon, sibling_binary},
    tokens,
};
use views_core::ids::PostId;

use crate::support::{SECRET, World};

const POSTS: usize = 3;
/// Clients of each kind at once.
const RACERS: usize = 8;
/// New viewers of each racer.
const ROUNDS: usize = 100;

/// What is known of a post from outside.
#[derive(Default)]
struct Known {
    /// Distinct viewers sent so far.
    sent: AtomicI64,
    /// Those of them that were acknowledged.
    acknowledged: AtomicI64,
}

struct Site {
    world: World,
    _apps: [Daemon; 2],
    clients: [Client; 2],
    posts: Vec<(String, Known)>,
}

impl Site {
    async fn start() -> Self {
        let world = World::new().await;
        let posts: Vec<_> = (0..POSTS).map(|number| ((number + 1).to_string(), Known::default())).collect();
        for (post, _) in &posts {
            world.post(post).await;
        }
        let start = || {
            Daemon::builder(sibling_binary("view-ingest"))
                .env("REDIS_URL", world.server.url())
                .env("DATABASE_URL", world.database.url())
                .env("JWT_SECRET", SECRET)
                .env("VIEW_INGEST_LISTEN", "127.0.0.1:0")
                .env("VIEW_INGEST_ADMIN_LISTEN", "127.0.0.1:0")
                .start()
        };
        let apps = [start(), start()];
        let clients =
            [Client::new(apps[0].wait_for_listening("public").await), Client::new(apps[1].wait_for_listening("public").await)];
        for client in &clients {
            eventually("view-ingest is ready", SOON, || async { client.get("/readyz").await.status == 200 }).await;
            for (post, _) in &posts {
                client.get(&format!("/posts/{post}/views")).await;
            }
        }
        Self { world, _apps: apps, clients, posts }
    }

    /// Has a viewer view a post through both programs at once.
    async fn race(&self, place: usize, viewer: usize) -> Result<(), String> {
        let (post, known) = &self.posts[place];
        known.sent.fetch_add(1, SeqCst);
        let views = self.clients.iter().map(|client| async move {
            let least = known.acknowledged.load(SeqCst);
            let token = tokens::hs256(SECRET, &viewer.to_string());
            let answer = client.post_json("/posts/view", Some(&token), &json!({ "postId": post })).await;
            if answer.status != 200 {
                return Err(format!("{answer:?}"));
            }
            let body = answer.json();
            known.assert_true(body["viewsCount"].as_i64().unwrap(), least, &format!("{viewer} of {post}: {body}"))?;
            Ok(body["status"].as_str().unwrap().to_owned())
        });
        let statuses = try_join_all(views).await?;
        known.acknowledged.fetch_add(1, SeqCst);
        // Which of them was first, the programs may not know: then both say so.
        if statuses.iter().all(|status| status == "duplicate") {
            Err(format!("{viewer} of {post} was never new"))
        } else {
            Ok(())
        }
    }

    async fn read(&self, place: usize) -> Result<(), String> {
        let (post, known) = &self.posts[place];
        let least = known.acknowledged.load(SeqCst);
        for client in &self.clients {
            let body = client.get(&format!("/posts/{post}/views")).await.json();
            known.assert_true(body["viewsCount"].as_i64().unwrap(), least, &format!("a reader of {post}"))?;
        }
        Ok(())
    }

    async fn fields(&self, post: &str) -> [i64; 5] {
        let id = PostId::parse(post).unwrap();
        let names = vec!["persisted", "recorded", "acked", "repeated"];
        let fields: Vec<Option<String>> = self.world.redis.hmget(self.world.keys.meta(&id), names).await.unwrap();
        let size = self.world.redis.scard(self.world.keys.views(&id)).await.unwrap();
        let number = |place: usize| fields[place].as_ref().map_or(0, |text| text.parse().unwrap());
        // A list of entries and how many pairs of each: "5-1=2 7-0=1".
        let pairs = |listed: &str| listed.split_once('=').unwrap().1.parse::<i64>().unwrap();
        let repeated = fields[3].as_ref().map_or(0, |list| list.split_whitespace().map(pairs).sum());
        [number(0), number(1), number(2), repeated, size]
    }
}

impl Known {
    /// Demands that a count lies between what was acknowledged before it was asked for and what was sent before the answer.
    fn assert_true(&self, views: i64, least: i64, what: &str) -> Result<(), String> {
        let sent = self.sent.load(SeqCst);
        if (least..=sent + RACERS as i64).contains(&views) {
            Ok(())
        } else {
            Err(format!("{what}: {views} views, {least} acknowledged, {sent} sent"))
        }
    }
}

async fn assert_exact(is_draining: bool) {
    let site = Arc::new(Site::start().await);
    let syncd = site.world.daemon().env("SYNC_LINGER", if is_draining { "1ms" } else { "1h" }).start();
    syncd.wait_for_line("Sync completed").await;
    let over = Arc::new(AtomicBool::new(false));
    let readers = (0..POSTS).map(|place| {
        let (site, over) = (Arc::clone(&site), Arc::clone(&over));
        tokio::spawn(async move {
            while !over.load(SeqCst) {
                site.read(place).await?;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok::<(), String>(())
        })
    });
    let readers: Vec<_> = readers.collect();
    let racers = (0..RACERS).map(|racer| {
        let site = Arc::clone(&site);
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                site.race(round % POSTS, 1_000 + racer * ROUNDS + round).await?;
            }
            Ok::<(), String>(())
        })
    });
    for racer in join_all(racers).await {
        racer.unwrap().unwrap();
    }
    over.store(true, SeqCst);
    for reader in readers {
        reader.await.unwrap().unwrap();
    }

    // At rest, whether drained or not, everybody tells the truth.
    for (post, known) in &site.posts {
        let sent = known.sent.load(SeqCst);
        for client in &site.clients {
            let read = client.get(&format!("/posts/{post}/views")).await.json();
            assert_eq!(read["viewsCount"], sent, "{post}: {:?}", site.fields(post).await);
        }
        let [_, recorded, _, _, size] = site.fields(post).await;
        assert_eq!((recorded, size), (sent, sent), "{post}: {:?}", site.fields(post).await);
    }
    let repeated: Vec<[i64; 5]> = join_all(site.posts.iter().map(|(post, _)| site.fields(post))).await;
    if !is_draining {
        assert!(repeated.iter().any(|fields| fields[3] > 0), "nobody has raced anybody: {repeated:?}");
        let before = syncd.lines_with("Sync completed").len();
        syncd.signal("HUP");
        syncd.wait_for_nth_line(before + 1, "Sync completed").await;
    }
    eventually("the outbox is empty", SOON, || async { site.world.outbox_length().await == 0 }).await;
    for (post, known) in &site.posts {
        let sent = known.sent.load(SeqCst);
        assert_eq!(site.fields(post).await, [sent, sent, sent, 0, sent], "{post}");
        assert_eq!(site.world.stored(post).await, sent);
        assert_eq!(ledger_count(&site.world.sql, post).await, sent);
        for client in &site.clients {
            assert_eq!(client.get(&format!("/posts/{post}/views")).await.json()["viewsCount"], sent);
        }
    }
    for _ in 0..2 {
        let before = syncd.lines_with("Sync completed").len();
        syncd.signal("HUP");
        syncd.wait_for_nth_line(before + 1, "Sync completed").await;
    }
    assert_eq!(syncd.lines_with("drift"), Vec::<String>::new());
    assert!(!site.world.redis.exists::<bool, _>(site.world.keys.dead()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_true_while_the_outbox_is_drained() {
    assert_exact(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_true_before_and_after_the_outbox_is_drained() {
    assert_exact(false).await;
}
