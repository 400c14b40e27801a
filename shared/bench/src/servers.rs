//! The servers that are measured side by side: how each is started, and what it has to know before it is measured.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use testkit::{SOON, eventually, ports, postgres::PostgresServer, process::Daemon, scratch::Scratch};
use tokio::net::TcpStream;

use crate::{
    client::{self, Connection},
    load::Dialect,
    population::{Population, SECRET},
    sql,
    stores::{Stores, nest_posts},
    workload::{BATCH, Workload},
};

const NGINX_CONFIG: &str = include_str!("../peers/nginx/nginx.conf.in");

/// A server that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Ours
    ViewIngest,
    /// An empty hyper handler
    Floor,
    /// One SADD a request, no token, no expiry, no count
    Webdis,
    /// nginx with Lua: SADD, EXPIRE, SCARD; the token is not checked
    Nginx,
    /// Fastify with ioredis and fast-jwt: SADD, EXPIRE, SCARD; the token is checked
    Fastify,
    /// NestJS as the design's origin had it: a query and a rewritten array a view
    Nest,
}

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    /// Those of this workspace.
    pub(crate) binaries: PathBuf,
    /// Those for Node.js, each with its packages.
    pub(crate) node: PathBuf,
}

/// A server that runs, on stores of its own.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) stores: Stores,
    daemons: Vec<Daemon>,
    _folders: Vec<Scratch>,
}

impl Kind {
    /// All servers.
    pub(crate) const ALL: [Self; 6] = [Self::ViewIngest, Self::Floor, Self::Webdis, Self::Nginx, Self::Fastify, Self::Nest];
    /// Those that say the most in the least time.
    pub(crate) const QUICK: [Self; 3] = [Self::ViewIngest, Self::Floor, Self::Webdis];

    /// Returns the name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ViewIngest => "view-ingest",
            Self::Floor => "floor",
            Self::Webdis => "webdis",
            Self::Nginx => "nginx + Lua",
            Self::Fastify => "Fastify",
            Self::Nest => "NestJS",
        }
    }

    /// What it does for a view.
    pub(crate) fn does(self) -> &'static str {
        match self {
            Self::ViewIngest => "everything: token, author, unknown post, dedup, outbox, exact count",
            Self::Floor => "hyper reads the body and answers a constant",
            Self::Webdis => "one SADD; no token, no expiry, no count",
            Self::Nginx => "SADD, EXPIRE, SCARD; the token's signature is not checked",
            Self::Fastify => "token, SADD, EXPIRE, SCARD; nothing in PostgreSQL",
            Self::Nest => "token, a query, Redis calls one by one, an array in PostgreSQL rewritten",
        }
    }

    /// Returns whether it needs Node.js.
    pub(crate) fn is_on_node(self) -> bool {
        matches!(self, Self::Fastify | Self::Nest)
    }

    pub(crate) fn dialect(self) -> Dialect {
        if self == Self::Webdis { Dialect::Path } else { Dialect::Json }
    }
}

impl Server {
    /// Starts a server with stores of its own, and waits until it takes connections.
    pub(crate) async fn start(
        kind: Kind,
        programs: &Programs,
        postgres: &PostgresServer,
        population: &Population,
    ) -> anyhow::Result<Self> {
        Self::start_with(kind, programs, postgres, population, &[]).await
    }

    /// Starts a server with more environment variables than it needs.
    pub(crate) async fn start_with(
        kind: Kind,
        programs: &Programs,
        postgres: &PostgresServer,
        population: &Population,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let stores = Stores::new(postgres, &programs.binaries, population).await?;
        Self::start_on(stores, kind, programs, postgres, environment).await
    }

    /// Starts a server with stores that are there.
    pub(crate) async fn start_on(
        stores: Stores,
        kind: Kind,
        programs: &Programs,
        postgres: &PostgresServer,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let (redis, port) = (stores.nodes.port().to_string(), ports::free());
        let mut folders = Vec::new();
        let node = |name: &str| {
            let folder = programs.node.join(name);
            Daemon::builder("node")
                .arg(folder.join("server.js"))
                .env("NODE_ENV", "production")
                .env("PORT", port.to_string())
                .env("REDIS_PORT", &redis)
                .env("PG_PORT", postgres.port().to_string())
                .env("JWT_SECRET", SECRET)
                .start()
        };
        let daemons = match kind {
            Kind::ViewIngest => {
                let builder = stores.ingest(&programs.binaries);
                vec![environment.iter().fold(builder, |builder, (name, value)| builder.env(name, value)).start()]
            }
            Kind::Floor => vec![Daemon::builder(programs.binaries.join("floor")).start()],
            Kind::Webdis => vec![webdis(&redis, port, &mut folders)],
            Kind::Nginx => nginx(&redis, port, &mut folders)?,
            Kind::Fastify => vec![node("fastify")],
            Kind::Nest => {
                // Its program names this database.
                postgres.client().await.batch_execute(sql::CREATE_NEST_POSTS).await?;
                vec![node("nest")]
            }
        };
        let address = match kind {
            Kind::ViewIngest | Kind::Floor => daemons[0].wait_for_listening("public").await,
            _ => SocketAddr::from(([127, 0, 0, 1], port)),
        };
        if kind == Kind::ViewIngest {
            daemons[0].wait_for_line("view-ingest started").await;
        }
        eventually(kind.name(), SOON, || TcpStream::connect(address)).await;
        Ok(Self { kind, address, stores, daemons, _folders: folders })
    }

    /// Its processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.daemons.iter().map(Daemon::pid).collect()
    }

    /// Has the server know every post and what has been viewed before, and nothing else. Redis is emptied first, the
    /// outbox with it: view-syncd does not run meanwhile, so that nobody else works on the same processors.
    pub(crate) async fn prepare(
        &self,
        postgres: &PostgresServer,
        population: &Population,
        workload: Workload,
    ) -> anyhow::Result<()> {
        self.stores.nodes.forget().await?;
        match self.kind {
            Kind::Floor => return Ok(()),
            Kind::ViewIngest => self.touch(population).await?,
            Kind::Nest => nest_posts(&postgres.client().await, population).await?,
            Kind::Webdis | Kind::Nginx | Kind::Fastify => {}
        }
        let history = workload.history(population);
        let bodies: Vec<&[String]> = workload.bodies(population).collect();
        if self.kind == Kind::ViewIngest {
            let view = |number: usize| client::view(&population.viewers[history[number].viewer], bodies[history[number].body]);
            return client::send_all(self.address, history.len(), view).await;
        }
        let pairs = history.iter().flat_map(|ask| {
            let viewer = population.viewers[ask.viewer].id.as_str();
            bodies[ask.body].iter().map(move |post| (post.as_str(), viewer))
        });
        self.stores.add_members(&pairs.collect::<Vec<_>>()).await
    }

    /// Has view-ingest look up every post, which it otherwise does when the post is first viewed.
    pub(crate) async fn touch(&self, population: &Population) -> anyhow::Result<()> {
        let mut connection = Connection::open(self.address).await?;
        for posts in population.posts.chunks(BATCH) {
            connection.ask(&client::view(&population.visitor, posts)).await.context("view-ingest does not know its posts")?;
        }
        self.stores.nodes.forget_outbox().await
    }

    /// What the server has printed, for whoever has to find out what went wrong.
    pub(crate) fn output(&self) -> String {
        let lines = self.daemons.iter().flat_map(Daemon::output).collect::<Vec<_>>();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

fn webdis(redis: &str, port: u16, folders: &mut Vec<Scratch>) -> Daemon {
    let folder = Scratch::new();
    let log = folder.path().join("webdis.log");
    let config = serde_json::json!({
        "redis_host": "127.0.0.1", "redis_port": redis.parse::<u16>().unwrap_or_default(), "http_host": "127.0.0.1", "http_port": port,
        "threads": processors(), "pool_size": 8, "daemonize": false, "websockets": false, "database": 0, "verbosity": 1, "logfile": log,
    });
    let file = folder.write("webdis.json", config.to_string());
    folders.push(folder);
    Daemon::builder("webdis").arg(file).start()
}

/// As many single processes as there are processors; the kernel shares the connections out among them.
fn nginx(redis: &str, port: u16, folders: &mut Vec<Scratch>) -> anyhow::Result<Vec<Daemon>> {
    let one = |_| {
        let folder = Scratch::new();
        let at = |path: &Path| path.display().to_string();
        let config =
            NGINX_CONFIG.replace("@DIR@", &at(folder.path())).replace("@PORT@", &port.to_string()).replace("@REDIS_PORT@", redis);
        let file = folder.write("nginx.conf", config);
        let daemon = Daemon::builder("nginx").arg("-p").arg(folder.path()).arg("-c").arg(file).start();
        folders.push(folder);
        Ok(daemon)
    };
    (0..processors()).map(one).collect()
}

/// Returns how many processors there are to share.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
