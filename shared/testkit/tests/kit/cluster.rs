//! The Redis Cluster: slots that move, primaries that die, passwords and TLS.

use std::collections::BTreeSet;
use std::time::Duration;

use fred::prelude::{KeysInterface, SetsInterface};
use testkit::cluster::{Cluster, FAILOVER_DEADLINE, Node, Stop, slot_of};
use testkit::tls::Certificates;
use testkit::{SOON, eventually};

/// A set and a stream of one slot.
const SET: &str = "{tag}:set";
const STREAM: &str = "{tag}:stream";

async fn filled() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.command(&["SADD", SET, "anna", "ben"]).await;
    cluster.command(&["XADD", STREAM, "1-0", "post", "anna"]).await;
    cluster
}

async fn members(cluster: &Cluster) -> BTreeSet<String> {
    cluster.command(&["SMEMBERS", SET]).await.convert().unwrap()
}

fn set(members: &[&str]) -> BTreeSet<String> {
    members.iter().map(|member| (*member).to_owned()).collect()
}

/// The owner of the keys' slot, and another primary.
async fn owner_and_other(cluster: &Cluster) -> (&Node, &Node) {
    let owner = cluster.primary_of_key(SET).await;
    let other = cluster.primaries().await.into_iter().find(|node| node.id() != owner.id()).unwrap();
    (owner, other)
}

#[tokio::test]
async fn a_slot_moves_with_its_keys_and_back() {
    let cluster = filled().await;
    let slot = slot_of(SET);
    let (owner, other) = owner_and_other(&cluster).await;
    assert_eq!(cluster.move_slot(slot, other).await, 2);
    assert!(owner.command(&["SMEMBERS", SET]).await.unwrap_err().starts_with("MOVED"));
    assert_eq!(cluster.primary_of(slot).await.id(), other.id());
    assert_eq!(members(&cluster).await, set(&["anna", "ben"]));
    assert_eq!(cluster.client().await.scard::<u64, _>(SET).await.unwrap(), 2);
    assert!(cluster.try_move_slot(slot, other, Stop::Never).await.is_err(), "it is there already");

    cluster.move_slot(slot, owner).await;
    cluster.until_ok().await;
    assert_eq!(owner.keys_in(slot).await.len(), 2);
}

#[tokio::test]
async fn a_slot_that_was_left_half_moved_is_served_by_both_and_mended() {
    let cluster = filled().await;
    let slot = slot_of(SET);
    let (owner, other) = owner_and_other(&cluster).await;
    assert_eq!(cluster.half_move_slot(slot, other, 1).await, 1);
    assert_eq!([owner.keys_in(slot).await.len(), other.keys_in(slot).await.len()], [1, 1]);
    // One of the two is answered with ASK, as is whoever writes a new key.
    assert_eq!(members(&cluster).await, set(&["anna", "ben"]));
    assert_eq!(cluster.command(&["XLEN", STREAM]).await.as_u64(), Some(1));
    cluster.command(&["SET", "{tag}:new", "value"]).await;
    assert_eq!(other.keys_in(slot).await.len(), 2);

    assert_eq!(cluster.mend().await, 1);
    assert_eq!(cluster.primary_of(slot).await.id(), other.id());
    assert_eq!([owner.keys_in(slot).await.len(), other.keys_in(slot).await.len()], [0, 3]);
    assert_eq!(cluster.mend().await, 0);
}

#[tokio::test]
async fn what_a_failover_in_the_midst_of_a_move_has_hidden_is_united_with_what_is_new() {
    let cluster = filled().await;
    let slot = slot_of(SET);
    let (owner, other) = owner_and_other(&cluster).await;
    assert_eq!(cluster.half_move_slot(slot, other, 2).await, 2);
    let replica = cluster.replicas_of(owner).await[0];
    cluster.fail_over(replica).await;
    eventually("the old owner knows", SOON, async || !owner.is_primary().await.unwrap()).await;
    // It does not know where the keys are.
    assert_eq!(members(&cluster).await, set(&[]));
    cluster.command(&["SADD", SET, "carl"]).await;
    cluster.command(&["XADD", STREAM, "2-0", "post", "carl"]).await;

    assert_eq!(cluster.mend().await, 1);
    assert_eq!(members(&cluster).await, set(&["anna", "ben", "carl"]));
    assert_eq!(cluster.command(&["XLEN", STREAM]).await.as_u64(), Some(2));
    cluster.until_ok().await;
}

#[tokio::test]
async fn the_replica_takes_the_place_of_a_dead_primary_which_comes_back_as_a_replica() {
    let cluster = filled().await;
    let (owner, _) = owner_and_other(&cluster).await;
    let replica = cluster.replicas_of(owner).await[0];
    eventually("the replica has it", SOON, async || replica.keys_in(slot_of(SET)).await.len() == 2).await;
    cluster.kill(owner).await;
    eventually("the replica is a primary", FAILOVER_DEADLINE, async || replica.is_primary().await.unwrap()).await;
    assert_eq!(members(&cluster).await, set(&["anna", "ben"]));

    cluster.restart(owner).await;
    eventually("it is a replica", SOON, async || owner.is_in_step().await).await;
    cluster.until_ok().await;
    cluster.pause(replica);
    cluster.resume(replica);
    cluster.fail_over_by_force(owner).await;
    assert_eq!(cluster.primary_of_key(SET).await.id(), owner.id());
    assert_eq!(members(&cluster).await, set(&["anna", "ben"]));
}

#[tokio::test]
async fn a_password_and_tls_are_in_the_url_and_between_the_nodes() {
    let certificates = Certificates::new();
    let cluster = Cluster::builder().primaries(2).replicas(1).password("sesame").tls(&certificates).start().await;
    assert!(cluster.url().starts_with("rediss-cluster://default:sesame@127.0.0.1:"), "{}", cluster.url());
    let client = cluster.client().await;
    let () = client.set("key", "value", None, None, false).await.unwrap();
    cluster.move_slot(slot_of("key"), cluster.node(usize::from(slot_of("key") < 8192))).await;
    assert_eq!(client.get::<String, _>("key").await.unwrap(), "value");

    let mut cli = std::process::Command::new("redis-cli");
    let address = cluster.addresses()[0];
    cli.args(["-u", &format!("rediss://default:sesame@{address}"), "-c", "--cacert"])
        .arg(certificates.ca_file())
        .args(["get", "key"]);
    let output = cli.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "value", "{output:?}");
}

#[tokio::test]
async fn one_primary_alone_has_all_slots() {
    let cluster = Cluster::builder().primaries(1).replicas(0).node_timeout(Duration::from_secs(5)).start().await;
    cluster.command(&["SET", "key", "value"]).await;
    assert_eq!(cluster.nodes().len(), 1);
    assert_eq!(cluster.client().await.get::<String, _>("key").await.unwrap(), "value");
}

#[tokio::test]
async fn a_slot_that_nobody_has_and_a_primary_too_many_are_mended() {
    let cluster = Cluster::builder().primaries(2).start().await;
    for node in cluster.nodes() {
        node.command(&["CLUSTER", "DELSLOTS", "0"]).await.unwrap();
    }
    assert!(cluster.owner_of(0).await.is_none());
    assert_eq!(cluster.mend().await, 1);
    assert!(cluster.owner_of(0).await.is_some());

    // As a primary that was replaced, and keeps a slot.
    let [primary, other, replaced] = [0, 1, 2].map(|place| cluster.node(place));
    replaced.command(&["CLUSTER", "RESET"]).await.unwrap();
    let [port, bus] = [replaced.server().port(), replaced.server().cluster_port()].map(|port| port.to_string());
    primary.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await.unwrap();
    let knows = async |node: &Node, known: &Node| {
        let members = node.members().await.unwrap();
        members.iter().any(|member| member.id == known.id() && member.is_primary())
    };
    for (node, known) in [(other, replaced), (replaced, primary), (replaced, other)] {
        eventually("the nodes know each other", SOON, async || knows(node, known).await).await;
    }
    cluster.move_slot(0, replaced).await;
    assert_eq!(cluster.mend().await, 0);
    eventually("it is a replica", SOON, async || replaced.is_in_step().await).await;
    cluster.until_ok().await;
}
