//! A Redis primary with a replica, and three sentinels that put the replica in its place when it has to be.

use std::time::Duration;

use fred::prelude::{Client, ClientLike};
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::time::timeout;

use crate::eventually;
use crate::redis::{RedisBuilder, RedisServer};

/// The name under which the sentinels know the primary.
pub const SERVICE: &str = "views";

/// A failover takes a second or two. On a busy machine an election may fail, and the next one begins seconds later.
pub const FAILOVER_DEADLINE: Duration = Duration::from_secs(120);

/// How long a primary has to be silent until a sentinel takes it for dead.
const DOWN_AFTER_MS: &str = "500";
/// Also how soon another failover may follow one that failed.
const FAILOVER_TIMEOUT_MS: &str = "3000";
const QUORUM: usize = 2;
/// Sentinels look around every few seconds; tests have less time. A busy machine's stalls are not taken for a broken clock.
const HASTE: [&str; 8] = ["INFO-PERIOD", "250", "PUBLISH-PERIOD", "250", "ASK-PERIOD", "250", "TILT-TRIGGER", "60000"];
/// A sentinel that does not answer within this time is dead or paused.
const PATIENCE: Duration = Duration::from_secs(2);

/// Two Redis servers, one of which is the primary, and three sentinels, all on free ports of 127.0.0.1. It belongs to
/// the runtime that it was started in; dropping it removes everything.
pub struct ReplicatedRedis {
    nodes: [Node; 2],
    sentinels: [Node; 3],
    password: Option<String>,
    sentinel_password: Option<String>,
}

struct Node {
    server: RedisServer,
    client: Client,
}

/// Settings of a [`ReplicatedRedis`] that is yet to start.
#[derive(Default)]
pub struct ReplicatedRedisBuilder {
    settings: Vec<(String, String)>,
    password: Option<String>,
    sentinel_password: Option<String>,
}

impl ReplicatedRedis {
    /// Starts all five and waits until the sentinels are able to fail over.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// For passwords and further settings.
    pub fn builder() -> ReplicatedRedisBuilder {
        ReplicatedRedisBuilder::default()
    }

    /// Returns the URL for clients, with the passwords that there are. It names all three sentinels.
    pub fn url(&self) -> String {
        self.url_of_service(SERVICE)
    }

    /// Returns the URL of a service that the sentinels may not know.
    pub fn url_of_service(&self, service: &str) -> String {
        let credentials = self.password.as_ref().map_or_else(String::new, |password| format!("default:{password}@"));
        let [first, second, third] = self.ports();
        let sentinel_password =
            self.sentinel_password.as_ref().map_or_else(String::new, |password| format!("&sentinelPassword={password}"));
        format!(
            "redis-sentinel://{credentials}127.0.0.1:{first}/0?node=127.0.0.1:{second}&node=127.0.0.1:{third}\
             &sentinelServiceName={service}{sentinel_password}"
        )
    }

    /// Both servers; the first is the one that was the primary at the start.
    pub fn servers(&self) -> [&RedisServer; 2] {
        self.nodes.each_ref().map(|node| &node.server)
    }

    /// Returns the three sentinels.
    pub fn sentinels(&self) -> [&RedisServer; 3] {
        self.sentinels.each_ref().map(|node| &node.server)
    }

    /// Returns the server that the sentinels call the primary, and that says so itself.
    pub async fn primary(&self) -> &RedisServer {
        let found = eventually("the sentinels agree on a primary that is one", FAILOVER_DEADLINE, || self.find_primary()).await;
        &self.nodes[found].server
    }

    /// Waits until another server than `old` is the primary, and returns it.
    pub async fn primary_after(&self, old: &RedisServer) -> &RedisServer {
        let old = old.port();
        let found = eventually("there is another primary", FAILOVER_DEADLINE, || async {
            self.find_primary().await.filter(|place| self.nodes[*place].server.port() != old)
        });
        &self.nodes[found.await].server
    }

    /// Waits until a server is a replica in step with its primary.
    pub async fn becomes_replica(&self, server: &RedisServer) {
        let node = self.nodes.iter().find(|node| node.server.port() == server.port()).expect("one of the two");
        eventually("it is a replica in step", FAILOVER_DEADLINE, || async {
            let role = ask(&node.client, "ROLE", &[]).await?;
            let words: Vec<String> = role.into_array().into_iter().filter_map(Value::into_string).collect();
            (words.first()? == "slave" && words.iter().any(|word| word == "connected")).then_some(())
        })
        .await;
    }

    /// Has the sentinels put the replica in the place of a primary that is well (`SENTINEL FAILOVER`), and returns the
    /// new one.
    pub async fn fail_over(&self) -> &RedisServer {
        let old = self.primary().await;
        eventually("a sentinel agrees to fail over", FAILOVER_DEADLINE, || async {
            ask(&self.sentinels[0].client, "SENTINEL", &["FAILOVER", SERVICE]).await
        })
        .await;
        self.primary_after(old).await
    }

    /// Returns the place of the server that every sentinel that answers calls the primary. None where they differ, or
    /// where it does not agree.
    async fn find_primary(&self) -> Option<usize> {
        let mut port: Option<u16> = None;
        for sentinel in self.sentinels.iter().filter(|sentinel| sentinel.server.pid().is_some()) {
            let Some(answer) = ask(&sentinel.client, "SENTINEL", &["GET-MASTER-ADDR-BY-NAME", SERVICE]).await else { continue };
            let named = answer.into_array().into_iter().nth(1)?.into_string()?.parse().ok()?;
            if port.replace(named).is_some_and(|other| other != named) {
                return None;
            }
        }
        let place = self.nodes.iter().position(|node| Some(node.server.port()) == port && node.server.pid().is_some())?;
        let role = ask(&self.nodes[place].client, "ROLE", &[]).await?.into_array();
        (role.first()?.as_str()? == "master").then_some(place)
    }

    fn ports(&self) -> [u16; 3] {
        self.sentinels().map(RedisServer::port)
    }

    async fn wait_until_watched(&self) {
        self.becomes_replica(&self.nodes[1].server).await;
        for sentinel in &self.sentinels {
            eventually("a sentinel knows the replica and the other sentinels", FAILOVER_DEADLINE, || async {
                let facts = ask(&sentinel.client, "SENTINEL", &["MASTER", SERVICE]).await?.into_array();
                let facts: Vec<String> = facts.into_iter().filter_map(Value::into_string).collect();
                let is = |name: &str, value: &str| facts.chunks(2).any(|fact| fact == [name, value]);
                (is("num-slaves", "1") && is("num-other-sentinels", "2") && is("flags", "master")).then_some(())
            })
            .await;
        }
    }
}

impl ReplicatedRedisBuilder {
    /// Additional lines of `redis.conf` of both servers.
    pub fn settings(mut self, settings: &[(&str, &str)]) -> Self {
        self.settings.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    /// Has the two servers demand a password, of characters that need no escape in a URL.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Has the sentinels demand a password of their own.
    pub fn sentinel_password(mut self, password: &str) -> Self {
        self.sentinel_password = Some(password.to_owned());
        self
    }

    /// Starts all five and waits until the sentinels are able to fail over.
    pub async fn start(self) -> ReplicatedRedis {
        let primary = Node::new(self.server().start().await).await;
        let of = format!("127.0.0.1 {}", primary.server.port());
        let replica = Node::new(self.server().settings(&[("replicaof", &of)]).start().await).await;
        let sentinels = [self.sentinel(&of).await, self.sentinel(&of).await, self.sentinel(&of).await];
        let Self { password, sentinel_password, .. } = self;
        let group = ReplicatedRedis { nodes: [primary, replica], sentinels, password, sentinel_password };
        group.wait_until_watched().await;
        group
    }

    fn server(&self) -> RedisBuilder {
        // Usually a primary waits for more replicas before it sends its data.
        let builder = RedisServer::builder().settings(&[("repl-diskless-sync-delay", "0")]);
        let builder = self.settings.iter().fold(builder, |builder, (name, value)| builder.settings(&[(name, value)]));
        match &self.password {
            Some(password) => builder.password(password).settings(&[("masterauth", password)]),
            None => builder,
        }
    }

    async fn sentinel(&self, primary: &str) -> Node {
        let monitor = format!("monitor {SERVICE} {primary} {QUORUM}");
        let named = |setting: &str, value: &str| format!("{setting} {SERVICE} {value}");
        let down_after = named("down-after-milliseconds", DOWN_AFTER_MS);
        let failover_timeout = named("failover-timeout", FAILOVER_TIMEOUT_MS);
        let mut builder = RedisServer::builder().sentinel();
        builder =
            [monitor, down_after, failover_timeout].iter().fold(builder, |builder, line| builder.settings(&[("sentinel", line)]));
        if let Some(password) = &self.password {
            builder = builder.settings(&[("sentinel", &named("auth-pass", password))]);
        }
        if let Some(password) = &self.sentinel_password {
            builder = builder.password(password).settings(&[("sentinel", &format!("sentinel-pass {password}"))]);
        }
        let node = Node::new(builder.start().await).await;
        let mut haste = vec!["DEBUG"];
        haste.extend(HASTE);
        ask(&node.client, "SENTINEL", &haste).await.expect("SENTINEL DEBUG, which needs Redis 7 or later");
        node
    }
}

impl Node {
    async fn new(server: RedisServer) -> Self {
        Self { client: server.client().await, server }
    }
}

/// Sends a command. Gives nothing when no answer comes in time, or when it is null or an error.
async fn ask(client: &Client, command: &'static str, arguments: &[&str]) -> Option<Value> {
    let command = CustomCommand::new_static(command, ClusterHash::FirstKey, false);
    let answer = timeout(PATIENCE, client.custom::<Value, _>(command, arguments.to_vec())).await.ok()?.ok()?;
    (!answer.is_null()).then_some(answer)
}
