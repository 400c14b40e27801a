//! A private Redis server for one test.

use std::path::Path;

use fred::prelude::{Builder, Client, ClientLike, Config, ReconnectPolicy};

use crate::ports;
use crate::server::{READY, Server, StartError};
use crate::supervisor::{Supervisor, quoted};
use crate::tls::Certificates;

/// A command that gets no answer fails its test instead of hanging it.
const COMMAND_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);
const RECONNECT_DELAY_MS: u32 = 50;
const START_ATTEMPTS: usize = 5;

/// The environment variable that names another server than the `redis-server` in `PATH`, such as a `valkey-server`.
const SERVER_VARIABLE: &str = "TESTKIT_REDIS_SERVER";
const SERVER: &str = "redis-server";

/// What a sentinel logs last when it starts.
const SENTINEL_READY: &str = "+monitor master";

/// A `redis-server` in a temporary folder, on a free port of 127.0.0.1. Dropping it removes both.
pub struct RedisServer {
    server: Server,
    port: u16,
    cluster_port: u16,
    tls_port: Option<u16>,
    password: Option<String>,
    sentinel: bool,
}

/// Settings of a [`RedisServer`] that is yet to start.
#[derive(Clone, Default)]
pub struct RedisBuilder {
    settings: Vec<(String, String)>,
    password: Option<String>,
    certificates: Option<[String; 3]>,
    sentinel: bool,
}

impl RedisServer {
    /// Starts a server that keeps nothing on disk.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Starts a server with additional lines of `redis.conf`, such as `("appendonly", "yes")`.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::builder().settings(settings).start().await
    }

    /// For a password or TLS.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// Returns the URL for a client: `rediss://localhost…` if the server has TLS, with the password if it has one.
    pub fn url(&self) -> String {
        match self.tls_port {
            Some(port) => format!("rediss://{}localhost:{port}/0", self.credentials()),
            None => self.plain_url(),
        }
    }

    /// Returns the URL without TLS, which a server with TLS serves on another port.
    pub fn plain_url(&self) -> String {
        // A sentinel has no databases to choose from.
        let database = if self.sentinel { "" } else { "/0" };
        format!("redis://{}127.0.0.1:{}{database}", self.credentials(), self.port)
    }

    /// Returns the port without TLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the port with TLS, where the server has it.
    pub fn tls_port(&self) -> Option<u16> {
        self.tls_port
    }

    /// Returns the port on which the nodes of a cluster speak with each other, where the server is in cluster mode.
    pub fn cluster_port(&self) -> u16 {
        self.cluster_port
    }

    /// Returns the server's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Returns whether the server has been started and has not ended since.
    pub fn is_running(&self) -> bool {
        self.server.is_running()
    }

    /// Returns the server's temporary folder, with its append-only file.
    pub fn folder(&self) -> &Path {
        self.server.folder()
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Returns a connected client, which reconnects for ever and belongs to the current runtime.
    pub async fn client(&self) -> Client {
        let config = Config::from_url(&self.plain_url()).expect("the URL is valid");
        let client = Builder::from_config(config)
            .with_performance_config(|config| config.default_command_timeout = COMMAND_TIMEOUT)
            .set_policy(ReconnectPolicy::new_constant(0, RECONNECT_DELAY_MS))
            .build()
            .expect("the configuration is valid");
        client.init().await.unwrap_or_else(|error| panic!("cannot connect to Redis: {error}\n{}", self.log()));
        client
    }

    /// Ends the server by SIGTERM and waits for its end; with `appendonly` it keeps its data for [`Self::restart`].
    pub async fn stop(&self) {
        self.server.stop("TERM").await;
    }

    /// Ends the server by SIGKILL and waits for its end.
    pub async fn kill(&self) {
        self.server.kill().await;
    }

    /// Freezes the server: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Lets a frozen server go on.
    pub fn resume(&self) {
        self.server.resume();
    }

    /// Starts the server again, killing it first if it runs, with the same port and folder.
    pub async fn restart(&self) {
        self.server.restart().await;
    }

    /// The same without waiting for its data to be loaded. With a `key-load-delay` among its settings that takes a while.
    pub async fn begin_restart(&self) {
        self.server.begin_restart().await;
    }

    fn credentials(&self) -> String {
        self.password.as_ref().map_or_else(String::new, |password| format!("default:{password}@"))
    }
}

impl RedisBuilder {
    /// Additional lines of `redis.conf`; a later one overrides an earlier one and the kit's own.
    pub fn settings(mut self, settings: &[(&str, &str)]) -> Self {
        self.settings.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    /// Demands a password, of characters that need no escape in a URL.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Serves TLS too, on a port of its own, which becomes that of [`RedisServer::url`].
    pub fn tls(mut self, certificates: &Certificates) -> Self {
        let files = [certificates.ca_file(), certificates.certificate_file(), certificates.key_file()];
        self.certificates = Some(files.map(|file| file.display().to_string()));
        self
    }

    /// Makes it a sentinel; its settings have to name what it monitors.
    pub(crate) fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }

    /// Starts the server and waits until it is ready.
    pub async fn start(self) -> RedisServer {
        let program = program();
        let mut last_error = String::new();
        for _ in 0..START_ATTEMPTS {
            // The default cluster port, 10000 above the other one, may be taken by then.
            let (port, cluster_port) = (ports::free(), ports::free());
            let tls_port = self.certificates.is_some().then(ports::free);
            let supervisor = Supervisor::new("redis", &std::env::temp_dir());
            let file = supervisor.folder().join("redis.conf");
            let lines = self.config(supervisor.folder(), [port, cluster_port], tls_port);
            std::fs::write(&file, lines).expect("cannot write redis.conf");
            let (mode, ready) = if self.sentinel { (" --sentinel", SENTINEL_READY) } else { ("", READY) };
            let server = Server::new(supervisor, format!(r#"{program} "$folder/redis.conf"{mode}"#), ready);
            match server.start().await {
                Ok(()) => {
                    let Self { password, sentinel, .. } = self;
                    return RedisServer { server, port, cluster_port, tls_port, password, sentinel };
                }
                Err(error) if error.is_port_taken() => last_error = error.0,
                Err(StartError(message)) => panic!("{message}"),
            }
        }
        panic!("no port was free for Redis: {last_error}");
    }

    fn config(&self, folder: &Path, [port, cluster_port]: [u16; 2], tls_port: Option<u16>) -> String {
        let mut lines = format!(
            "bind 127.0.0.1\nport {port}\ndir \"{}\"\nsave \"\"\nappendonly no\nenable-debug-command local\n",
            folder.display()
        );
        if let (Some([ca, certificate, key]), Some(tls_port)) = (&self.certificates, tls_port) {
            lines += &format!(
                "tls-port {tls_port}\ntls-auth-clients no\n\
                 tls-ca-cert-file \"{ca}\"\ntls-cert-file \"{certificate}\"\ntls-key-file \"{key}\"\n"
            );
        }
        if let Some(password) = &self.password {
            lines += &format!("requirepass \"{password}\"\n");
        }
        if !self.sentinel {
            lines += &format!("cluster-port {cluster_port}\n");
        }
        for (name, value) in &self.settings {
            lines += &format!("{name} {value}\n");
        }
        lines
    }
}

/// Returns the server's program, quoted for a shell.
fn program() -> String {
    let named = std::env::var_os(SERVER_VARIABLE).filter(|program| !program.is_empty());
    let Some(program) = named else { return SERVER.to_owned() };
    let path = Path::new(&program).canonicalize();
    quoted(path.unwrap_or_else(|error| panic!("{SERVER_VARIABLE} is {}: {error}", program.display())))
}
