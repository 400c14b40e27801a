//! A fault of the table buries nothing; a fault of a pair stops nothing else.

mod counts;
mod pairs;

use std::time::{Duration, Instant};

use fred::interfaces::StreamsInterface;
use futures_util::future::join_all;
use testkit::{eventually, http::Client, process::Daemon};

use crate::support::World;

/// What can be stored is stored within this time.
const SECONDS: Duration = Duration::from_secs(15);
/// A trigger on the ledger that raises an exception for some rows, or for all.
const TRIGGER: &str = "create or replace function refuse() returns trigger language plpgsql as $$ begin
    if {when} then raise exception 'closed for today' using errcode = '{state}'; end if; return new; end $$;
    create trigger refuse {event} for each row execute function refuse()";

fn trigger(event: &str, state: &str, when: &str) -> String {
    TRIGGER.replace("{event}", event).replace("{state}", state).replace("{when}", when)
}

async fn daemon(world: &World) -> (Daemon, Client) {
    let daemon = world.daemon().env("SYNC_LINGER", "50ms").start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    (daemon, client)
}

/// Has the daemon run one more cycle.
async fn cycle(daemon: &Daemon) {
    // One that is under way now does not count: it may have been where the change is already.
    let before = daemon.lines_with("Starting views synchronization").len() - daemon.lines_with("Sync failed").len();
    daemon.signal("HUP");
    daemon.wait_for_nth_line(before + 1, "Sync completed").await;
}

/// Puts pairs into the outbox as view-ingest does, a hundred in an entry. Returns the times of their views by pair.
async fn record(world: &World, pairs: &[(i32, i32)]) -> Vec<(String, String, String)> {
    let mut sent = Vec::new();
    for chunk in pairs.chunks(100) {
        let chunk: Vec<(String, String)> = chunk.iter().map(|(post, viewer)| (post.to_string(), viewer.to_string())).collect();
        let id = world.add_entry(chunk.iter().map(|(post, viewer)| (post.as_str(), viewer.as_str())).collect()).await;
        let ms = id.split('-').next().unwrap().to_owned();
        sent.extend(chunk.into_iter().map(|(post, viewer)| (post, viewer, ms.clone())));
    }
    sent.sort();
    sent
}

/// The ledger: posts, viewers and times in milliseconds since 1970, sorted as texts.
async fn ledger(world: &World) -> Vec<(String, String, String)> {
    let ledger = "select post_id::text, user_id::text, ((extract(epoch from viewed_at) * 1000)::bigint)::text from post_views";
    let rows = world.sql.query(ledger, &[]).await.unwrap();
    let mut rows: Vec<_> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    rows.sort();
    rows
}

/// Each dead letter's fields.
async fn letters(world: &World) -> Vec<Vec<(String, String)>> {
    let entries: Vec<(String, Vec<String>)> = world.redis.xrange(world.keys.dead(), "-", "+", None).await.unwrap();
    let fields = |fields: Vec<String>| fields.chunks(2).map(|field| (field[0].clone(), field[1].clone())).collect();
    entries.into_iter().map(|(_, all)| fields(all)).collect()
}

/// Posts, viewers and times of the dead letters that are offered again, sorted.
async fn passing(world: &World) -> Vec<(String, String, String)> {
    let letters = letters(world).await.into_iter();
    let mut passing: Vec<_> = letters
        .filter(|letter| letter.contains(&("retry".to_owned(), "1".to_owned())))
        .map(|letter| {
            let field = |name: &str| letter.iter().find(|(field, _)| field == name).unwrap().1.clone();
            (field("post"), field("viewer"), field("at"))
        })
        .collect();
    passing.sort();
    passing
}

async fn outbox_empties(world: &World, limit: Duration) {
    eventually("everything is acknowledged", limit, async || world.outbox_length().await == 0).await;
}

#[tokio::test]
async fn a_table_that_takes_nothing_buries_nothing_and_says_why() {
    let ledger_trigger = |state| trigger("before insert on post_views", state, "true");
    let cases: Vec<(&str, String, &str)> = vec![
        ("before", ledger_trigger("P0001"), "closed for today"),
        ("after", trigger("after insert on post_views", "P0001", "true"), "closed for today"),
        ("on posts", trigger("before update on posts", "P0001", "true"), "closed for today"),
        ("check", "alter table post_views add constraint closed check (false) not valid".into(), "closed"),
        ("check of posts", "alter table posts add constraint closed check (views_count = 0) not valid".into(), "closed"),
        ("partition", "alter table post_views add constraint closed check (user_id < 0) not valid".into(), "closed"),
        ("disk", ledger_trigger("53100"), "53100"),
        ("memory", ledger_trigger("53200"), "53200"),
        ("files", ledger_trigger("58030"), "58030"),
        ("not now", ledger_trigger("55000"), "55000"),
        ("state", ledger_trigger("25006"), "25006"),
        ("canceled", ledger_trigger("57014"), "57014"),
        ("serialization", ledger_trigger("40001"), "40001"),
        ("lock", ledger_trigger("55P03"), "55P03"),
        ("values", ledger_trigger("22003"), "22003"),
        ("null", ledger_trigger("23502"), "23502"),
        ("rights", ledger_trigger("42501"), "42501"),
    ];
    // Side by side, because each of them waits most of the time.
    for cases in cases.chunks(6) {
        let cases = cases.iter().flat_map(|(name, fault, said)| [1, 120].map(|pairs| takes_nothing(name, fault, said, pairs)));
        join_all(cases).await;
    }
}

async fn takes_nothing(name: &str, fault: &str, said: &str, pairs: i32) {
    let case = format!("{name}, {pairs} pairs");
    let world = World::new().await;
    for post in 1..=4 {
        world.post(&post.to_string()).await;
    }
    let (_daemon, client) = daemon(&world).await;
    world.sql.batch_execute(fault).await.unwrap();
    let all: Vec<(i32, i32)> = (0..pairs).map(|number| (1 + number % 3, 100 + number)).collect();
    let sent = record(&world, &all).await;
    let since = Instant::now();
    let unready = async || {
        let answer = client.get("/readyz").await;
        if answer.status == 503 && answer.body.contains(said) { Ok(()) } else { Err(answer.body) }
    };
    eventually(&format!("{case}: it says what PostgreSQL says"), SECONDS, unready).await;
    while since.elapsed() < Duration::from_millis(2_500) {
        assert_eq!(client.get("/readyz").await.status, 503, "{case}");
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert_eq!(letters(&world).await, Vec::<Vec<_>>::new(), "{case}");
    let end = "drop function if exists refuse() cascade; alter table post_views drop constraint if exists closed;
               alter table posts drop constraint if exists closed";
    world.sql.batch_execute(end).await.unwrap();
    outbox_empties(&world, SECONDS * 3).await;
    assert_eq!(ledger(&world).await, sent, "{case}");
    assert_eq!(letters(&world).await, Vec::<Vec<_>>::new(), "{case}");
    eventually("it is ready", SECONDS, async || client.get("/readyz").await.status == 200).await;
}

#[tokio::test]
async fn a_full_disk_is_not_ready_until_something_is_stored_and_is_tried_less_and_less_often() {
    let world = World::new().await;
    world.post("7").await;
    let (daemon, client) = daemon(&world).await;
    world.sql.batch_execute(&trigger("before insert on post_views", "53100", "true")).await.unwrap();
    record(&world, &[(7, 1), (7, 2)]).await;
    daemon.wait_for_line("the outbox cannot be drained").await;
    for poll in 0..80 {
        let answer = client.get("/readyz").await;
        assert!(answer.status == 503 && answer.body.contains("53100"), "poll {poll}: {answer:?}");
        let metrics = client.get("/metrics").await.body;
        assert!(metrics.contains("view_syncd_store_up{store=\"postgresql\"} 0"), "poll {poll}: {metrics}");
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let metrics = client.get("/metrics").await.body;
    let tries = metrics.lines().find_map(|line| line.strip_prefix("view_syncd_drain_failures_total "));
    let tries: u32 = tries.unwrap().parse().unwrap();
    assert!((3..=12).contains(&tries), "{tries} tries in 12 s");
    let lines = daemon.lines_with("the outbox cannot be drained").len();
    assert!(lines <= 3, "{lines} lines in 12 s");
    world.sql.batch_execute("drop function refuse() cascade").await.unwrap();
    outbox_empties(&world, Duration::from_secs(12)).await;
    eventually("it is ready", SECONDS, async || client.get("/readyz").await.status == 200).await;
    assert!(client.get("/metrics").await.body.contains("view_syncd_store_up{store=\"postgresql\"} 1"));
    assert_eq!((world.stored("7").await, letters(&world).await.len()), (2, 0));
}

#[tokio::test]
async fn a_trigger_that_raises_for_a_few_seconds_under_load_buries_nothing() {
    let world = World::new().await;
    for post in 1..=10 {
        world.post(&post.to_string()).await;
    }
    let (_daemon, _) = daemon(&world).await;
    let mut sent = Vec::new();
    for round in 0..40 {
        let pairs: Vec<(i32, i32)> = (0..60).map(|number| (1 + number % 10, round * 100 + number)).collect();
        sent.extend(record(&world, &pairs).await);
        if round == 10 {
            world.sql.batch_execute(&trigger("before insert on post_views", "P0001", "true")).await.unwrap();
        }
        if round == 30 {
            world.sql.batch_execute("drop function refuse() cascade").await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    outbox_empties(&world, Duration::from_secs(12)).await;
    sent.sort();
    assert_eq!((letters(&world).await.len(), ledger(&world).await == sent), (0, true));
}
