//! How several processes share partitions out: leases, as locks in a real PostgreSQL, of members in one process.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus_client::registry::Registry;
use testkit::{SOON, eventually, postgres::Database, proxy::Proxy};
use tokio::task::JoinHandle;
use view_syncd::{
    cli::{self, STATEMENT_TIMEOUT},
    daemon::leases::{InUse, Leases, Participant, Role, campaign},
    error::Failure,
    metrics::Metrics,
};
use views_core::{keys::Keys, partition::Partition};
use views_redis::RedisError;

use crate::support::World;

/// All partitions of a cluster that are drained.
const ALL: usize = 65;
/// How soon everything is held again, and shared out evenly: the members look twice a second.
const SETTLED: Duration = Duration::from_secs(5);
/// Failures in a row after which a lease is given up.
const MOST_FAILURES: usize = 5;

/// Begins to run for leases of a world's ledger.
async fn run_for_leases(world: &World, keys: Keys, participant: Participant) -> Leases {
    let args = ["view-syncd", "sync", "--database-url", &world.database.url(), "--posts-table", &world.posts.table];
    let (_, common) = cli::read(args.iter().map(OsString::from)).expect("the settings are right").into_parts();
    let database = views_postgres::Database::new(&common.sync.database, common.sync.posts.clone(), 1, STATEMENT_TIMEOUT).unwrap();
    campaign(Arc::new(database), keys, Metrics::new(&mut Registry::default()), participant)
}

/// A member that works on whatever it holds, and leaves what it is to give back.
struct Member {
    leases: Leases,
    works: JoinHandle<()>,
}

impl Member {
    async fn of_cluster(world: &World) -> Self {
        let leases = run_for_leases(world, Keys::default().in_cluster(), Participant::Daemon).await;
        let mut followed = leases.clone();
        let works = tokio::spawn(async move {
            followed.decided().await;
            let mut used: Vec<(Partition, InUse)> = Vec::new();
            loop {
                let wanted = followed.partitions();
                used.retain(|(partition, _)| wanted.contains(partition));
                let new: Vec<Partition> =
                    wanted.into_iter().filter(|partition| used.iter().all(|(used, _)| used != partition)).collect();
                used.extend(new.into_iter().filter_map(|partition| Some((partition, followed.use_of(partition)?))));
                followed.changed().await;
            }
        });
        Self { leases, works }
    }

    fn held(&self) -> BTreeSet<Partition> {
        if self.leases.role() == Role::Leader { self.leases.partitions() } else { BTreeSet::new() }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // With it, the last who follows the leases: the connection is closed.
        self.works.abort();
    }
}

/// Demands that everything is held soon, by one member each, and by none more than its share; as the members know it and
/// as PostgreSQL does.
async fn settle(world: &World, what: &str, members: &[Member]) {
    let since = Instant::now();
    let share = ALL.div_ceil(members.len());
    eventually(what, SETTLED, || async {
        let held: Vec<BTreeSet<Partition>> = members.iter().map(Member::held).collect();
        let all: BTreeSet<Partition> = held.iter().flatten().copied().collect();
        let number: usize = held.iter().map(BTreeSet::len).sum();
        let is_settled = all.len() == ALL && number == ALL && held.iter().all(|held| held.len() <= share);
        let locks = locks(world, 722_646).await;
        let is_settled = is_settled && locks == (ALL as i64, members.len() as i64);
        is_settled.then_some(()).ok_or_else(|| (held.iter().map(BTreeSet::len).collect::<Vec<_>>(), locks))
    })
    .await;
    println!("{what}: settled after {:?}", since.elapsed());
}

/// Returns how many partitions are held, and how many members there are.
async fn locks(world: &World, member: i64) -> (i64, i64) {
    let locks =
        "SELECT count(*) FILTER (WHERE l.classid BETWEEN 722643000 AND 722643255), count(*) FILTER (WHERE l.classid::int8 = $1)
        FROM pg_locks l JOIN pg_database d ON d.oid = l.database
        WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()";
    let row = world.sql.query_one(locks, &[&member]).await.unwrap();
    (row.get(0), row.get(1))
}

/// Ends the sessions of members, or only one of them.
async fn cut(database: &Database, number: i64) -> i64 {
    let cut =
        "SELECT count(pg_terminate_backend(pid)) FROM (SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database
        WHERE l.locktype = 'advisory' AND l.classid = 722646 AND d.datname = current_database() LIMIT $1) AS members";
    database.client().await.query_one(cut, &[&number]).await.unwrap().get(0)
}

#[tokio::test]
async fn members_share_the_partitions_whoever_comes_and_goes() {
    let world = World::new().await;
    let mut members = vec![Member::of_cluster(&world).await];
    settle(&world, "one member", &members).await;
    for what in ["a second one comes", "a third one comes", "a fourth one comes"] {
        members.push(Member::of_cluster(&world).await);
        settle(&world, what, &members).await;
    }
    drop(members.remove(1));
    settle(&world, "one is killed", &members).await;
    members.push(Member::of_cluster(&world).await);
    settle(&world, "another one comes", &members).await;
    assert_eq!(cut(&world.database, 1).await, 1);
    settle(&world, "one is cut off", &members).await;
    assert_eq!(cut(&world.database, 100).await, 4);
    settle(&world, "all are cut off", &members).await;
    members.truncate(1);
    settle(&world, "one is left", &members).await;
}

#[tokio::test]
async fn what_is_worked_on_is_not_given_back_before_that_ends() {
    let world = World::new().await;
    let keys = Keys::default().in_cluster();
    let mut first = run_for_leases(&world, keys, Participant::Daemon).await;
    first.decided().await;
    let mut used: Vec<InUse> = first.partitions().into_iter().filter_map(|partition| first.use_of(partition)).collect();
    assert_eq!(used.len(), ALL);
    let second = Member::of_cluster(&world).await;
    let leaving = |used: &[InUse]| used.iter().filter(|used| used.leaving.is_cancelled()).count();
    eventually("half is to be given back", SETTLED, || async { leaving(&used) == 32 }).await;
    assert_eq!(first.partitions().len(), 33);
    assert_eq!(second.held().len(), 0, "it has what the other one works on");
    used.retain(|used| !used.leaving.is_cancelled());
    eventually("the other one has it", SETTLED, || async { second.held().len() == 32 }).await;
    drop(used);
}

#[tokio::test]
async fn an_end_hands_over_what_is_done_with_and_keeps_what_is_not() {
    let world = World::new().await;
    let members = [Member::of_cluster(&world).await, Member::of_cluster(&world).await];
    settle(&world, "two members", &members).await;
    let [first, second] = members;
    let last = first.leases.partitions().pop_first().unwrap();
    let used = first.leases.use_of(last).unwrap();
    first.leases.end();
    // The work of the drain ends, partition by partition.
    let mut leases = first.leases.clone();
    drop(first);
    eventually("the other one has the rest", SETTLED, || async { second.held().len() == ALL - 1 }).await;
    assert!(!second.held().contains(&last));
    drop(used);
    leases.ended().await;
    eventually("the other one has everything", SETTLED, || async { second.held().len() == ALL }).await;
}

/// The lock of a server without a cluster is that of versions that know of no partitions.
#[tokio::test]
async fn an_older_version_and_this_one_keep_each_other_out() {
    let world = World::new().await;
    let older = world.database.client().await;
    let lead = "SELECT pg_try_advisory_lock(722643, hashtext('\"public\".\"post_views\"'))";
    assert!(older.query_one(lead, &[]).await.unwrap().get::<_, bool>(0));
    let mut leases = run_for_leases(&world, Keys::default(), Participant::Daemon).await;
    leases.decided().await;
    assert_eq!((leases.role(), leases.works()), (Role::Standby, false));
    older.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    eventually("this one leads", SOON, || async { leases.role() == Role::Leader }).await;
    assert!(!older.query_one(lead, &[]).await.unwrap().get::<_, bool>(0));
    // A cluster of the same ledger, to which its views are moved, is not kept waiting by it.
    let cluster = Member::of_cluster(&world).await;
    settle(&world, "a cluster beside it", &[cluster]).await;
}

/// Has every step of a partition fail by Redis.
fn fail(leases: &Leases, partition: Partition) {
    let failure = Failure::Redis(RedisError::Timeout);
    (0..MOST_FAILURES).for_each(|_| leases.note_step(partition, Some(&failure)));
}

#[tokio::test]
async fn who_cannot_drain_leads_only_where_nobody_else_can() {
    let world = World::new().await;
    let start = async || run_for_leases(&world, Keys::default(), Participant::Daemon).await;
    let mut first = start().await;
    first.decided().await;
    fail(&first, Partition::WHOLE);
    let mut second = start().await;
    second.note_look(false);
    second.decided().await;
    assert_eq!((first.role(), second.role()), (Role::Leader, Role::Standby), "neither can drain");
    second.note_look(true);
    eventually("the other one leads", SOON, || async { (first.role(), second.role()) == (Role::Standby, Role::Leader) }).await;
    // It does not take the lead back, and stands by again when it can.
    first.note_look(true);
    eventually("both count", SOON, || async { locks(&world, 722_645).await.1 == 2 }).await;
    assert_eq!((first.role(), second.role()), (Role::Standby, Role::Leader));
    drop(second);
    eventually("the first one leads", SOON, || async { first.role() == Role::Leader }).await;
}

#[tokio::test]
async fn a_partition_that_one_member_cannot_drain_goes_to_another_one() {
    let world = World::new().await;
    let members = [Member::of_cluster(&world).await, Member::of_cluster(&world).await];
    settle(&world, "two members", &members).await;
    let [first, second] = &members;
    let given_up = *first.held().first().unwrap();
    fail(&first.leases, given_up);
    eventually("the other one has it", SOON, || async { second.held().contains(&given_up) }).await;
    eventually("no other one moves", SOON, || async { first.held().len() + second.held().len() == ALL }).await;
    assert_eq!(first.held().intersection(&second.held()).count(), 0);
}

#[tokio::test]
async fn a_command_takes_only_what_no_daemon_has() {
    let world = World::new().await;
    let keys = Keys::default().in_cluster();
    let mut command = run_for_leases(&world, keys.clone(), Participant::Command).await;
    command.decided().await;
    assert_eq!(command.partitions().len(), ALL);
    let daemon = Member::of_cluster(&world).await;
    let mut late = run_for_leases(&world, keys, Participant::Command).await;
    late.decided().await;
    assert_eq!((late.role(), command.partitions().len(), daemon.held().len()), (Role::Standby, ALL, 0));
    // It would take them now.
    drop(late);
    drop(command);
    settle(&world, "the commands have ended", &[daemon]).await;
}

/// What the whole daemon makes of it.
#[tokio::test]
async fn a_leader_whose_redis_is_of_no_use_leaves_the_lead_to_one_whose_is_well() {
    let world = World::new().await;
    world.post("7").await;
    let proxy = Proxy::to_port(world.server.port()).await;
    let url = format!("redis://{}", proxy.address());
    let leader = world.daemon().env("REDIS_URL", url).env("SYNC_LINGER", "10ms").start();
    leader.wait_for_line("Sync completed").await;
    let standby = world.daemon().env("SYNC_LINGER", "10ms").start();
    standby.wait_for_line("another view-syncd leads").await;
    proxy.break_networking().await;
    world.record("7", &["1"]).await;
    standby.wait_for_line("this view-syncd leads").await;
    leader.wait_for_line("another view-syncd leads").await;
    eventually("the view is stored", SOON, || async { world.stored("7").await == 1 }).await;
}
