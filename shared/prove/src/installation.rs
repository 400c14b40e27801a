//! Everything that takes part: the stores, the programs, and a proxy on every connection between them.

use std::{
    collections::BTreeMap,
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use testkit::{
    grants, ports,
    postgres::{Database, PostgresServer},
    posts::PostsTable,
    process::Daemon,
    proxy::Proxy,
};
use tokio::{
    process::{Child, Command},
    task::JoinSet,
};

use crate::{
    history::History,
    redis::Redis,
    schedule::{self, INGESTS, Layout, Link, Program},
    unit::{Recipe, Unit},
    world::{SECRET, World},
};

/// A commit that was answered survives the death of all of the server's processes. (It need not survive the machine's.)
const POSTGRES_SETTINGS: [(&str, &str); 1] = [("synchronous_commit", "on")];

/// The role of the programs, as docs/adopt.md names it. It has what is granted there, and no more.
pub(crate) const ROLE: &str = "views";

/// How the daemons are set up: everything that takes its time takes less of it.
const SHARED_SETTINGS: [(&str, &str); 1] = [("LOG_LEVEL", "info,fred=error")];
const INGEST_SETTINGS: [(&str, &str); 2] = [("VIEW_INGEST_WORKERS", "2"), ("VIEW_INGEST_SHUTDOWN_TIMEOUT", "5s")];
const SYNCD_SETTINGS: [(&str, &str); 3] = [("SYNC_INTERVAL", "5s"), ("SYNC_LINGER", "200ms"), ("SYNC_SHUTDOWN_TIMEOUT", "5s")];

/// What the proof wants of the programs, beside what every installation does.
pub(crate) struct Plan<'a> {
    pub(crate) binaries: &'a Path,
    pub(crate) seed: u64,
    /// The mistake that the programs are to make.
    pub(crate) broken: Option<&'a str>,
    /// When failpoints may strike, in milliseconds since 1970: view-ingest's, and all until when.
    pub(crate) ingest_failpoints_from_ms: u128,
    pub(crate) failpoints_until_ms: u128,
}

/// The whole installation.
pub(crate) struct Installation {
    pub(crate) redis: Redis,
    pub(crate) postgres: PostgresServer,
    pub(crate) database: Database,
    pub(crate) proxies: BTreeMap<Link, Proxy>,
    pub(crate) units: BTreeMap<Program, Arc<Unit>>,
    view_syncd: PathBuf,
    /// The real addresses: of view-ingest's listener for clients, of view-syncd's for operators.
    pub(crate) addresses: BTreeMap<Program, SocketAddr>,
}

/// The stores, which are the same for every program, before there are programs.
pub(crate) struct Ground {
    pub(crate) redis: Redis,
    postgres: PostgresServer,
    database: Database,
}

impl Ground {
    /// Starts the stores, with the posts, what else the application has in its database, and an empty ledger.
    pub(crate) async fn lay(layout: Layout, binaries: &Path, world: &World, application: &str) -> Self {
        let (redis, postgres) = tokio::join!(Redis::start(layout), PostgresServer::start_with(&POSTGRES_SETTINGS));
        let database = postgres.database().await;
        let client = database.client().await;
        let table = PostsTable::default();
        table.create(&client).await;
        for post in &world.posts {
            table.insert_post(&client, &post.id, post.authors[0].as_str()).await;
        }
        client.batch_execute(application).await.expect("cannot set up the application");
        let migration = Daemon::builder(binaries.join("view-syncd"))
            .arg("migrate")
            .env("DATABASE_URL", database.url())
            .env("REDIS_URL", redis.url())
            .start();
        let exit = migration.wait_exit().await;
        assert!(exit.success(), "view-syncd migrate: {}", migration.output().join("\n"));
        client
            .batch_execute(&format!("create role {ROLE} login; {}", grants::statements()))
            .await
            .expect("cannot grant what the document grants");
        Self { redis, postgres, database }
    }
}

/// Has everything that a Redis is told written into the history's folder, for as long as this lives.
pub(crate) fn monitor(port: u16, history: &History) -> Child {
    let file = File::create(history.folder().join(format!("monitor-{port}.log"))).expect("cannot write into a folder of our own");
    // Redis may be killed, and is back some time later.
    let script = format!("while :; do redis-cli -p {port} monitor; sleep 0.02; done 2>/dev/null");
    let command =
        Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).stdout(file).kill_on_drop(true).process_group(0).spawn();
    command.expect("cannot start a shell")
}

impl Installation {
    /// Puts proxies between the parts and prepares the programs.
    pub(crate) async fn build(ground: Ground, plan: &Plan<'_>, history: &Arc<History>) -> Self {
        let Ground { redis, postgres, database } = ground;
        let mut installation = Self {
            redis,
            postgres,
            database,
            proxies: BTreeMap::new(),
            view_syncd: plan.binaries.join("view-syncd"),
            units: BTreeMap::new(),
            addresses: BTreeMap::new(),
        };
        for program in schedule::programs() {
            installation.add(program, plan, history).await;
        }
        installation
    }

    async fn add(&mut self, program: Program, plan: &Plan<'_>, history: &Arc<History>) {
        let postgres = self.postgres.port();
        let to_postgres = Proxy::to_port(postgres).await;
        // The same port after each start, for the proxy and the clients.
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let (listen, admin) = (address(ports::free()), address(ports::free()));
        let (name, listen_names, settings): (_, _, &[(&str, &str)]) = match program {
            Program::Ingest(_) => ("view-ingest", ["VIEW_INGEST_LISTEN", "VIEW_INGEST_ADMIN_LISTEN"], &INGEST_SETTINGS),
            Program::Syncd(_) => ("view-syncd", ["VIEW_SYNCD_ADMIN_LISTEN", "UNUSED_LISTEN"], &SYNCD_SETTINGS),
        };
        let failpoints_from_ms = if name == "view-ingest" { plan.ingest_failpoints_from_ms } else { 0 };
        let through = |url: String, from: u16, to: u16| url.replace(&format!(":{from}/"), &format!(":{to}/"));
        let mut redis_url = self.redis.url();
        // The nodes of a cluster tell everybody their own addresses.
        if let Some(server) = self.redis.server() {
            let to_redis = Proxy::to_port(server.port()).await;
            redis_url = through(redis_url, server.port(), to_redis.port());
            self.proxies.insert(Link::ToRedis(program), to_redis);
        }
        let mut environment = vec![
            ("REDIS_URL".to_owned(), redis_url),
            ("DATABASE_URL".to_owned(), through(self.role_url(), postgres, to_postgres.port())),
            ("JWT_SECRET".to_owned(), SECRET.to_owned()),
            (listen_names[0].to_owned(), listen.to_string()),
            (listen_names[1].to_owned(), admin.to_string()),
            ("FAILPOINTS_UNTIL".to_owned(), plan.failpoints_until_ms.to_string()),
            ("FAILPOINTS_FROM".to_owned(), failpoints_from_ms.to_string()),
            ("BREAK".to_owned(), plan.broken.unwrap_or_default().to_owned()),
        ];
        let settings = SHARED_SETTINGS.iter().chain(settings);
        environment.extend(settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let recipe =
            Recipe { binary: plan.binaries.join(name), environment, seed: plan.seed, mistake: plan.broken.map(str::to_owned) };
        self.units.insert(program, Unit::new(program, recipe, Arc::clone(history)));
        self.addresses.insert(program, listen);
        self.proxies.insert(Link::ToPostgres(program), to_postgres);
        if let Program::Ingest(number) = program {
            self.proxies.insert(Link::FromClients(number), Proxy::start(listen).await);
        }
    }

    /// Starts the programs, each with somebody who starts it again.
    pub(crate) fn start(&self) -> JoinSet<()> {
        self.units.values().map(|unit| Arc::clone(unit).supervise()).collect()
    }

    /// Returns where the role of the programs reaches the database.
    fn role_url(&self) -> String {
        self.database.url().replace("postgres://postgres@", &format!("postgres://{ROLE}@"))
    }

    /// Runs one of view-syncd's commands, past all proxies.
    pub(crate) async fn command(&self, arguments: &[&str]) -> (ExitStatus, Vec<String>) {
        let command = Daemon::builder(&self.view_syncd)
            .args(arguments)
            .env("DATABASE_URL", self.role_url())
            .env("REDIS_URL", self.redis.url())
            .start();
        (command.wait_exit().await, command.output())
    }

    /// Returns where clients reach the view-ingests, through the proxies.
    pub(crate) fn doors(&self) -> Vec<SocketAddr> {
        (0..INGESTS).map(|number| self.proxies[&Link::FromClients(number)].address()).collect()
    }
}
