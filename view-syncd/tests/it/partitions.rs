//! Several partitions, as a cluster has them: drained side by side by one process, shared by several, each for itself.
//! The keys are those of a cluster, on a server without one: what is about nodes is tested elsewhere.

use std::{ffi::OsString, process::ExitCode, sync::Arc, time::Duration};

use fred::{
    interfaces::{ClientLike, HashesInterface, KeysInterface, SetsInterface, StreamsInterface},
    types::{CustomCommand, Value},
};
use prometheus_client::{encoding::text, registry::Registry};
use testkit::{SOON, eventually};
use tokio::{runtime::Handle, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use view_syncd::{
    cli,
    context::{Context, startup},
    daemon::{
        leases::{Leases, Participant, Role, campaign},
        synchronizer::Synchronizer,
        triggers, work,
    },
    drain::{Drained, Urgency},
    error::Failure,
    metrics::Metrics,
};
use views_core::{ids::PostId, keys::Keys, partition::Partition};

use crate::support::World;

/// A cluster's partitions, and what is left from before it.
const PARTITIONS: usize = 65;
/// So many posts are in almost all partitions.
const POSTS: usize = 300;
/// Rows of a batch wait for a lock of the table for so long.
const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// A process with the keys of a cluster.
struct Process {
    context: Arc<Context>,
    registry: Registry,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Process {
    async fn new(world: &World, flags: &[&str]) -> Self {
        let (redis, database) = (world.server.url(), world.database.url());
        let args = [
            "view-syncd",
            "sync",
            "--redis-url",
            &redis,
            "--database-url",
            &database,
            "--author-column",
            &world.posts.author_column,
        ];
        let settings = cli::read(args.iter().chain(flags).map(OsString::from)).expect("the settings are right");
        let (_, mut common) = settings.into_parts();
        common.sync.redis.keys = keys();
        let (mut registry, stop) = (Registry::default(), CancellationToken::new());
        let metrics = Metrics::new(&mut registry);
        let context = Context::open(&common.sync, metrics.clone(), stop.clone()).expect("the settings fit together");
        startup::check(&context).await.expect("both stores are there");
        Self { context, registry, metrics, stop }
    }

    fn leases(&self) -> Leases {
        campaign(self.context.database(), keys(), self.metrics.clone(), Participant::Daemon)
    }

    /// The value of a metric that is a number without labels.
    fn metric(&self, name: &str) -> u64 {
        let mut exposition = String::new();
        text::encode(&mut exposition, &self.registry).unwrap();
        let line = exposition.lines().find_map(|line| line.strip_prefix(&format!("view_syncd_{name} "))).expect(name);
        line.parse().unwrap()
    }
}

/// A daemon, as a task.
struct Worker {
    process: Process,
    leases: Leases,
    done: JoinHandle<ExitCode>,
}

impl Worker {
    /// Starts one whose drains do not linger, and whose first cycle meets no views.
    async fn start(world: &World) -> Self {
        let process = Process::new(world, &["--linger", "10ms"]).await;
        let leases = process.leases();
        let mut synchronizer = Synchronizer::new(&process.context);
        synchronizer.set_leases(leases.clone());
        let (mut followed, stop) = (leases.clone(), process.stop.clone());
        // As in the program, it stays on one thread.
        let runtime = Handle::current();
        let done = tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                followed.decided().await;
                let (_sender, triggers) = triggers::channel();
                work::until_done(&mut synchronizer, triggers, &mut followed, &stop, Duration::from_secs(3600)).await
            })
        });
        Self { process, leases, done }
    }

    fn held(&self) -> usize {
        if self.leases.role() == Role::Undecided { 0 } else { self.leases.partitions().len() }
    }

    async fn stop(self) -> (Process, ExitCode) {
        self.process.stop.cancel();
        (self.process, self.done.await.unwrap())
    }
}

fn keys() -> Keys {
    Keys::default().in_cluster()
}

fn post(number: usize) -> PostId {
    PostId::parse(&number.to_string()).unwrap()
}

/// A post of a partition.
fn post_in(partition: Partition) -> usize {
    (1..POSTS * 10).find(|number| keys().partition(&post(*number)) == partition).unwrap()
}

/// Does what view-ingest does in a cluster with a viewer of posts that it knows.
async fn record(world: &World, posts: impl IntoIterator<Item = usize>, viewer: &str) {
    let keys = keys();
    for post in posts.into_iter().map(post) {
        let outbox = keys.outbox_of(keys.partition(&post));
        let _: String = world.redis.xadd(outbox, false, None, "*", vec![(post.as_str(), viewer)]).await.unwrap();
        let () = world.redis.sadd(keys.views(&post), viewer).await.unwrap();
        let () = world.redis.hincrby(keys.meta(&post), "recorded", 1).await.unwrap();
    }
}

async fn create(world: &World, posts: impl IntoIterator<Item = usize>) {
    for number in posts {
        world.post(&number.to_string()).await;
    }
}

async fn stored(world: &World) -> i64 {
    world.sql.query_one("SELECT count(*) FROM post_views", &[]).await.unwrap().get(0)
}

async fn command(world: &World, words: &[&str]) {
    let name = CustomCommand::new(words[0].to_owned(), None, false);
    let _: Value = world.redis.custom(name, words[1..].to_vec()).await.unwrap();
}

/// Entries in all outboxes.
async fn waiting(world: &World) -> i64 {
    let mut waiting = 0;
    for partition in keys().drained_partitions() {
        waiting += world.redis.xlen::<i64, _>(keys().outbox_of(partition)).await.unwrap();
    }
    waiting
}

#[tokio::test]
async fn all_partitions_are_drained_and_what_was_left_from_before_the_cluster() {
    let world = World::new().await;
    create(&world, 1..=POSTS).await;
    let _: String = world.redis.xadd(keys().outbox(), false, None, "*", vec![("7", "2")]).await.unwrap();
    let () = world.redis.hincrby(keys().meta(&post(7)), "recorded", 1).await.unwrap();
    record(&world, 1..=POSTS, "1").await;
    let process = Process::new(&world, &["--drains", "4"]).await;
    let mut synchronizer = Synchronizer::new(&process.context);
    synchronizer.drain_all().await.unwrap();
    assert_eq!((stored(&world).await, waiting(&world).await), (POSTS as i64 + 1, 0));
    for number in 1..=POSTS {
        let meta: Vec<Option<i64>> = world.redis.hmget(keys().meta(&post(number)), vec!["persisted", "acked"]).await.unwrap();
        let views = if number == 7 { 2 } else { 1 };
        assert_eq!(meta, [Some(views), Some(views)], "post {number}");
    }
    // Whose a partition is stands beside its outbox.
    let owner: String = world.redis.get(keys().owner()).await.unwrap();
    for partition in keys().drained_partitions() {
        let beside: Option<String> = world.redis.get(keys().owner_of(partition)).await.unwrap();
        assert_eq!(beside.as_ref(), Some(&owner), "{}", partition.name());
    }
    assert_eq!(synchronizer.drain(Urgency::AtOnce).await.unwrap(), Drained::Idle);
}

#[tokio::test]
async fn nothing_is_taken_from_another_one_s_partitions() {
    let world = World::new().await;
    create(&world, [7]).await;
    let process = Process::new(&world, &[]).await;
    let mut synchronizer = Synchronizer::new(&process.context);
    let () = world.redis.set(keys().owner(), "another one", None, None, false).await.unwrap();
    record(&world, [7], "1").await;
    let drained = synchronizer.drain(Urgency::AtOnce).await;
    assert!(matches!(drained, Err(Failure::Foreign(_))), "{drained:?}");
    assert_eq!((stored(&world).await, waiting(&world).await), (0, 1));
    let partition = keys().partition(&post(7));
    assert_eq!(world.redis.get::<Option<String>, _>(keys().owner_of(partition)).await.unwrap(), None);
}

/// Returns how many batches wait at once for a lock that somebody has on the ledger, with as many drains.
async fn side_by_side(world: &World, drains: &str) -> i64 {
    let process = Process::new(world, &["--drains", drains]).await;
    let mut synchronizer = Synchronizer::new(&process.context);
    synchronizer.drain_all().await.unwrap();
    record(world, 1..=POSTS, drains).await;
    let mut other = world.database.client().await;
    let lock = other.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE post_views IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let waits = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND relation = 'post_views'::regclass";
    let mut most = 0;
    let watch = async {
        let until = Instant::now() + HALF_A_SECOND;
        while Instant::now() < until {
            most = most.max(world.sql.query_one(waits, &[]).await.unwrap().get(0));
        }
    };
    tokio::select! {
        drained = synchronizer.drain_all() => panic!("{drained:?}"),
        () = watch => {}
    }
    lock.rollback().await.unwrap();
    // What was given up in the middle of it is gone on with.
    while synchronizer.drain_all().await.is_err() || waiting(world).await > 0 {}
    most
}

#[tokio::test]
async fn as_many_drains_as_are_set_work_side_by_side() {
    let world = World::new().await;
    create(&world, 1..=POSTS).await;
    assert_eq!(side_by_side(&world, "1").await, 1);
    assert_eq!(side_by_side(&world, "3").await, 3);
    assert_eq!(stored(&world).await, 2 * POSTS as i64);
}

#[tokio::test]
async fn a_partition_that_cannot_be_drained_delays_no_other() {
    let world = World::new().await;
    let parts: Vec<Partition> = keys().partitions().collect();
    let [broken, sound] = [post_in(parts[3]), post_in(parts[40])];
    create(&world, [broken, sound]).await;
    let outbox = keys().outbox_of(parts[3]).to_owned();
    let worker = Worker::start(&world).await;
    eventually("it has everything", SOON, || async { worker.held() == PARTITIONS }).await;
    let () = world.redis.set(&outbox, "no stream", None, None, false).await.unwrap();
    eventually("it has failed for a while", SOON, || async { worker.process.metric("drain_failures_total") >= 6 }).await;
    // By now its pauses are longer than a view of any other takes.
    let failures = worker.process.metric("drain_failures_total");
    for viewer in 1..=20 {
        record(&world, [sound], &viewer.to_string()).await;
        eventually("the other one is drained", SOON, || async { stored(&world).await == viewer }).await;
    }
    assert!(worker.process.metric("drain_failures_total") <= failures + 2, "it is tried all the time");
    // It is drained again as soon as it can be.
    let _: i64 = world.redis.del(&outbox).await.unwrap();
    record(&world, [broken], "1").await;
    eventually("it is drained again", SOON, || async { stored(&world).await == 21 }).await;
    let (_, code) = worker.stop().await;
    assert_eq!(code, ExitCode::SUCCESS);
}

#[tokio::test]
async fn two_daemons_share_the_work_and_one_that_stops_hands_its_own_over() {
    let world = World::new().await;
    create(&world, 1..=POSTS).await;
    let first = Worker::start(&world).await;
    eventually("the first one has everything", SOON, || async { first.held() == PARTITIONS }).await;
    let second = Worker::start(&world).await;
    eventually("half of it is the other one's", SOON, || async { (first.held(), second.held()) == (33, 32) }).await;
    record(&world, 1..=POSTS, "1").await;
    eventually("all is stored", SOON, || async { stored(&world).await == POSTS as i64 && waiting(&world).await == 0 }).await;
    for worker in [&first, &second] {
        assert!(worker.process.metric("batches_total") > 0 && worker.process.metric("leader") == 1);
    }
    // Others go on recording while it stops.
    let recording = async {
        for viewer in 2..=4 {
            record(&world, 1..=POSTS, &viewer.to_string()).await;
        }
    };
    let (((_, code), handed_over), ()) = tokio::join!(
        async {
            let stopped = first.stop().await;
            let since = Instant::now();
            eventually("the other one has everything", SOON, || async { second.held() == PARTITIONS }).await;
            (stopped, since.elapsed())
        },
        recording
    );
    println!("handed over after {handed_over:?}");
    assert_eq!(code, ExitCode::SUCCESS);
    let all = 4 * POSTS as i64;
    eventually("all is stored", SOON, || async { stored(&world).await == all && waiting(&world).await == 0 }).await;
    let sum = "SELECT sum(views_count)::int8 FROM posts";
    assert_eq!(world.sql.query_one(sum, &[]).await.unwrap().get::<_, i64>(0), all);
    let (_, code) = second.stop().await;
    assert_eq!(code, ExitCode::SUCCESS);
}

#[tokio::test]
async fn a_cycle_goes_on_where_only_some_partitions_fail() {
    let world = World::new().await;
    create(&world, [7]).await;
    let process = Process::new(&world, &[]).await;
    let mut synchronizer = Synchronizer::new(&process.context);
    let other = keys().partitions().find(|partition| *partition != keys().partition(&post(7))).unwrap();
    let () = world.redis.set(keys().outbox_of(other), "no stream", None, None, false).await.unwrap();
    record(&world, [7], "1").await;
    let synced = synchronizer.cycle().await.unwrap();
    assert_eq!((stored(&world).await, synced.errors), (1, 1));
    // Where none can be drained, it does not.
    for partition in keys().drained_partitions() {
        let () = world.redis.set(keys().outbox_of(partition), "no stream", None, None, false).await.unwrap();
    }
    let failed = synchronizer.cycle().await;
    assert!(matches!(failed, Err(Failure::Redis(_))), "{failed:?}");
}

#[tokio::test]
async fn a_scan_writes_no_count_of_which_a_failed_drain_has_not_acknowledged_a_part() {
    let world = World::new().await;
    create(&world, [7]).await;
    let process = Process::new(&world, &[]).await;
    let mut leases = process.leases();
    leases.decided().await;
    let mut synchronizer = Synchronizer::new(&process.context);
    synchronizer.set_leases(leases.clone());
    // From then on no other process can be draining it.
    let database = process.context.database();
    eventually("the partitions are its own", testkit::cluster::FAILOVER_DEADLINE, || async {
        (leases.alone(&database).await.ok()?.len() == PARTITIONS).then_some(())
    })
    .await;
    record(&world, [7], "1").await;
    assert_eq!(synchronizer.cycle().await.unwrap().errors, 0);

    // What is in PostgreSQL cannot be acknowledged. A scan does not try again at once.
    record(&world, [7], "2").await;
    command(&world, &["ACL", "SETUSER", "default", "-hset"]).await;
    let drained = synchronizer.drain(Urgency::AtOnce).await.unwrap();
    assert_eq!((stored(&world).await, drained), (2, Drained::Idle), "the other partitions have nothing");
    command(&world, &["ACL", "SETUSER", "default", "+hset"]).await;
    let numbers = || async {
        let fields = vec!["persisted", "recorded", "acked"];
        world.redis.hmget::<[i64; 3], _, _>(keys().meta(&post(7)), fields).await.unwrap()
    };
    for _ in 0..2 {
        synchronizer.scan().await.unwrap();
        assert_eq!(numbers().await, [1, 2, 1], "persisted, recorded, acked");
    }
    assert_eq!(synchronizer.cycle().await.unwrap().errors, 0);
    assert_eq!(numbers().await, [2, 2, 2], "persisted, recorded, acked");
}
