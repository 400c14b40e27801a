//! Breaks things on schedule, and mends them.

use std::{sync::Arc, time::Duration};

use testkit::{
    cluster::{Cluster, Node},
    redis::RedisServer,
    within,
};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use views_core::ids::PostId;

use crate::{
    history::History,
    installation::Installation,
    resharding::replica_in_step,
    schedule::{Blow, Event, Fault, Keys, Link, Process, Trouble},
    world::World,
};

/// A limit of Redis's memory that is always passed.
const ENOUGH_FOR_NOTHING: &str = "1";
const NO_LIMIT: &str = "0";
/// How long the cluster may take to be whole again before the next primary is broken; it is left alone otherwise.
const WHOLE_AGAIN: Duration = Duration::from_secs(6);

/// Runs the whole schedule. When it returns, nothing is broken by it any more.
pub(crate) async fn run(
    events: Vec<Event>,
    started: Instant,
    servers: &Arc<Servers>,
    installation: &Arc<Installation>,
    world: &Arc<World>,
    history: &Arc<History>,
) {
    let mut under_way = JoinSet::new();
    for event in events {
        sleep_until(started + event.at).await;
        history.say(event);
        history.injected(event.fault.kind());
        under_way.spawn(inflict(event, Arc::clone(servers), Arc::clone(installation), Arc::clone(world), Arc::clone(history)));
    }
    under_way.join_all().await;
}

/// On a slow machine, a server may take so long to start that its next blow is due: it comes when the server is there.
/// Of a cluster, one node is broken at a time: with two of three primaries away, nobody takes anybody's place.
#[derive(Default)]
pub(crate) struct Servers {
    pub(crate) redis: Mutex<()>,
    postgres: Mutex<()>,
}

async fn inflict(event: Event, servers: Arc<Servers>, installation: Arc<Installation>, world: Arc<World>, history: Arc<History>) {
    match event.fault {
        Fault::Process(process, blow) => {
            let _turn = match process {
                Process::Redis => Some(servers.redis.lock().await),
                Process::Postgres => Some(servers.postgres.lock().await),
                Process::Program(_) => None,
            };
            strike(process, blow, event, &installation).await;
        }
        Fault::Link(link, trouble) => disturb(link, trouble, event, &installation).await,
        Fault::Primary(slot, blow) => {
            let _turn = servers.redis.lock().await;
            let cluster = installation.redis.cluster().expect("the schedule is a cluster's");
            strike_primary(slot, blow, event, cluster, &history).await;
        }
        Fault::Connections(slot) => {
            let cluster = installation.redis.cluster().expect("the schedule is a cluster's");
            if let Some(primary) = cluster.owner_of(slot).await {
                // It may be away at the moment.
                let _ = primary.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
            }
        }
        Fault::Forget(post, which) => {
            let post = PostId::parse(&world.posts[post].id).expect("the id was made by us");
            let names = installation.redis.keys();
            let keys = match which {
                Keys::Both => vec![names.views(&post), names.meta(&post)],
                Keys::Set => vec![names.views(&post)],
                Keys::Meta => vec![names.meta(&post)],
            };
            for key in keys {
                // Redis may be away at the moment; then it stays.
                let _ = installation.redis.command::<i64>(&["DEL", &key]).await;
            }
        }
    }
}

async fn strike(process: Process, blow: Blow, event: Event, installation: &Installation) {
    match (process, blow) {
        (Process::Redis, blow) => strike_server(blow, event, installation).await,
        (Process::Postgres, Blow::Pause) => {
            installation.postgres.pause();
            sleep(event.lasts).await;
            installation.postgres.resume();
        }
        (Process::Postgres, _) => {
            installation.postgres.kill().await;
            sleep(event.lasts).await;
            installation.postgres.restart().await;
        }
        (Process::Program(program), Blow::Kill) => installation.units[&program].kill(event.lasts),
        // The schedule does this to Redis alone.
        (Process::Program(_), Blow::Fill) => {}
        (Process::Program(program), Blow::Restart) => installation.units[&program].restart(),
        (Process::Program(program), Blow::Pause) => {
            let unit = &installation.units[&program];
            let pid = unit.pause();
            sleep(event.lasts).await;
            if let Some(pid) = pid {
                unit.resume(pid);
            }
        }
    }
}

async fn strike_server(blow: Blow, event: Event, installation: &Installation) {
    // Nothing else happens to the server meanwhile, so that it answers.
    let limit_memory = async |limit| {
        let answer = installation.redis.command::<String>(&["CONFIG", "SET", "maxmemory", limit]).await;
        answer.expect("Redis takes a limit")
    };
    let server = installation.redis.server().expect("the schedule is a server's");
    match blow {
        Blow::Pause => pause(server, event.lasts).await,
        Blow::Fill => {
            limit_memory(ENOUGH_FOR_NOTHING).await;
            sleep(event.lasts).await;
            limit_memory(NO_LIMIT).await;
        }
        Blow::Kill | Blow::Restart => kill(server, event.lasts).await,
    }
}

async fn pause(server: &RedisServer, lasts: Duration) {
    server.pause();
    sleep(lasts).await;
    server.resume();
}

async fn kill(server: &RedisServer, lasts: Duration) {
    server.kill().await;
    sleep(lasts).await;
    server.restart().await;
}

/// Breaks the primary of a slot, once every primary has a replica in step: what a replica lacks is lost with its primary.
async fn strike_primary(slot: u16, blow: Blow, event: Event, cluster: &Cluster, history: &History) {
    let all_in_step = async || {
        for primary in cluster.primaries().await {
            replica_in_step(cluster, primary).await?;
        }
        Some(())
    };
    if within(WHOLE_AGAIN, all_in_step).await.is_err() {
        history.say(format_args!("a replica is not in step, so no primary is broken ({})", event.fault.kind()));
        return;
    }
    let Some(primary) = cluster.owner_of(slot).await else { return };
    history.say(format_args!("{} {}, the primary of slot {slot}", blow.name(), primary.address()));
    match blow {
        Blow::Pause => pause(primary.server(), event.lasts).await,
        Blow::Fill => {
            limit_memory(primary, ENOUGH_FOR_NOTHING).await;
            sleep(event.lasts).await;
            limit_memory(primary, NO_LIMIT).await;
        }
        Blow::Kill | Blow::Restart => {
            kill(primary.server(), event.lasts).await;
            if cluster.owner_of(slot).await.is_some_and(|owner| owner.id() != primary.id()) {
                history.say(format_args!("{} was replaced", primary.address()));
                history.injected("failover by itself");
            }
        }
    }
}

async fn limit_memory(node: &Node, limit: &str) {
    let answer = node.command(&["CONFIG", "SET", "maxmemory", limit]).await;
    answer.unwrap_or_else(|error| panic!("a node takes a limit: {error}"));
}

async fn disturb(link: Link, trouble: Trouble, event: Event, installation: &Installation) {
    let proxy = &installation.proxies[&link];
    match trouble {
        Trouble::Delay(by_ms) => proxy.delay(std::time::Duration::from_millis(by_ms)),
        Trouble::Cut => proxy.break_networking().await,
        Trouble::SwallowReplies => proxy.swallow_replies(),
        Trouble::Freeze => proxy.freeze(),
    }
    sleep(event.lasts).await;
    proxy.restore().await;
}
