//! Pipelines in a Redis Cluster, on a real one: where commands go, and what becomes of those whose slot is on its way, or
//! whose node is away.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::time::Duration;

use fred::types::config::Config;
use futures_util::FutureExt;
use testkit::{
    SOON,
    cluster::{Cluster, Node, slot_of},
    eventually,
    tls::Certificates,
};
use views_core::keys::Keys;
use views_redis::{
    Code, Epoch, NodeId, Redis, RedisError, Session,
    config::RedisSettings,
    resp::{Commands, Replies, Reply},
};

const TIMEOUT: Duration = Duration::from_secs(1);

struct Setup {
    cluster: Cluster,
    redis: Redis,
    session: Session,
    commands: Commands,
    replies: Replies,
}

impl Setup {
    async fn new() -> Self {
        let cluster = Cluster::start().await;
        let redis = connect(Config::from_url(&cluster.url()).unwrap()).await;
        let session = Session::new(&redis, TIMEOUT, Epoch::default());
        Self { cluster, redis, session, commands: Commands::default(), replies: Replies::default() }
    }

    fn add(&mut self, words: &[&str]) {
        self.commands.command(words[0], words.len() - 1);
        for word in &words[1..] {
            self.commands.text(word);
        }
    }

    /// Sends a command alone. Returns its reply, in words.
    async fn send(&mut self, words: &[&str]) -> Result<String, RedisError> {
        self.commands.clear();
        self.add(words);
        self.session.exchange(&self.commands, &mut self.replies).await?;
        Ok(said(self.replies.iter().next().unwrap()))
    }

    /// Sends a command over a certain connection.
    async fn send_on(&mut self, number: u64, words: &[&str]) -> Result<String, RedisError> {
        self.commands.clear();
        self.add(words);
        self.session.exchange_on(number, &self.commands, &mut self.replies).await?;
        Ok(said(self.replies.iter().next().unwrap()))
    }

    /// Returns a key of a slot that the node has.
    async fn key_of(&self, node: &Node, name: &str) -> String {
        for number in 0.. {
            let key = format!("{name}{number}");
            if self.cluster.primary_of_key(&key).await.id() == node.id() {
                return key;
            }
        }
        unreachable!()
    }

    /// Returns a primary that does not have the slot of a key.
    async fn other_than(&self, key: &str) -> &Node {
        let owner = self.cluster.primary_of_key(key).await;
        self.cluster.primaries().await.into_iter().find(|node| node.id() != owner.id()).unwrap()
    }
}

async fn connect(config: Config) -> Redis {
    let settings = RedisSettings { config, keys: Keys::default().in_cluster(), allow_eviction: false };
    let redis = Redis::new(&settings, TIMEOUT).unwrap();
    redis.connect_within(SOON).await.unwrap();
    redis
}

fn said(reply: Reply<'_>) -> String {
    match reply {
        Reply::Integer(number) => number.to_string(),
        Reply::Text(text) => text.to_owned(),
        Reply::Error(error) => format!("{:?}", error.code),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn each_command_goes_to_its_node_and_the_replies_keep_their_order() {
    let mut setup = Setup::new().await;
    assert_eq!(setup.redis.nodes().len(), 3);
    for number in 0..300 {
        setup.add(&["SET", &format!("k{number}"), &number.to_string()]);
        setup.add(&["GET", &format!("k{number}")]);
        if number % 100 == 0 {
            setup.add(&["PING"]);
        }
    }
    setup.session.exchange(&setup.commands, &mut setup.replies).await.unwrap();
    let found: Vec<String> = setup.replies.iter().map(said).collect();
    let expected: Vec<String> = (0..300)
        .flat_map(|number| {
            let ping = (number % 100 == 0).then(|| "PONG".to_owned());
            ["OK".to_owned(), number.to_string()].into_iter().chain(ping)
        })
        .collect();
    assert_eq!(found, expected);
    for node in setup.redis.nodes() {
        setup.commands.clear();
        setup.add(&["CLUSTER", "MYID"]);
        setup.session.exchange_at(node, &setup.commands, &mut setup.replies).await.unwrap();
        let id = said(setup.replies.iter().next().unwrap());
        let address = setup.redis.address(node).unwrap();
        assert!(setup.cluster.nodes().iter().any(|node| node.id() == id && node.address().to_string() == address));
    }
}

#[tokio::test]
async fn a_slot_is_followed_to_its_new_node_and_back_for_those_commands_alone() {
    let mut setup = Setup::new().await;
    assert_eq!(setup.send(&["SADD", "moves", "a"]).await.unwrap(), "1");
    let slot = slot_of("moves");
    let to = setup.other_than("moves").await.address();
    let node = setup.cluster.nodes().iter().find(|node| node.address() == to).unwrap();
    setup.cluster.move_slot(slot, node).await;
    setup.commands.clear();
    for number in 0..20 {
        setup.add(&["SADD", "moves", &number.to_string()]);
        setup.add(&["INCR", &format!("stays{number}")]);
    }
    setup.session.exchange(&setup.commands, &mut setup.replies).await.unwrap();
    assert!(setup.replies.iter().all(|reply| reply == Reply::Integer(1)), "{:?}", setup.replies.iter().collect::<Vec<_>>());
    let owner = setup.redis.node_of_slot(slot).unwrap();
    assert_eq!(setup.redis.address(owner).unwrap(), to.to_string());
    // Nothing was sent twice: each counter stands at one.
    assert_eq!(setup.send(&["SCARD", "moves"]).await.unwrap(), "21");
    assert_eq!(setup.send(&["GET", "stays7"]).await.unwrap(), "1");
}

#[tokio::test]
async fn a_key_is_found_wherever_it_is_while_its_slot_moves() {
    let mut setup = Setup::new().await;
    let (gone, left) = ("{tag}gone", "{tag}left");
    assert_eq!(setup.send(&["SADD", gone, "a"]).await.unwrap(), "1");
    let to = setup.other_than(gone).await.address();
    let node = setup.cluster.nodes().iter().find(|node| node.address() == to).unwrap();
    assert_eq!(setup.cluster.half_move_slot(slot_of(gone), node, usize::MAX).await, 1);
    // What is there is there, and what is new comes there, too.
    assert_eq!(setup.send(&["SMEMBERS", gone]).await.unwrap(), said_list(&["a"]));
    let number = setup.session.number();
    assert_eq!(setup.send(&["SADD", left, "b"]).await.unwrap(), "1");
    assert!(setup.redis.address(setup.redis.node_of_slot(slot_of(gone)).unwrap()).unwrap() != to.to_string());
    // What has been read over the connection to that node is removed over it.
    assert_eq!(setup.send_on(number, &["SREM", gone, "a"]).await.unwrap(), "1");
    assert_eq!(setup.cluster.mend().await, 1);
    assert_eq!(setup.send(&["SMEMBERS", left]).await.unwrap(), said_list(&["b"]));
}

#[tokio::test]
async fn what_was_read_over_a_connection_is_not_removed_over_another() {
    let mut setup = Setup::new().await;
    assert_eq!(setup.send(&["SADD", "moves", "a"]).await.unwrap(), "1");
    let (number, answered) = (setup.session.number(), setup.session.answered(0).unwrap());
    assert_eq!(setup.send_on(number, &["SADD", "moves", "b"]).await.unwrap(), "1");
    assert!(setup.session.would_answer(&answered));
    let to = setup.other_than("moves").await.address();
    let node = setup.cluster.nodes().iter().find(|node| node.address() == to).unwrap();
    setup.cluster.move_slot(slot_of("moves"), node).await;
    let refused = setup.send_on(number, &["SREM", "moves", "a"]).await;
    assert!(matches!(refused, Err(RedisError::OtherConnection)), "{refused:?}");
    assert_eq!(setup.send(&["SCARD", "moves"]).await.unwrap(), "2");
    assert_ne!(setup.session.number(), number);
    assert!(!setup.session.would_answer(&answered), "its slot is another node's");
    let answered = setup.session.answered(0).unwrap();
    assert!(setup.session.would_answer(&answered));
    assert_eq!(setup.session.answered(1), None);
}

#[tokio::test]
async fn a_slot_that_its_owner_has_forgotten_to_be_moving_is_read_by_asking() {
    let mut setup = Setup::new().await;
    assert_eq!(setup.send(&["SADD", "hidden", "a"]).await.unwrap(), "1");
    let slot = slot_of("hidden");
    let to = setup.other_than("hidden").await.address();
    let node = setup.cluster.nodes().iter().find(|node| node.address() == to).unwrap();
    setup.cluster.half_move_slot(slot, node, usize::MAX).await;
    // Its replica knows of no move. Were the old owner to come back, the node that has the key would know of no owner at
    // all, and answer nobody until the cluster is mended.
    setup.cluster.kill(setup.cluster.primary_of(slot).await).await;
    let asked = tokio::sync::Mutex::new(&mut setup);
    eventually("the owner is another one", SOON, || async {
        asked.lock().await.send(&["SCARD", "hidden"]).await.is_ok_and(|members| members == "0")
    })
    .await;
    let at = setup.redis.nodes().into_iter().find(|node| setup.redis.address(*node) == Some(to.to_string())).unwrap();
    setup.commands.clear();
    setup.add(&["SCARD", "hidden"]);
    setup.session.exchange_asking(at, &setup.commands, &mut setup.replies).await.unwrap();
    assert_eq!(setup.replies.iter().next(), Some(Reply::Integer(1)));
    let number = setup.session.number();
    assert_eq!(setup.send_on(number, &["SREM", "hidden", "a"]).await.unwrap(), "1");
}

#[tokio::test]
async fn where_two_nodes_send_a_command_to_each_other_neither_has_it() {
    let mut setup = Setup::new().await;
    assert_eq!(setup.send(&["SADD", "lost", "a"]).await.unwrap(), "1");
    let slot = slot_of("lost");
    let to = setup.other_than("lost").await.address();
    let node = setup.cluster.nodes().iter().find(|node| node.address() == to).unwrap();
    setup.cluster.half_move_slot(slot, node, usize::MAX).await;
    // The replica of the node that has the key by now knows of no move.
    let replica = setup.cluster.replicas_of(node).await.pop().unwrap();
    setup.cluster.fail_over(replica).await;
    let asked = tokio::sync::Mutex::new(&mut setup);
    eventually("nobody has it", SOON, || async {
        let result = asked.lock().await.send(&["SCARD", "lost"]).await;
        result.is_err_and(|error| error.code() == Some(Code::Away))
    })
    .await;
    assert_eq!(setup.session.answered(0), None);
}

#[tokio::test]
async fn a_node_that_is_away_costs_its_own_commands_until_its_replica_takes_over() {
    let mut setup = Setup::new().await;
    let primaries: Vec<_> = setup.cluster.primaries().await.iter().map(|node| node.address()).collect();
    let node = |address| setup.cluster.nodes().iter().find(|node| node.address() == address).unwrap();
    let (dead, well) = (node(primaries[0]), node(primaries[1]));
    let (lost, kept) = (setup.key_of(dead, "lost").await, setup.key_of(well, "kept").await);
    setup.cluster.kill(dead).await;
    setup.commands.clear();
    let both = [["SADD", &lost, "a"], ["SADD", &kept, "a"]];
    for words in &both {
        setup.commands.command(words[0], 2).text(words[1]).text(words[2]);
    }
    setup.session.exchange(&setup.commands, &mut setup.replies).await.unwrap();
    let found: Vec<Reply<'_>> = setup.replies.iter().collect();
    assert_eq!(found[0].error().map(|error| error.code), Some(Code::Away), "{found:?}");
    assert!(found[0].error().unwrap().text.contains(&primaries[0].to_string()), "{found:?}");
    assert_eq!(found[1], Reply::Integer(1));
    setup.commands.clear();
    setup.commands.command("SADD", 2).text(&lost).text("a");
    assert!(setup.session.exchange(&setup.commands, &mut setup.replies).await.is_err(), "no command has a reply of its own");
    setup.cluster.until_ok().await;
    let (session, commands, replies) = (&mut setup.session, &setup.commands, &mut setup.replies);
    let replies = tokio::sync::Mutex::new((session, replies));
    eventually("the replica takes it", SOON, || async {
        let (session, replies) = &mut *replies.lock().await;
        session.exchange(commands, replies).await.is_ok_and(|()| replies.iter().next() == Some(Reply::Integer(1)))
    })
    .await;
}

#[tokio::test]
async fn a_node_that_has_not_answered_in_time_is_waited_for_by_nobody_until_it_answers() {
    let setup = Setup::new().await;
    let node = setup.redis.nodes()[0];
    let address = setup.redis.address(node).unwrap();
    let hung = setup.cluster.nodes().iter().find(|one| one.address().to_string() == address).unwrap();
    // Another session has a connection to it.
    let (mut session, mut replies) = (Session::new(&setup.redis, TIMEOUT, Epoch::default()), Replies::default());
    let mut ping = Commands::default();
    ping.command("PING", 0);
    session.exchange_at(node, &ping, &mut replies).await.unwrap();
    let number = session.newest();
    setup.cluster.pause(hung);
    assert!(setup.redis.send_at(node, &["PING"]).await.is_err());
    // Each of these is an error before anything is waited for.
    for _ in 0..20 {
        assert!(setup.redis.send_at(node, &["PING"]).now_or_never().is_some_and(|answer| answer.is_err()));
    }
    assert!(session.exchange_at(node, &ping, &mut replies).now_or_never().is_some_and(|answer| answer.is_err()));
    assert!(session.exchange_on(number, &ping, &mut replies).now_or_never().is_some_and(|answer| answer.is_err()));
    setup.cluster.resume(hung);
    eventually("it answers", SOON, || async { setup.redis.send_at(node, &["PING"]).await }).await;
}

#[tokio::test]
async fn a_cluster_with_tls_and_a_password_is_found_by_any_of_its_nodes() {
    let certificates = Certificates::new();
    let cluster = Cluster::builder().tls(&certificates).password("secret").start().await;
    let mut url = cluster.url_of(&[cluster.node(5)]);
    url.push_str(&format!("?ssl_ca_certs={}", certificates.ca_file().display()));
    let redis = testkit_settings(&url).await;
    let mut session = Session::new(&redis, TIMEOUT, Epoch::default());
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for number in 0..50 {
        commands.command("INCR", 1).text(&format!("k{number}"));
    }
    session.exchange(&commands, &mut replies).await.unwrap();
    assert!(replies.iter().all(|reply| reply == Reply::Integer(1)));
    assert_eq!(redis.nodes().len(), 3);
    assert!(redis.address(NodeId::ONLY).is_some());
}

/// Connects as the programs do.
async fn testkit_settings(url: &str) -> Redis {
    use clap::Parser;
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        redis: views_redis::config::RedisArgs,
    }
    let mut problems = views_core::settings::Problems::default();
    let settings = Cli::parse_from(["test", "--redis-url", url]).redis.resolve(&mut problems);
    let redis = Redis::new(&problems.into_result(settings).unwrap(), TIMEOUT).unwrap();
    redis.connect_within(SOON).await.unwrap();
    redis
}

fn said_list(items: &[&str]) -> String {
    let mut bytes = format!("*{}\r\n", items.len());
    for item in items {
        bytes.push_str(&format!("${}\r\n{item}\r\n", item.len()));
    }
    let replies = Replies::decode(bytes.into_bytes(), 1).unwrap();
    said(replies.iter().next().unwrap())
}
