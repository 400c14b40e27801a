//! Each alert of deploy/prometheus fires when what it tells of really happens, and ends when that is over: a real
//! Prometheus, with the project's own configuration and rules, whose times are made short.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use fred::{
    clients::Client as Redis,
    interfaces::{ClientLike, HashesInterface},
    types::{ClusterHash, CustomCommand},
};
use futures_util::future::join_all;
use serde_json::json;
use testkit::{
    eventually,
    http::Client,
    ports,
    postgres::PostgresServer,
    posts::{IdType, PostsTable},
    process::{Daemon, DaemonBuilder},
    prometheus::Prometheus,
    redis::RedisServer,
    scratch::Scratch,
    tokens,
};
use tokio::time::sleep;
use views_core::{ids::PostId, keys::Keys};

use crate::{
    clustered::world::ClusterWorld,
    support::{SECRET, World},
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus");
/// Generous: alerts are seen within seconds, and the machine may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(90);
/// How often it is looked which alerts fire.
const LOOK: Duration = Duration::from_millis(200);
/// What the times of the rules are made; each stands there.
const SHORTENED: [(&str, &str); 12] = [
    ("for: 1m\n", "for: 1s\n"),
    ("for: 2m\n", "for: 1s\n"),
    ("for: 5m\n", "for: 1s\n"),
    ("for: 10m\n", "for: 1s\n"),
    ("for: 15m\n", "for: 1s\n"),
    ("[5m]", "[4s]"),
    ("[15m]", "[12s]"),
    ("[1h]", "[5s]"),
    ("age_seconds) > 120\n", "age_seconds) > 2\n"),
    ("age_seconds) > 300\n", "age_seconds) > 3\n"),
    ("age_seconds) > 1800\n", "age_seconds) > 4\n"),
    (" + 60\n", " + 1\n"),
];
/// A post whose row is locked.
const LOCKED: &str = "1";
/// A post whose count drifts.
const DRIFTED: &str = "2";
/// A post like any other.
const VIEWED: &str = "3";

/// While everything but one post goes on.
const BESIDE_VIEWS: [&str; 15] = [
    "ViewCounterKeysNotReloaded",
    "ViewCounterMisconfigured",
    "ViewCounterRestarting",
    "ViewCounterTargetDown",
    "ViewIngestErrors",
    "ViewIngestFallback",
    "ViewIngestSlow",
    "ViewIngestTokensRefused",
    "ViewIngestTurnedAway",
    "ViewSyncdCycleErrors",
    "ViewSyncdDeadLetters",
    "ViewSyncdDrift",
    "ViewSyncdHeldByLock",
    "ViewSyncdOutboxLag",
    "ViewSyncdOutboxStalled",
];
/// Without stores.
const STORES_AWAY: [&str; 4] = ["ViewCounterPostgresAway", "ViewIngestNotReady", "ViewSyncdNoCycle", "ViewSyncdNotReady"];
/// With a Redis Cluster.
const CLUSTERED: [&str; 1] = ["ViewSyncdHalfMovedSlots"];
/// Without daemons.
const ALL_DEAD: [&str; 2] = ["ViewIngestAbsent", "ViewSyncdNoLeader"];

/// A daemon that is started again and again, with the same address for operators.
struct Service<'a> {
    admin: SocketAddr,
    program: Box<dyn Fn() -> DaemonBuilder + 'a>,
    daemon: Option<Daemon>,
}

impl<'a> Service<'a> {
    fn start(variable: &'static str, program: impl Fn() -> DaemonBuilder + 'a) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let program = Box::new(move || program().env(variable, admin.to_string()));
        let mut service = Self { admin, program, daemon: None };
        service.start_again();
        service
    }

    fn start_again(&mut self) {
        self.daemon = Some((self.program)().start());
    }

    async fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill9().await;
        }
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    async fn public(&self) -> Client {
        Client::new(self.daemon().wait_for_listening("public").await)
    }
}

/// Prometheus, and which alerts it has been seen to fire.
struct Watch {
    prometheus: Prometheus,
    seen: RefCell<BTreeSet<String>>,
}

impl Watch {
    async fn start(ingest: &[SocketAddr], syncd: &[SocketAddr]) -> Self {
        let list = |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let configuration = replaced(
            "prometheus.yml",
            &[
                ("scrape_interval: 15s", "scrape_interval: 500ms"),
                ("evaluation_interval: 15s", "evaluation_interval: 500ms"),
                ("[127.0.0.1:3003]", &format!("[{}]", list(ingest))),
                ("[127.0.0.1:3002]", &format!("[{}]", list(syncd))),
            ],
        );
        let rules = replaced("view-counter.rules.yml", &SHORTENED);
        let prometheus = Prometheus::start(&configuration, &[("view-counter.rules.yml", &rules)]).await;
        Self { prometheus, seen: RefCell::default() }
    }

    /// Waits until all of these have been seen firing.
    async fn until_seen(&self, alerts: &[&str]) {
        let since = Instant::now();
        loop {
            let firing = self.prometheus.firing().await;
            self.seen.borrow_mut().extend(firing);
            let missing: Vec<_> = alerts.iter().filter(|alert| !self.seen.borrow().contains(**alert)).collect();
            if missing.is_empty() {
                return;
            }
            assert!(since.elapsed() < LIMIT, "these have not fired: {missing:?}");
            sleep(LOOK).await;
        }
    }

    /// Waits until so many targets answer, and nothing fires.
    async fn until_quiet(&self, targets: usize) {
        eventually("nothing fires", LIMIT, async || {
            sleep(LOOK).await;
            let up = self.prometheus.query("up == 1").await.len();
            let firing = self.prometheus.firing().await;
            if up == targets && firing.is_empty() { Ok(()) } else { Err((up, firing)) }
        })
        .await;
    }

    /// Demands that each query of the dashboard has an answer.
    async fn assert_dashboard(&self) {
        let dashboard: serde_json::Value = serde_json::from_str(&read("dashboard.json")).unwrap();
        let mut queries = 0;
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "4s");
                assert!(!self.prometheus.query(&query).await.is_empty(), "{} has no answer to {query}", panel["title"]);
                queries += 1;
            }
        }
        assert!(queries > 30, "{queries} queries");
    }
}

fn read(name: &str) -> String {
    let path = Path::new(FOLDER).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file with other values, each of which must be there.
fn replaced(name: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(read(name), |text, (value, other)| {
        assert!(text.contains(value), "{name} has no {value:?}");
        text.replace(value, other)
    })
}

async fn command(redis: &Redis, command: &'static str, arguments: &[&'static str]) {
    let command = CustomCommand::new_static(command, ClusterHash::FirstKey, false);
    let () = redis.custom(command, arguments.to_vec()).await.unwrap();
}

/// Views that are sent as long as `goes_on` says: good ones one after the other, and some with a forged token.
async fn views(client: &Client, goes_on: &Cell<bool>) {
    let body = json!({ "postId": VIEWED });
    let (good, forged) = (tokens::hs256(SECRET, "70"), tokens::hs256("another secret of thirty-two bytes", "70"));
    while goes_on.get() {
        let _ = client.try_post_json("/posts/view", Some(&good), &body).await;
        join_all((0..5).map(|_| client.try_post_json("/posts/view", Some(&forged), &body))).await;
        sleep(Duration::from_millis(50)).await;
    }
}

/// More views at once than may wait.
async fn crowd(client: &Client, goes_on: &Cell<bool>) {
    let (token, body) = (tokens::hs256(SECRET, "71"), json!({ "postId": VIEWED }));
    while goes_on.get() {
        join_all((0..30).map(|_| client.try_post_json("/posts/view", Some(&token), &body))).await;
        sleep(Duration::from_millis(100)).await;
    }
}

/// A Redis that hangs for most of the time.
async fn hang(redis: &Redis, goes_on: &Cell<bool>) {
    while goes_on.get() {
        command(redis, "DEBUG", &["SLEEP", "0.4"]).await;
        sleep(Duration::from_millis(200)).await;
    }
}

/// A daemon that dies again and again, and is dead in the end.
async fn die(service: &mut Service<'_>, watch: &Prometheus) {
    for _ in 0..3 {
        let start = format!("process_start_time_seconds{{instance=\"{}\"}}", service.admin);
        let before = watch.query(&start).await;
        service.kill().await;
        service.start_again();
        eventually("the new start is scraped", LIMIT, async || {
            sleep(LOOK).await;
            let now = watch.query(&start).await;
            !now.is_empty() && (before.is_empty() || now[0]["value"][1] != before[0]["value"][1])
        })
        .await;
    }
    service.kill().await;
}

#[tokio::test]
async fn each_alert_fires_for_what_it_tells_of_and_ends_with_it() {
    let postgres = PostgresServer::start().await;
    let database = postgres.database().await;
    let world = World::with_stores(RedisServer::start().await, database, PostsTable::with_ids(IdType::Bigint)).await;
    let (other, scratch) = (RedisServer::start().await, Scratch::new());
    for post in [LOCKED, DRIFTED, VIEWED] {
        world.post(post).await;
    }
    let secret = scratch.write("secret", SECRET);
    let syncd_program = || world.daemon().env("SYNC_INTERVAL", "1s").env("SYNC_LINGER", "10ms");
    let ingest_program = || world.ingest_program().env("VIEW_INGEST_WORKERS", "1");
    let mut syncds = [(); 2].map(|()| Service::start("VIEW_SYNCD_ADMIN_LISTEN", syncd_program));
    let of_ingest = "VIEW_INGEST_ADMIN_LISTEN";
    let ingest_with_file = || ingest_program().env("JWT_SECRET", "").env("JWT_SECRET_FILE", &secret);
    let narrow = || ingest_program().env("REDIS_URL", other.url()).env("VIEW_INGEST_MAX_QUEUE", "1");
    let mut ingests = [
        Service::start(of_ingest, ingest_with_file),
        Service::start(of_ingest, narrow),
        Service::start(of_ingest, ingest_program),
    ];
    let targets = [ingests.each_ref().map(|ingest| ingest.admin).to_vec(), syncds.each_ref().map(|syncd| syncd.admin).to_vec()];
    let watch = Watch::start(&targets[0], &targets[1]).await;
    let all = targets[0].len() + targets[1].len();
    watch.until_quiet(all).await;

    // All stores are there.
    let client = ingests[0].public().await;
    let crowded = ingests[1].public().await;
    let other_redis = other.client().await;
    for (post, viewer) in [(DRIFTED, "70"), (VIEWED, "72")] {
        let answer = client.post_json("/posts/view", Some(&tokens::hs256(SECRET, viewer)), &json!({ "postId": post })).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    eventually("the views are stored", LIMIT, async || world.outbox_length().await == 0).await;
    let drifted = Keys::default().meta(&PostId::parse(DRIFTED).unwrap());
    let () = world.redis.hincrby(drifted, "acked", -3).await.unwrap();
    world.add_entry(vec![(DRIFTED, "no-number")]).await;
    let application = world.database.client().await;
    application.batch_execute(&format!("begin; select from posts where id = {LOCKED} for update")).await.unwrap();
    let answer = client.post_json("/posts/view", Some(&tokens::hs256(SECRET, "70")), &json!({ "postId": LOCKED })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    command(&other_redis, "CONFIG", &["SET", "maxmemory-policy", "allkeys-lru"]).await;
    std::fs::write(&secret, "short").unwrap();
    ingests[0].daemon().signal("HUP");
    let goes_on = Cell::new(true);
    let [.., dying] = &mut ingests;
    let observed = async {
        watch.until_seen(&BESIDE_VIEWS).await;
        watch.assert_dashboard().await;
        goes_on.set(false);
    };
    tokio::join!(
        observed,
        views(&client, &goes_on),
        crowd(&crowded, &goes_on),
        hang(&world.redis, &goes_on),
        die(dying, &watch.prometheus)
    );
    application.batch_execute("commit").await.unwrap();
    command(&other_redis, "CONFIG", &["SET", "maxmemory-policy", "noeviction"]).await;
    std::fs::write(&secret, SECRET).unwrap();
    ingests[0].daemon().signal("HUP");
    ingests[2].start_again();
    let dropped = world.command("dead").arg("drop").start();
    assert!(dropped.wait_exit().await.success(), "{:?}", dropped.output());

    tokio::join!(world.server.stop(), postgres.stop());
    watch.until_seen(&STORES_AWAY).await;

    for service in ingests.iter_mut().chain(&mut syncds) {
        service.kill().await;
    }
    tokio::join!(world.server.restart(), postgres.restart(), watch.until_seen(&ALL_DEAD));

    ingests.iter_mut().chain(&mut syncds).for_each(Service::start_again);
    watch.until_quiet(all).await;
    let caused: BTreeSet<&str> = BESIDE_VIEWS.into_iter().chain(STORES_AWAY).chain(ALL_DEAD).chain(CLUSTERED).collect();
    let rules = read("view-counter.rules.yml");
    let alerts: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: ")).collect();
    assert_eq!(caused, alerts, "an alert that is not caused here");
}

#[tokio::test]
async fn the_alert_of_half_moved_slots_ends_when_they_are_mended() {
    let world = ClusterWorld::new().await;
    let daemon = world.program().start();
    daemon.wait_for_line("Sync completed").await;
    let watch = Watch::start(&[], &[daemon.wait_for_listening("admin").await]).await;
    world.cluster.half_move_slot(7, world.other_node(7).await, 0).await;
    watch.until_seen(&CLUSTERED).await;
    world.cluster.mend().await;
    eventually("it fires no more", LIMIT, async || {
        sleep(LOOK).await;
        !watch.prometheus.firing().await.contains(CLUSTERED[0])
    })
    .await;
}
