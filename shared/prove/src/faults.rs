//! Breaks things on schedule, and mends them.

use std::sync::Arc;

use fred::{
    interfaces::{ClientLike, KeysInterface},
    types::{ClusterHash, CustomCommand},
};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use views_core::{ids::PostId, keys};

use crate::{
    history::History,
    installation::Installation,
    schedule::{Blow, Event, Fault, Keys, Link, Process, Trouble},
    world::World,
};

/// A limit of Redis's memory that is always passed.
const ENOUGH_FOR_NOTHING: &str = "1";
const NO_LIMIT: &str = "0";

/// Runs the whole schedule. When it returns, nothing is broken by it any more.
pub(crate) async fn run(
    events: Vec<Event>,
    started: Instant,
    installation: &Arc<Installation>,
    world: &Arc<World>,
    history: &Arc<History>,
) {
    let servers = Arc::new(Servers::default());
    let mut under_way = JoinSet::new();
    for event in events {
        sleep_until(started + event.at).await;
        history.say(event);
        history.injected(event.fault.kind());
        under_way.spawn(inflict(event, Arc::clone(&servers), Arc::clone(installation), Arc::clone(world)));
    }
    under_way.join_all().await;
}

/// On a slow machine, a server may take so long to start that its next blow is due: it comes when the server is there.
#[derive(Default)]
struct Servers {
    redis: Mutex<()>,
    postgres: Mutex<()>,
}

async fn inflict(event: Event, servers: Arc<Servers>, installation: Arc<Installation>, world: Arc<World>) {
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
        Fault::Forget(post, which) => {
            let post = PostId::parse(&world.posts[post].id).expect("the id was made by us");
            let names = keys::Keys::default();
            let keys = match which {
                Keys::Both => vec![names.views(&post), names.meta(&post)],
                Keys::Set => vec![names.views(&post)],
                Keys::Meta => vec![names.meta(&post)],
            };
            // Redis may be away at the moment; then they stay.
            let _ = installation.direct.del::<i64, _>(keys).await;
        }
    }
}

async fn strike(process: Process, blow: Blow, event: Event, installation: &Installation) {
    match (process, blow) {
        (Process::Redis, Blow::Pause) => {
            installation.redis.pause();
            sleep(event.lasts).await;
            installation.redis.resume();
        }
        (Process::Redis, Blow::Fill) => {
            limit_memory(installation, ENOUGH_FOR_NOTHING).await;
            sleep(event.lasts).await;
            limit_memory(installation, NO_LIMIT).await;
        }
        (Process::Redis, _) => {
            installation.redis.kill().await;
            sleep(event.lasts).await;
            installation.redis.restart().await;
        }
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

/// Nothing else happens to the server meanwhile, so that it answers.
async fn limit_memory(installation: &Installation, limit: &str) {
    let set = CustomCommand::new_static("CONFIG", ClusterHash::FirstKey, false);
    let () = installation.direct.custom(set, vec!["SET", "maxmemory", limit]).await.expect("Redis takes a limit");
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
