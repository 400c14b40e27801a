//! The cluster of the compose file: real nodes with its options, joined by its script, and HAProxy with its addresses.

use testkit::load_balancer::Kind;
use testkit::redis::RedisServer;
use tokio::process::Command;

use super::compose;
use super::subject::{Subject, holds};
use crate::repository;
use crate::shell::{output, succeeds};
use crate::stores::{random_word, values_of};

const SCRIPT: &str = "deploy/docker/form-cluster";
const ADDRESSES: &str = "deploy/docker/haproxy.sed";
/// How many nodes the file has.
const NODES: usize = 6;
const SLOTS_OF_A_PARTITION: u32 = 256;

pub(super) async fn check(subject: &mut Subject) {
    subject.report.headline(SCRIPT);
    let Ok(facts) = compose::facts(compose::CLUSTER).await else { return };
    let options: Vec<&str> =
        facts.lines().filter_map(|line| line.strip_prefix("redis ")?.split_once(' ')).map(|(_, rest)| rest).collect();
    subject.report.check("the nodes of the cluster", NODES, options.len());
    let password = random_word();
    let mut nodes = Vec::new();
    for options in options {
        nodes.push(start(options, &password).await);
    }
    let addresses: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}@{}", node.port(), node.cluster_port())).collect();
    let form = || {
        let mut command = Command::new(repository::path(SCRIPT));
        command.env("REDISCLI_AUTH", &password).arg("1").args(&addresses);
        command
    };
    let formed = succeeds(&mut form()).await;
    let is_formed = formed.is_ok();
    subject.report.holds("it makes a cluster of them", formed);
    if is_formed {
        let ranges = ranges(&nodes[0]).await;
        subject.report.check("ranges of slots", 3, ranges.len());
        let whole =
            ranges.iter().all(|(first, last)| first % SLOTS_OF_A_PARTITION == 0 && (last + 1) % SLOTS_OF_A_PARTITION == 0);
        subject.report.holds("each begins and ends with a partition", holds(whole, || format!("{ranges:?}")));
        let again = String::from_utf8_lossy(&output(&mut form()).await.stdout).into_owned();
        subject.report.check("it changes nothing of a cluster", "form-cluster: the cluster is there", again.trim());
    } else {
        subject.report.show_logs([("Redis".to_owned(), nodes[0].log())]);
    }

    subject.report.headline(ADDRESSES);
    let mut sed = Command::new("sed");
    let changed = output(sed.arg("-f").arg(repository::path(ADDRESSES)).arg(repository::path(Kind::HaProxy.sample()))).await;
    let changed = String::from_utf8_lossy(&changed.stdout).into_owned();
    let servers: Vec<&str> = changed.lines().filter(|line| line.starts_with("    server ")).collect();
    let ours = servers.iter().filter(|line| facts.lines().any(|fact| is_address_of(fact, line))).count();
    subject.report.check("servers of HAProxy with an address of the compose file", servers.len(), ours);
    let accepted = succeeds(&mut Command::from(Kind::HaProxy.check(&changed, &subject.folder))).await;
    subject.report.holds("HAProxy takes its sample with these addresses", accepted);
}

/// Returns whether a fact is the address of a service, and a line of HAProxy's has it with the service's name:
/// `server ingest1 172.30.17.21:3001` is view-ingest-1.
fn is_address_of(fact: &str, line: &str) -> bool {
    let (fact, line): (Vec<&str>, Vec<&str>) = (fact.split_whitespace().collect(), line.split_whitespace().collect());
    let (["address", service, address], ["server", name, place, ..]) = (&fact[..], &line[..]) else { return false };
    service.replace("view-", "").replace('-', "") == **name && place.split_once(':').is_some_and(|(host, _)| host == *address)
}

async fn start(options: &str, password: &str) -> RedisServer {
    let words: Vec<&str> = options.split_whitespace().collect();
    let mut settings = vec![("masterauth", password)];
    let mut rest = words.as_slice();
    while let [option, value, further @ ..] = rest {
        let name = option.trim_start_matches("--");
        // The container's own address is found by a command.
        if name == "cluster-announce-ip" {
            settings.push((name, "127.0.0.1"));
            break;
        }
        settings.push((name, value));
        rest = further;
    }
    RedisServer::builder().settings(&settings).password(password).start().await
}

/// Returns the ranges of slots that primaries have.
async fn ranges(node: &RedisServer) -> Vec<(u32, u32)> {
    let text = values_of(&node.client().await, &["CLUSTER", "NODES"]).await.concat();
    let primaries = text.lines().filter(|line| line.contains("master"));
    let range = |word: &str| {
        let (first, last) = word.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    primaries.flat_map(|line| line.split_whitespace().skip(8).filter_map(range).collect::<Vec<_>>()).collect()
}
