//! The primary of a replicated Redis is replaced under load: nobody restarts anything, and what was acknowledged is stored.

use std::collections::HashSet;

use fred::{
    interfaces::{ClientLike, SetsInterface, StreamsInterface},
    types::{ClusterHash, CustomCommand},
};
use testkit::{
    SOON, eventually,
    http::Client,
    posts::ledger_viewers,
    proxy::Proxy,
    redis::RedisServer,
    sentinel::{FAILOVER_DEADLINE, ReplicatedRedis},
    traffic::{self, Traffic, View},
};
use view_syncd::drain::{Drained, Urgency};
use views_core::{ids::PostId, keys::Keys};

use crate::{
    site::{Pair, Site, database, disconnect},
    support::{SECRET, synchronizer},
};

const POSTS: u64 = 20;
const CLIENTS: usize = 8;
/// Enough to meet both programs in the middle of something.
const VIEWS: usize = 500;
/// A viewer that no traffic gets to.
const LATE_VIEWER: u64 = 1_000_000;

/// A site under load, before the primary is replaced.
async fn under_load(settings: &[(&str, &str)]) -> (Site, Traffic) {
    let site = Site::start(ReplicatedRedis::builder().settings(settings).start().await).await;
    for post in posts() {
        site.post(&post).await;
    }
    let traffic = Traffic::start(site.address, SECRET, posts(), CLIENTS);
    traffic.goes_on(VIEWS).await;
    (site, traffic)
}

fn posts() -> impl Iterator<Item = String> {
    (1..=POSTS).map(|post| post.to_string())
}

fn pair(view: &View) -> Pair {
    (view.post.clone(), view.viewer)
}

/// What must hold after the old primary has been replaced, while views go on. It has taken no view of `first` or a
/// later viewer.
async fn recovers(site: &Site, traffic: Traffic, first: u64) {
    site.works_with_redis().await;
    traffic.goes_on(VIEWS).await;
    let views = traffic.stop().await;
    site.settles().await;
    let ledger = site.ledger().await;
    let redis = members(site.redis.primary().await).await;
    let attempted: HashSet<Pair> = views.iter().map(pair).collect();
    assert!(ledger.is_subset(&attempted), "somebody is in the ledger who has viewed nothing");
    let mut lost = 0;
    for view in views.iter().filter(|view| view.is_acknowledged() && !ledger.contains(&pair(view))) {
        // Replication is asynchronous: a view that only the old primary has had is lost with it. No other one is.
        assert!(!redis.contains(&pair(view)), "the new primary calls a viewer known who is not in the ledger: {view:?}");
        assert!(view.viewer < first, "a view was lost that the old primary cannot have taken: {view:?}");
        lost += 1;
    }
    println!("{} views, {} in the ledger, {lost} lost with the old primary", views.len(), ledger.len());

    // Whoever had no answer, or one that the old primary took with it, views again, and then nobody is missing.
    let client = Client::new(site.address);
    for view in views.iter().filter(|view| !ledger.contains(&pair(view))) {
        let again = traffic::view(&client, SECRET, &view.post, view.viewer).await;
        assert!(again.is_acknowledged(), "{again:?}");
    }
    // And what is new goes into the new primary.
    let primary = site.redis.primary().await.client().await;
    for post in posts() {
        let view = traffic::view(&client, SECRET, &post, LATE_VIEWER).await;
        assert!(view.is_acknowledged(), "{view:?}");
        let set = Keys::default().views(&PostId::parse(&post).unwrap());
        eventually("Redis has the view", SOON, async || primary.sismember(&set, LATE_VIEWER).await.unwrap_or(false)).await;
    }
    site.settles().await;
    let expected: HashSet<Pair> = attempted.into_iter().chain(posts().map(|post| (post, LATE_VIEWER))).collect();
    assert!(site.ledger().await == expected, "the ledger is not what was viewed");
    for post in posts() {
        site.counts_agree(&post).await;
    }
    assert!(site.ingest.is_running() && site.syncd.is_running());
}

/// All viewers of all posts that a server knows.
async fn members(server: &RedisServer) -> HashSet<Pair> {
    let client = server.client().await;
    let mut pairs = HashSet::new();
    for post in posts() {
        let viewers: Vec<u64> = client.smembers(Keys::default().views(&PostId::parse(&post).unwrap())).await.unwrap();
        pairs.extend(viewers.into_iter().map(|viewer| (post.clone(), viewer)));
    }
    pairs
}

#[tokio::test]
async fn a_primary_that_is_killed() {
    let (site, traffic) = under_load(&[]).await;
    let old = site.redis.primary().await;
    old.kill().await;
    let first = traffic.next_viewer();
    site.redis.primary_after(old).await;
    recovers(&site, traffic, first).await;
}

#[tokio::test]
async fn a_primary_that_is_demoted_alive() {
    let (site, traffic) = under_load(&[]).await;
    let old = site.redis.primary().await;
    site.redis.fail_over().await;
    site.redis.becomes_replica(old).await;
    let first = traffic.next_viewer();
    recovers(&site, traffic, first).await;
}

#[tokio::test]
async fn a_primary_that_hangs_and_comes_back_believing_that_it_is_one() {
    let (site, traffic) = under_load(&[]).await;
    let old = site.redis.primary().await;
    old.pause();
    let first = traffic.next_viewer();
    site.redis.primary_after(old).await;
    site.works_with_redis().await;
    old.resume();
    site.redis.becomes_replica(old).await;
    recovers(&site, traffic, first).await;
}

#[tokio::test]
async fn one_failover_after_the_other() {
    let (site, traffic) = under_load(&[]).await;
    let old = site.redis.primary().await;
    let new = site.redis.fail_over().await;
    site.redis.becomes_replica(old).await;
    traffic.goes_on(VIEWS).await;
    new.kill().await;
    let first = traffic.next_viewer();
    site.redis.primary_after(new).await;
    recovers(&site, traffic, first).await;
}

/// What docs/redis-ha.md recommends.
const NEVER_ALONE: [(&str, &str); 2] = [("min-replicas-to-write", "1"), ("min-replicas-max-lag", "3")];

#[tokio::test]
async fn a_primary_that_must_not_write_alone_loses_its_replica_for_a_while() {
    let (site, traffic) = under_load(&NEVER_ALONE).await;
    let [_, replica] = site.redis.servers();
    replica.kill().await;
    site.writes_past_redis().await;
    traffic.goes_on(VIEWS).await;
    replica.restart().await;
    site.redis.becomes_replica(replica).await;
    // Nothing is ever lost here, whoever viewed.
    recovers(&site, traffic, 0).await;
}

#[tokio::test]
async fn a_primary_that_must_not_write_alone_is_demoted_alive() {
    let (site, traffic) = under_load(&NEVER_ALONE).await;
    let old = site.redis.primary().await;
    site.redis.fail_over().await;
    site.redis.becomes_replica(old).await;
    let first = traffic.next_viewer();
    recovers(&site, traffic, first).await;
}

/// Entries get their names from the clock, so when the clocks differ, a new primary may give one that the old primary
/// has given as well.
#[tokio::test]
async fn an_entry_is_not_taken_for_the_old_primarys_entry_of_the_same_id() {
    let redis = ReplicatedRedis::start().await;
    let (database, sql, posts) = database(&redis.url()).await;
    posts.insert_post(&sql, "7", "999").await;
    let mut synchronizer = synchronizer(&redis.url(), &database.url(), &["--linger", "1h"]).await;
    let old = redis.primary().await;
    let [_, replica] = redis.servers();
    let add = async |server: &RedisServer, viewer: &str| {
        let _: String =
            server.client().await.xadd(Keys::default().outbox(), false, None, "5-1", vec![("7", viewer)]).await.unwrap();
    };
    // The replica never hears of the first entry: it finds its connection closed.
    replica.pause();
    disconnect(old, "replica").await;
    add(old, "1").await;
    assert!(matches!(synchronizer.drain(Urgency::Patient).await.unwrap(), Drained::Waiting(_)));
    old.kill().await;
    replica.resume();
    add(redis.primary_after(old).await, "2").await;

    let empty = async { while synchronizer.drain(Urgency::AtOnce).await.ok() != Some(Drained::Idle) {} };
    tokio::time::timeout(FAILOVER_DEADLINE, empty).await.unwrap();
    assert!(ledger_viewers(&sql, "7").await.contains(&"2".to_owned()), "the new primary's view was acknowledged unseen");
}

/// A name or a proxy leads to another primary, and the connections to the old one, which its replicas have left, stay open.
#[tokio::test]
async fn a_primary_that_its_replicas_have_left_is_left_for_the_new_one() {
    let [old, new] = [RedisServer::start().await, RedisServer::start().await];
    let proxy = Proxy::to_port(old.port()).await;
    let url = format!("redis://{}", proxy.address());
    let (database, sql, posts) = database(&old.url()).await;
    posts.insert_post(&sql, "7", "999").await;
    let mut synchronizer = synchronizer(&url, &database.url(), &[]).await;
    assert_eq!(synchronizer.drain(Urgency::AtOnce).await.unwrap(), Drained::Idle);
    for (server, viewer) in [(&old, "1"), (&new, "2")] {
        let _: String =
            server.client().await.xadd(Keys::default().outbox(), false, None, "*", vec![("7", viewer)]).await.unwrap();
    }
    let alone = CustomCommand::new_static("CONFIG", ClusterHash::FirstKey, false);
    let () = old.client().await.custom(alone, vec!["SET", "min-replicas-to-write", "1"]).await.unwrap();
    proxy.redirect(new.port());

    let empty = async { while synchronizer.drain(Urgency::AtOnce).await.ok() != Some(Drained::Idle) {} };
    tokio::time::timeout(FAILOVER_DEADLINE, empty).await.unwrap();
    let stored = ledger_viewers(&sql, "7").await;
    assert!(["1", "2"].iter().all(|viewer| stored.contains(&(*viewer).to_owned())), "{stored:?}");
}
