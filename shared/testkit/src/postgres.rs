//! A private PostgreSQL server, or a database of one's own in a server that all tests of a process share.

mod binaries;
mod database;

use std::path::{Path, PathBuf};

use tokio::sync::OnceCell;
use tokio_postgres::Client;

use self::binaries::Binaries;
pub use self::database::Database;
use crate::ports;
use crate::server::{READY, Server, StartError, wait_for_exit};
use crate::supervisor::{Supervisor, quoted};
use crate::tls::Certificates;
use crate::{SOON, eventually};

/// A socket's path is limited to 107 bytes and must be reachable for the server's user, so a long or private `TMPDIR`
/// is no place for it.
const PARENT_FOLDER: &str = "/tmp";
const INITDB_DEADLINE: std::time::Duration = std::time::Duration::from_secs(120);
const START_ATTEMPTS: usize = 5;

/// Durability costs time and a test's database does not outlive the test. The shared memory for parallel queries lives
/// in the folder, so that it is removed with it. Passwords are kept as later versions than 13 keep them anyway.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = '32MB'
max_connections = 300
dynamic_shared_memory_type = mmap
log_line_prefix = '%m [%p] %d: '
password_encryption = 'scram-sha-256'
";

/// The server of this test process; see [`shared`].
static SHARED: OnceCell<PostgresServer> = OnceCell::const_new();

/// Returns the server that all tests of this process share, started by the first that asks.
///
/// It holds no connection and no task, so it does not matter that the first test's runtime ends before the others'.
/// A test that stops or breaks the server must start its own with [`PostgresServer::start`].
pub async fn shared() -> &'static PostgresServer {
    SHARED.get_or_init(PostgresServer::start).await
}

/// A PostgreSQL server in a temporary folder, on a free port of 127.0.0.1. Dropping it removes both.
pub struct PostgresServer {
    server: Server,
    endpoint: Endpoint,
}

/// Settings of a [`PostgresServer`] that is yet to start.
#[derive(Default)]
pub struct PostgresBuilder {
    settings: Vec<(String, String)>,
    password: Option<String>,
    certificates: Option<[PathBuf; 2]>,
}

/// How to reach a server.
#[derive(Clone)]
struct Endpoint {
    folder: PathBuf,
    port: u16,
    password: Option<String>,
    tls: bool,
}

impl Endpoint {
    fn url(&self, database: &str) -> String {
        let password = self.password.as_ref().map_or_else(String::new, |password| format!(":{password}"));
        let (host, options) = if self.tls { ("localhost", "?sslmode=require") } else { ("127.0.0.1", "") };
        format!("postgres://postgres{password}@{host}:{}/{database}{options}", self.port)
    }

    /// Connects through the Unix socket, which needs neither a password nor TLS.
    async fn connect(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.folder).port(self.port).user("postgres").dbname(database);
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        // Ends with the client or the server; the client's next call reports an error of the connection.
        tokio::spawn(connection);
        Ok(client)
    }
}

impl PostgresServer {
    /// Starts a server that loses its data if the machine (not the process) dies.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Starts a server with additional settings of `postgresql.conf`, such as `("log_statement", "all")`.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::builder().settings(settings).start().await
    }

    /// For a password or TLS.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// Creates an empty database of a new name.
    pub async fn database(&self) -> Database {
        self.database_named(&format!("test_{}", uuid::Uuid::new_v4().simple())).await
    }

    /// Creates an empty database whose name people are to read. It must need no quotes in SQL.
    pub async fn database_named(&self, name: &str) -> Database {
        self.client().await.batch_execute(&format!("create database {name}")).await.expect("cannot create a database");
        Database::new(self.endpoint.clone(), name.to_owned())
    }

    /// Copies a database, with all that is in it. Connections to it end: a database that is in use is not copied.
    pub async fn copy(&self, original: &Database) -> Database {
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        let client = self.client().await;
        let statements = [
            format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'", original.name()),
            format!("create database {name} template {}", original.name()),
        ];
        // The server takes a moment to notice that they are gone.
        eventually("the database is copied", SOON, async || {
            client.simple_query(&statements[0]).await.expect("cannot end connections");
            client.batch_execute(&statements[1]).await
        })
        .await;
        Database::new(self.endpoint.clone(), name)
    }

    /// Returns the URL of the database `postgres`, with the password if the server has one.
    pub fn url(&self) -> String {
        self.endpoint.url("postgres")
    }

    /// Returns a superuser's connection to the database `postgres`, whose task belongs to the current runtime.
    pub async fn client(&self) -> Client {
        let connected = self.endpoint.connect("postgres").await;
        connected.unwrap_or_else(|error| panic!("cannot connect to PostgreSQL: {error}\n{}", self.log()))
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.endpoint.port
    }

    /// Returns the server's first process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Returns whether the server has been started and has not ended since.
    pub fn is_running(&self) -> bool {
        self.server.is_running()
    }

    /// Returns the server's temporary folder.
    pub fn folder(&self) -> &Path {
        self.server.folder()
    }

    /// What the server has logged. For the statements of one database see [`Database::statements`].
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Ends the server by its fast shutdown (SIGINT): clients are disconnected, transactions are rolled back.
    /// SIGTERM would wait for all clients to leave.
    pub async fn stop(&self) {
        self.server.stop("INT").await;
    }

    /// Ends all the server's processes by SIGKILL and waits for the first one's end.
    pub async fn kill(&self) {
        self.server.kill().await;
    }

    /// Freezes all the server's processes: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Lets a frozen server go on.
    pub fn resume(&self) {
        self.server.resume();
    }

    /// Starts the server again, killing it first if it runs, with the same port and data.
    pub async fn restart(&self) {
        self.server.restart().await;
    }

    /// Starts another server that follows this one, and can only be read.
    pub async fn standby(&self) -> Self {
        let binaries = Binaries::find();
        let mut last_error = String::new();
        for _ in 0..START_ATTEMPTS {
            let supervisor = own_folder(&binaries);
            let (primary, port) = (quoted(&self.endpoint.folder), self.endpoint.port);
            supervisor.spawn(&format!(
                r#"{} -D "$folder/data" -h {primary} -p {port} -U postgres -X stream -c fast --write-recovery-conf --no-sync"#,
                binaries.command("pg_basebackup")
            ));
            let status = wait_for_exit(&supervisor, INITDB_DEADLINE).await;
            assert_eq!(status, 0, "pg_basebackup failed:\n{}", crate::server::read_log(supervisor.folder()));
            match serve(supervisor, &binaries, self.endpoint.password.clone(), self.endpoint.tls).await {
                Ok(server) => return server,
                Err(error) if error.is_port_taken() => last_error = error.0,
                Err(StartError(message)) => panic!("{message}"),
            }
        }
        panic!("no port was free for PostgreSQL: {last_error}");
    }
}

impl PostgresBuilder {
    /// Additional settings of `postgresql.conf`; a later one overrides an earlier one and the kit's own.
    pub fn settings(mut self, settings: &[(&str, &str)]) -> Self {
        self.settings.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    /// Demands a password over TCP (SCRAM), of characters that need no escape in a URL.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Refuses TCP connections without TLS.
    pub fn tls(mut self, certificates: &Certificates) -> Self {
        self.certificates = Some([certificates.certificate_file().to_owned(), certificates.key_file().to_owned()]);
        self
    }

    /// Creates the data folder, starts the server and waits until it is ready.
    pub async fn start(self) -> PostgresServer {
        let binaries = Binaries::find();
        let mut last_error = String::new();
        for _ in 0..START_ATTEMPTS {
            let supervisor = self.initialize(&binaries).await;
            match serve(supervisor, &binaries, self.password.clone(), self.certificates.is_some()).await {
                Ok(server) => return server,
                Err(error) if error.is_port_taken() => last_error = error.0,
                Err(StartError(message)) => panic!("{message}"),
            }
        }
        panic!("no port was free for PostgreSQL: {last_error}");
    }

    async fn initialize(&self, binaries: &Binaries) -> Supervisor {
        let supervisor = own_folder(binaries);
        let folder = supervisor.folder();
        let password_file = folder.join("password");
        std::fs::write(&password_file, self.password.as_deref().unwrap_or("unused")).expect("cannot write a file");
        if let Some(user) = binaries.user() {
            supervisor.run(&format!(r#"chown {user} "$folder/password""#));
        }
        // A killed initdb would leave its shared memory in /dev/shm, and there is no option that puts it elsewhere.
        supervisor.spawn_unkillable(&format!(
            r#"{} -D "$folder/data" -U postgres -E UTF8 --no-locale --no-sync -A scram-sha-256 --pwfile="$folder/password""#,
            binaries.command("initdb")
        ));
        let status = wait_for_exit(&supervisor, INITDB_DEADLINE).await;
        assert_eq!(status, 0, "initdb failed:\n{}", crate::server::read_log(folder));

        if let Some([certificate, key]) = &self.certificates {
            // The server refuses a key that others own or may read.
            let owner = binaries.user().map_or_else(String::new, |user| format!("-o {user}"));
            let (certificate, key) = (quoted(certificate), quoted(key));
            let status = supervisor.run(&format!(
                r#"install -m 600 {owner} {certificate} "$folder/data/server.crt" && install -m 600 {owner} {key} "$folder/data/server.key""#
            ));
            assert_eq!(status, 0, "cannot copy the certificate");
        }
        std::fs::write(folder.join("data/pg_hba.conf"), self.access_rules()).expect("cannot write pg_hba.conf");
        std::fs::write(folder.join("data/postgresql.conf"), self.config()).expect("cannot write postgresql.conf");
        supervisor
    }

    fn access_rules(&self) -> String {
        let connection = if self.certificates.is_some() { "hostssl" } else { "host" };
        let method = if self.password.is_some() { "scram-sha-256" } else { "trust" };
        format!("local all all trust\nlocal replication all trust\n{connection} all all 127.0.0.1/32 {method}\n")
    }

    fn config(&self) -> String {
        let mut lines = SETTINGS.to_owned();
        if self.certificates.is_some() {
            lines += "ssl = on\n";
        }
        for (name, value) in &self.settings {
            lines += &format!("{name} = '{}'\n", value.replace('\'', "''"));
        }
        lines
    }
}

/// Returns the path of one of PostgreSQL's programs, of the same version as the server.
///
/// # Panics
/// When PostgreSQL is not installed.
pub fn program(name: &str) -> PathBuf {
    Binaries::find().program(name)
}

/// Returns a folder that belongs to the user who runs the server.
fn own_folder(binaries: &Binaries) -> Supervisor {
    let supervisor = Supervisor::new("postgres", Path::new(PARENT_FOLDER));
    if let Some(user) = binaries.user() {
        supervisor.run(&format!(r#"chown {user} "$folder""#));
    }
    supervisor
}

/// Starts the server whose data is in the supervisor's folder.
async fn serve(
    supervisor: Supervisor,
    binaries: &Binaries,
    password: Option<String>,
    tls: bool,
) -> Result<PostgresServer, StartError> {
    let port = ports::free();
    let endpoint = Endpoint { folder: supervisor.folder().to_owned(), port, password, tls };
    let command = format!(r#"{} -D "$folder/data" -k "$folder" -p {port}"#, binaries.command("postgres"));
    let server = Server::new(supervisor, command, READY);
    server.start().await.map(|()| PostgresServer { server, endpoint })
}
