//! What all steps of the journey share: the stores, the daemons, the commands and their variables.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::http::Client;
use testkit::within;

use super::exports::Exports;
use super::people::POST;
use crate::daemons::{self, ANY_PORT, Ingest, Syncd};
use crate::demo_page;
use crate::report::Report;
use crate::repository;
use crate::shell::{self, Output, field};
use crate::site::{Port, Site};
use crate::stores::Stores;

/// The application's table, with a few posts.
const POSTS_FILE: &str = "deploy/demo/posts.sql";

/// How long a change may take to arrive in PostgreSQL.
pub(super) const DRAINED: Duration = Duration::from_secs(30);

/// The ports that the documentation names.
const PUBLIC_PORT: u16 = 3001;
const SYNCD_PORT: u16 = 3002;
const ADMIN_PORT: u16 = 3003;
/// One beside them.
const PAGE_PORT: u16 = 3004;

/// The journey's belongings.
pub(crate) struct Guide {
    pub(super) report: Report,
    pub(super) stores: Stores,
    /// Whether nobody watches. Such a run must not depend on what else runs here, nor get into its way.
    pub(super) once: bool,
    binaries: PathBuf,
    /// What a terminal needs to repeat the commands.
    exports: Exports,
    ingest: Option<Ingest>,
    syncd: Option<Syncd>,
    page: Option<Site>,
}

impl Guide {
    /// Starts the stores.
    pub(super) async fn start(binaries: &Path, once: bool) -> Self {
        let report = Report::in_full("try");
        report.headline("Starting private Redis and PostgreSQL");
        let stores = Stores::start().await;
        let [redis, postgres] = stores.versions().await;
        let ports = [stores.redis.port(), stores.postgres.port()];
        report.say(format!("{redis} on 127.0.0.1:{}, {postgres} on 127.0.0.1:{}", ports[0], ports[1]));
        let binaries = binaries.canonicalize().unwrap_or_else(|error| panic!("no folder {}: {error}", binaries.display()));
        let exports = Exports::new(&stores, &binaries);
        Self { report, stores, once, binaries, exports, ingest: None, syncd: None, page: None }
    }

    /// Creates the tables and starts view-ingest; view-syncd follows when there is something for it to do.
    pub(super) async fn prepare(&mut self) {
        self.report.headline("In another terminal, these lines let you repeat every command below");
        self.report.say(self.exports.lines());
        self.report.say(format!("# or, all of them: {}", self.exports.source()));
        self.report.headline("The application's table of posts, and beside it the ledger");
        self.stores.database.client().await.batch_execute(&repository::text(POSTS_FILE)).await.expect("the posts can be created");
        let migrated = self.step("The ledger is a table that view-syncd creates", "view-syncd migrate").await;
        assert!(migrated.succeeded(), "view-syncd migrate failed");

        self.report.headline("view-ingest takes views");
        let (public, admin) = (self.address(PUBLIC_PORT), self.address(ADMIN_PORT));
        let page = Port::take(&self.address(PAGE_PORT)).await;
        let arguments = ["--cors-origin".to_owned(), demo_page::origins(page.address())];
        let command = format!("view-ingest {}", arguments.join(" "));
        self.report.step("It runs in the background, with its log in a file; a page may call it from another origin", &command);
        let environment = self.stores.environment(&self.stores.database.url());
        let builder = daemons::program(&self.binaries, "view-ingest", &environment).args(arguments);
        let ingest = Ingest::start(builder.log_to(self.log_file("view-ingest")), &public, &admin).await;
        self.page = Some(demo_page::show(page, &self.stores, ingest.public).await);
        self.report.say(format!("http://{} is for clients, http://{} for operators", ingest.public, ingest.admin));
        self.ingest = Some(ingest);
    }

    /// Starts view-syncd and waits for its first cycle.
    pub(super) async fn start_syncd(&mut self, linger: &str, interval: &str) {
        let arguments = ["--linger", linger, "--interval", interval];
        self.report.step(
            "view-syncd begins: it moves the outbox into PostgreSQL, and scans Redis at every interval",
            &format!("view-syncd {}", arguments.join(" ")),
        );
        let environment = self.stores.environment(&self.stores.database.url());
        let builder =
            daemons::program(&self.binaries, "view-syncd", &environment).args(arguments).log_to(self.log_file("view-syncd"));
        let syncd = Syncd::start(builder, &self.address(SYNCD_PORT)).await;
        self.syncd = Some(syncd);
        let came = self.wait_for_cycles(1).await;
        let is_of_a_cycle = |line: &&String| {
            ["Starting views sync", "posts with views", "Sync completed"].iter().any(|words| line.contains(words))
        };
        let lines = self.syncd().daemon.output();
        self.report.say(lines.iter().filter(is_of_a_cycle).map(String::as_str).collect::<Vec<_>>().join("\n"));
        self.report.holds("the cycle at the start of view-syncd", came);
    }

    /// Says what happens, shows a command, runs that very text, and shows what it prints.
    pub(super) async fn step(&self, text: &str, command: &str) -> Output {
        self.report.step(text, command);
        let output = shell::run(command, self.exports.variables()).await;
        if !output.text().is_empty() {
            self.report.say(output.text());
        }
        output
    }

    /// Checks what view-ingest has answered to a view.
    pub(super) fn check_answer(&mut self, what: &str, answer: &Output, status: &str, count: i64) {
        self.report.check(&format!("{what}: status"), status, answer.field("status"));
        self.report.check(&format!("{what}: viewsCount"), count, answer.field("viewsCount"));
    }

    /// Waits until view-syncd has finished so many cycles since it was started.
    ///
    /// # Errors
    /// What there is instead, when that takes too long.
    pub(super) async fn wait_for_cycles(&self, number: usize) -> Result<(), String> {
        let cycles = || self.syncd().daemon.lines_with("Sync completed").len();
        let came = within(DRAINED, async || cycles() >= number).await;
        came.map_err(|_| format!("expected {number} cycles, found {}", cycles()))
    }

    /// Waits until PostgreSQL has learned everything.
    pub(super) async fn expect_empty_outbox(&mut self) {
        let emptied = within(DRAINED, async || self.stores.outbox().await == "0").await;
        self.report.holds("the outbox empties", emptied);
    }

    /// Returns the fields of the post's hash, with spaces between. A count that has not begun is missing, and means none.
    pub(super) async fn meta(&self, fields: &[&str]) -> String {
        let mut values = Vec::new();
        for field in fields {
            let value = self.stores.redis(&["HGET", &format!("{{post:{POST}:views}}:meta"), field]).await;
            values.push(if value.is_empty() { "0".to_owned() } else { value });
        }
        values.join(" ")
    }

    /// Returns a post's count in PostgreSQL.
    pub(super) async fn count(&self, post: &str) -> String {
        self.stores.sql(&format!("SELECT views_count FROM posts WHERE id = '{post}'")).await
    }

    /// Returns a post's count as clients see it.
    pub(super) async fn live_count(&self, post: &str) -> String {
        let answer = Client::new(self.ingest().public).get(&format!("/posts/{post}/views")).await;
        field(&answer.json(), "viewsCount")
    }

    /// Returns the command that sends a view of one post, with a token's variable if there is one.
    pub(super) fn view_command(&self, token: &str, post: &str) -> String {
        let authorization = authorization(token);
        let url = self.url("/posts/view");
        format!("curl -s {url}{authorization} -H 'Content-Type: application/json' -d '{{\"postId\":\"{post}\"}}'")
    }

    /// Returns a URL of view-ingest's public listener.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.ingest().public)
    }

    /// Returns the command that runs a statement.
    pub(super) fn psql(&self, statement: &str) -> String {
        let url = format!("postgres://postgres@127.0.0.1:{}/{}", self.stores.postgres.port(), self.stores.database.name());
        format!("psql {url} -c \"{statement}\"")
    }

    /// Returns the command that asks Redis.
    pub(super) fn redis_cli(&self, words: &str) -> String {
        format!("redis-cli -p {} {words}", self.stores.redis.port())
    }

    /// view-ingest.
    pub(super) fn ingest(&self) -> &Ingest {
        self.ingest.as_ref().expect("view-ingest has been started")
    }

    /// Returns the address of the page.
    pub(super) fn page(&self) -> SocketAddr {
        self.page.as_ref().expect("the page is shown").address
    }

    /// view-syncd.
    pub(super) fn syncd(&self) -> &Syncd {
        self.syncd.as_ref().expect("view-syncd has been started")
    }

    /// Returns the file with the output of a daemon.
    pub(super) fn log_file(&self, name: &str) -> PathBuf {
        self.stores.path().join(format!("{name}.log"))
    }

    /// Returns the command that reads the variables of all commands.
    pub(super) fn source(&self) -> String {
        self.exports.source()
    }

    /// Prints the ends of all logs, if anything was wrong.
    pub(super) fn show_logs_of_a_failure(&self) {
        if !self.report.is_good() {
            self.show_logs();
        }
    }

    /// Prints the ends of all logs.
    pub(super) fn show_logs(&self) {
        self.report.show_logs(self.stores.logs());
        let daemons = self.ingest.iter().map(|ingest| ("view-ingest", &ingest.daemon));
        let daemons = daemons.chain(self.syncd.iter().map(|syncd| ("view-syncd", &syncd.daemon)));
        self.report.show_logs(daemons.map(|(name, daemon)| (name.to_owned(), daemon.output().join("\n"))));
    }

    /// Stops both daemons, if they run, so that neither loses its stores before it has written everything into them.
    /// The stores follow.
    pub(super) async fn end(self) {
        if let Some(syncd) = &self.syncd {
            daemons::stop(&syncd.daemon).await;
        }
        if let Some(ingest) = &self.ingest {
            daemons::stop(&ingest.daemon).await;
        }
    }

    /// The documented port is nicer for people, where nobody has it.
    fn address(&self, documented: u16) -> String {
        let address = SocketAddr::from(([127, 0, 0, 1], documented));
        if !self.once && TcpListener::bind(address).is_ok() { address.to_string() } else { ANY_PORT.to_owned() }
    }
}

/// Returns the header with a token's variable; nothing for an anonymous request.
pub(super) fn authorization(token: &str) -> String {
    if token.is_empty() { String::new() } else { format!(" -H \"Authorization: Bearer ${token}\"") }
}
