//! Whose the keys in Redis are: two databases that share them by mistake lose nothing to each other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fred::{
    interfaces::{ClientLike, KeysInterface, SetsInterface, StreamsInterface},
    types::{ClusterHash, CustomCommand},
};
use testkit::{
    SOON, eventually,
    http::Client,
    postgres::{self, PostgresServer},
    posts::{IdType, PostsTable},
    process::{Daemon, DaemonBuilder},
    proxy::Proxy,
    redis::RedisServer,
};
use view_syncd::{daemon::synchronizer::Synchronizer, drain::Urgency, error::Failure};
use views_core::{ids::PostId, keys::Keys};

use crate::{
    site,
    support::{SECRET, World, synchronizer},
};

const KEY: &str = "views:owner";
const REFUSED: &str = "the keys in Redis belong to another database: views:owner is";

/// A production database and a copy of it, made as its template, beside one Redis. Both have the posts 7 and 8.
async fn twins() -> (World, World) {
    let server = Arc::new(RedisServer::start().await);
    let (postgres, posts) = (postgres::shared().await, PostsTable::with_ids(IdType::Bigint));
    let World { database, .. } = World::with_stores(Arc::clone(&server), postgres.database().await, posts.clone()).await;
    for post in ["7", "8"] {
        posts.insert_post(&database.client().await, post, "999999").await;
    }
    let copy = postgres.copy(&database).await;
    let production = World::over(Arc::clone(&server), database, posts.clone()).await;
    (production, World::over(server, copy, posts).await)
}

async fn owner(world: &World) -> Option<String> {
    world.redis.get(KEY).await.unwrap()
}

async fn set_owner(world: &World, owner: &str) {
    let () = world.redis.set(KEY, owner, None, None, false).await.unwrap();
}

/// Runs a program to its end, and gives its exit status and what it has said.
async fn ended(program: DaemonBuilder) -> (Option<i32>, String) {
    let daemon = program.start();
    (daemon.wait_exit().await.code(), daemon.output().join("\n"))
}

/// A daemon that drains at once, done with its first cycle, and a client of its operators' listener.
async fn hasty_daemon(world: &World) -> (Daemon, Client) {
    let daemon = world.daemon().env("SYNC_LINGER", "10ms").start();
    daemon.wait_for_line("Sync completed").await;
    let client = Client::new(daemon.wait_for_listening("admin").await);
    (daemon, client)
}

async fn is_unfit(client: &Client) -> bool {
    client.get("/metrics").await.body.lines().any(|line| line == "view_syncd_redis_unfit 1")
}

async fn becomes_not_ready(client: &Client) {
    eventually("it is not ready, and says why", SOON, async || {
        let answer = client.get("/readyz").await;
        answer.status == 503 && answer.body.contains("the keys in Redis belong to another database")
    })
    .await;
    assert!(is_unfit(client).await);
}

async fn becomes_ready(client: &Client) {
    eventually("it is ready", SOON, async || client.get("/readyz").await.status == 200).await;
    assert!(!is_unfit(client).await);
}

async fn outbox_becomes_empty(world: &World) {
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
}

#[tokio::test]
async fn a_copy_of_the_database_is_refused_and_the_views_are_drained_by_their_owner() {
    let (production, copy) = twins().await;
    // A post that is younger than the copy, which would take it for one that does not exist.
    production.post("9").await;
    let (daemon, _) = hasty_daemon(&production).await;
    daemon.kill9().await;
    for post in ["7", "9"] {
        production.record(post, &["1", "2", "3"]).await;
    }
    let owner = owner(&production).await.unwrap();
    assert!(owner.ends_with("/public.posts/public.post_views"), "{owner}");

    for program in [copy.daemon(), copy.command("sync")] {
        let (code, output) = ended(program).await;
        assert_eq!(code, Some(78), "{output}");
        let lines: Vec<&str> = output.lines().filter(|line| line.contains(REFUSED)).collect();
        assert_eq!(lines.len(), 1, "{output}");
        for part in
            [owner.as_str(), "/public.posts/public.post_views\". Give one of the two", "--redis-prefix", "`view-syncd claim`"]
        {
            assert!(lines[0].contains(part), "{part} is missing in {}", lines[0]);
        }
    }
    assert_eq!(production.outbox_length().await, 2);
    assert_eq!(self::owner(&production).await, Some(owner));

    let (_daemon, client) = hasty_daemon(&production).await;
    outbox_becomes_empty(&production).await;
    becomes_ready(&client).await;
    for post in ["7", "9"] {
        production.assert_views(post, 3).await;
    }
    assert_eq!(copy.posts.views_count(&copy.sql, "7").await, 0);
    assert!(production.dead().await.is_empty());
}

#[tokio::test]
async fn a_daemon_that_runs_takes_nothing_while_the_keys_are_another_s_and_goes_on_by_itself() {
    let world = World::new().await;
    world.post("7").await;
    let (daemon, client) = hasty_daemon(&world).await;
    let own = owner(&world).await.unwrap();
    set_owner(&world, "another ledger").await;
    becomes_not_ready(&client).await;
    world.record("7", &["1", "2"]).await;
    // What the scan would remove, unite and correct.
    world.add_by_hand("12345", &["1"]).await;
    world.add_by_hand("7", &["3"]).await;
    let before = daemon.lines_with("Sync failed: the keys in Redis belong to another database").len();
    daemon.signal("HUP");
    daemon.wait_for_nth_line(before + 1, "Sync failed: the keys in Redis belong to another database").await;
    assert_eq!(world.outbox_length().await, 1);
    assert!(world.exists(world.keys.views(&PostId::parse("12345").unwrap())).await);
    assert_eq!(world.meta("7").await, [0, 2, 0]);
    assert_eq!(world.stored("7").await, 0);
    assert_eq!(owner(&world).await.as_deref(), Some("another ledger"));

    set_owner(&world, &own).await;
    outbox_becomes_empty(&world).await;
    becomes_ready(&client).await;
    daemon.signal("HUP");
    eventually("the scan does its work", SOON, async || {
        !world.exists(world.keys.views(&PostId::parse("12345").unwrap())).await && world.live("7").await == 3
    })
    .await;
    world.assert_views("7", 3).await;
}

#[tokio::test]
async fn whoever_claims_the_keys_has_them_and_the_other_one_stands_still() {
    let (production, copy) = twins().await;
    let (_daemon, client) = hasty_daemon(&production).await;
    let own = owner(&production).await.unwrap();
    let (code, output) = ended(copy.command("claim")).await;
    assert_eq!(code, Some(0), "{output}");
    let claimed = owner(&copy).await.unwrap();
    assert!(output.contains(&format!("views:owner was {own:?}, and is {claimed:?} now")), "{output}");
    assert_ne!(own, claimed);
    becomes_not_ready(&client).await;
    production.record("7", &["1"]).await;

    // The copy may work now. But the view is production's, so production takes the keys back before that.
    let (code, output) = ended(production.command("claim")).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains(&format!("views:owner was {claimed:?}, and is {own:?} now")), "{output}");
    outbox_becomes_empty(&production).await;
    becomes_ready(&client).await;
    production.assert_views("7", 1).await;

    let (code, output) = ended(production.command("claim")).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains(&format!("views:owner was {own:?} before: nothing to do")), "{output}");
}

#[tokio::test]
async fn a_claim_works_before_anybody_has_the_keys_and_whatever_they_hold() {
    let world = World::new().await;
    let (code, output) = ended(world.command("claim").env("REDIS_PREFIX", "shop:")).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("shop:views:owner was not there, and is "), "{output}");
    assert_eq!(owner(&world).await, None);
    let () = world.redis.sadd(KEY, "a member").await.unwrap();
    let (code, output) = ended(world.command("sync")).await;
    assert_eq!(code, Some(78), "{output}");
    let (code, output) = ended(world.command("claim")).await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(owner(&world).await, world.redis.get(Keys::with_prefix("shop:").unwrap().owner()).await.unwrap());
    assert_eq!(ended(world.command("sync")).await.0, Some(0));
}

#[tokio::test]
async fn a_claim_needs_both_stores() {
    let world = World::new().await;
    world.sql.batch_execute("drop table post_views").await.unwrap();
    let (code, output) = ended(world.command("claim")).await;
    assert!(code == Some(78) && output.contains("run `view-syncd migrate`"), "{output}");
    assert_eq!(owner(&world).await, None);
}

#[tokio::test]
async fn a_redis_that_has_lost_everything_is_taken_anew() {
    let world = World::new().await;
    world.post("7").await;
    let (_daemon, client) = hasty_daemon(&world).await;
    let own = owner(&world).await;
    assert!(own.is_some());
    let () = world.redis.flushall(false).await.unwrap();
    eventually("the keys are owned", SOON, async || owner(&world).await == own).await;
    world.record("7", &["1"]).await;
    outbox_becomes_empty(&world).await;
    becomes_ready(&client).await;
}

#[tokio::test]
async fn two_posts_tables_of_one_database_are_two_owners() {
    let world = World::new().await;
    let (daemon, _) = hasty_daemon(&world).await;
    let articles = PostsTable { table: "blog.articles".to_owned(), ..PostsTable::with_ids(IdType::Bigint) };
    articles.create(&world.sql).await;
    let program = |command| world.program().env("POSTS_TABLE", "blog.articles").arg(command);
    assert_eq!(ended(program("migrate")).await.0, Some(0));
    let (code, output) = ended(program("sync")).await;
    assert_eq!(code, Some(78), "{output}");
    assert!(
        output.contains("/blog.articles/blog.post_views\"") && output.contains("/public.posts/public.post_views\""),
        "{output}"
    );
    assert_eq!(ended(program("sync").env("REDIS_PREFIX", "blog:")).await.0, Some(0));
    assert!(daemon.is_running());
}

#[tokio::test]
async fn a_standby_is_not_ready_either_and_a_stop_does_not_wait_for_the_keys() {
    let world = World::new().await;
    let (leader, _) = hasty_daemon(&world).await;
    leader.wait_for_line("this view-syncd leads").await;
    let standby = world.daemon().start();
    standby.wait_for_line("another view-syncd leads").await;
    let client = Client::new(standby.wait_for_listening("admin").await);
    becomes_ready(&client).await;
    set_owner(&world, "another ledger").await;
    becomes_not_ready(&client).await;
    world.record("7", &["1"]).await;
    let started = Instant::now();
    leader.signal("TERM");
    assert_eq!(leader.wait_exit().await.code(), Some(1));
    assert!(started.elapsed() < Duration::from_secs(30), "it waited for what may never come");
    assert_eq!(leader.lines_with("nothing is drained, and everything stays in Redis").len(), 1, "{:?}", leader.output());
    assert_eq!(world.outbox_length().await, 1);
}

#[tokio::test]
async fn a_step_that_finds_another_owner_changes_nothing() {
    let world = World::new().await;
    world.post("7").await;
    let mut synchronizer = world.synchronizer(&[]).await;
    world.record("7", &["1"]).await;
    set_owner(&world, "another ledger").await;
    assert!(matches!(synchronizer.drain(Urgency::AtOnce).await, Err(Failure::Foreign(_))));
    assert!(matches!(synchronizer.scan().await, Err(Failure::Foreign(_))));
    assert!(matches!(synchronizer.cycle().await, Err(Failure::Foreign(_))));
    assert_eq!((world.outbox_length().await, world.stored("7").await), (1, 0));
    let () = world.redis.del(KEY).await.unwrap();
    synchronizer.cycle().await.unwrap();
    world.assert_views("7", 1).await;
}

#[tokio::test]
async fn an_address_that_leads_to_another_server_loses_no_views() {
    let (one, other) = tokio::join!(PostgresServer::start(), PostgresServer::start());
    let world = World::with_stores(RedisServer::start().await, one.database().await, PostsTable::with_ids(IdType::Bigint)).await;
    world.post("7").await;
    // The other server has a database of this name, with the tables and no posts.
    let name = world.database.name();
    other.client().await.batch_execute(&format!("create database {name}")).await.unwrap();
    let url = format!("{}{name}", other.url().trim_end_matches("postgres"));
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    world.posts.create(&client).await;
    assert_eq!(ended(world.command("migrate").env("DATABASE_URL", &url)).await.0, Some(0));

    let proxy = Proxy::to_port(one.port()).await;
    let url = format!("postgres://postgres@{}/{name}", proxy.address());
    let mut synchronizer = synchronizer(&world.server.url(), &url, &[]).await;
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    world.record("7", &["1"]).await;
    proxy.break_networking().await;
    proxy.redirect(other.port());
    proxy.restore().await;
    let failure = eventually_foreign(&mut synchronizer).await;
    assert!(failure.to_string().contains("views:owner"), "{failure}");
    assert_eq!((world.outbox_length().await, world.dead().await.len()), (1, 0));
    assert!(matches!(synchronizer.scan().await, Err(Failure::Foreign(_))));
    assert!(world.exists(world.keys.views(&PostId::parse("7").unwrap())).await);

    proxy.break_networking().await;
    proxy.redirect(one.port());
    proxy.restore().await;
    for _ in 0..100 {
        if world.outbox_length().await > 0 {
            // The first steps may meet the connection that is gone.
            let _ = synchronizer.drain(Urgency::AtOnce).await;
        }
    }
    world.assert_views("7", 1).await;
}

/// Takes steps of the drain until one finds that the keys are another one's.
async fn eventually_foreign(synchronizer: &mut Synchronizer) -> Failure {
    for _ in 0..100 {
        match synchronizer.drain(Urgency::AtOnce).await {
            Err(failure @ Failure::Foreign(_)) => return failure,
            Err(_) => {}
            Ok(drained) => panic!("another database's views were drained: {drained:?}"),
        }
    }
    panic!("nobody has noticed the other server");
}

#[tokio::test]
async fn a_full_redis_is_emptied_although_the_owner_s_name_has_no_room() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1", "2"]).await;
    let config = CustomCommand::new_static("CONFIG", ClusterHash::FirstKey, false);
    let () = world.redis.custom(config.clone(), vec!["SET", "maxmemory", "1"]).await.unwrap();
    let mut synchronizer = world.synchronizer(&[]).await;
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    assert_eq!((world.outbox_length().await, world.stored("7").await), (0, 2));
    assert_eq!(owner(&world).await, None);
    let () = world.redis.custom(config, vec!["SET", "maxmemory", "0"]).await.unwrap();
    synchronizer.drain(Urgency::AtOnce).await.unwrap();
    assert!(owner(&world).await.is_some());
}

#[tokio::test]
async fn an_account_that_may_not_use_the_owner_s_key_is_told_so() {
    let rights = "user limited on >secret ~post:* ~{post:* ~views:outbox ~views:dead &* +@all";
    let server = RedisServer::start_with(&[rights.split_once(' ').unwrap()]).await;
    let url = server.url().replace("redis://", "redis://limited:secret@");
    let (database, _sql, _posts) = site::database(&server.url()).await;
    let daemon = site::view_syncd(&url, &database).env("JWT_SECRET", SECRET).start();
    assert_eq!(daemon.wait_exit().await.code(), Some(78), "{:?}", daemon.output());
    daemon.wait_for_line("Redis does not let this account use views:owner: allow it GET and SET of that key").await;
    assert_eq!(server.client().await.xlen::<i64, _>("views:outbox").await.unwrap(), 0);
}
