//! What the browser meets: view-ingest on private stores, and sites beside it.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use testkit::http::Client;
use testkit::within;

use super::chromium::Chromium;
use super::pages;
use crate::daemons::{self, ANY_PORT, Ingest, migrate, program};
use crate::demo_page;
use crate::report::Report;
use crate::site::{Port, Site};
use crate::stores::Stores;

/// How long what a page has sent may take to be counted.
const COUNTED: Duration = Duration::from_secs(15);
/// The cookie with the token.
const COOKIE: &str = "token";
/// More than one person sends in these checks.
const VIEWER_RATE: &str = "300/1h";

/// All of it.
pub(super) struct Stage {
    pub(super) report: Report,
    pub(super) browser: Chromium,
    pub(super) stores: Stores,
    ingest: Ingest,
    site: Site,
    pub(super) demo: Site,
}

impl Stage {
    /// Starts everything. The pages of one site may send views.
    pub(super) async fn start(binaries: &Path) -> Self {
        let report = Report::in_full("browsers");
        report.headline("Starting private stores, view-ingest, a web site and Chromium");
        let (stores, browser) = tokio::join!(Stores::start(), Chromium::start());
        let (port, demo) = tokio::join!(Port::take(ANY_PORT), Port::take(ANY_PORT));
        pages::create_posts(&stores).await;
        let environment = stores.environment(&stores.database.url());
        migrate(binaries, &environment).await.unwrap_or_else(|reason| panic!("view-syncd migrate: {reason}"));
        let ingest = program(binaries, "view-ingest", &environment)
            .args(["--cors-origin", &origin("app.site.test", port.address().port())])
            .args(["--cors-origin", &demo_page::origins(demo.address())])
            .args(["--jwt-cookie", COOKIE, "--viewer-rate", VIEWER_RATE]);
        let ingest = Ingest::start(ingest, ANY_PORT, ANY_PORT).await;
        let views = origin("views.site.test", ingest.public.port());
        let site = port.show(move |path| pages::of(path, &views));
        let demo = demo_page::show(demo, &stores, ingest.public).await;
        Self { report, browser, stores, ingest, site, demo }
    }

    /// Returns the address of a page by the name of its site. All sites show the same pages, but only `app.site.test`
    /// may send views. `other.site.test` is of the same site to a browser, which sends it the same cookies.
    pub(super) fn url(&self, host: &str, path: &str) -> String {
        format!("{}{path}", origin(host, self.site.address.port()))
    }

    /// Returns where views go, as pages know it.
    pub(super) fn views_url(&self) -> String {
        origin("views.site.test", self.ingest.public.port())
    }

    /// Opens a page.
    pub(super) async fn open(&self, host: &str, path: &str) {
        self.browser.open(&self.url(host, path)).await;
    }

    /// Gives the pages of `site.test` a token in a cookie. The page that is open must be one of them.
    ///
    /// It says nothing of other sites, and is new: so it comes along even with forms of other sites.
    pub(super) async fn set_cookie(&self, viewer: &str) {
        let token = self.stores.token(viewer);
        self.browser.run(&format!("document.cookie = '{COOKIE}={token}; domain=site.test; path=/'")).await;
    }

    /// Has view-ingest answer nobody, or go on.
    pub(super) fn pause(&self, is_paused: bool) {
        self.ingest.daemon.signal(if is_paused { "STOP" } else { "CONT" });
    }

    /// Checks what a script of the page that is open returns.
    pub(super) async fn check_script(&mut self, what: &str, expected: &Value, script: &str) {
        let found = self.browser.run(script).await;
        self.report.check(what, expected, found);
    }

    /// Checks that a post comes to have so many views.
    pub(super) async fn check_count(&mut self, what: &str, post: &str, count: i64) {
        let counted = within(COUNTED, async || self.count(post).await == count).await;
        let found = self.count(post).await;
        self.report.holds(what, counted.map_err(|_| format!("{post} has {found} views instead of {count}")));
    }

    /// Returns a post's live count.
    pub(super) async fn count(&self, post: &str) -> i64 {
        let answer = Client::new(self.ingest.public).get(&format!("/posts/{post}/views")).await;
        answer.json()["viewsCount"].as_i64().unwrap_or(-1)
    }

    /// Returns how many requests view-ingest has refused for where they came from.
    pub(super) async fn refused_origins(&self) -> u64 {
        let metrics = Client::new(self.ingest.admin).get("/metrics").await.body;
        let name = "view_ingest_tokens_refused_total{reason=\"origin\"} ";
        metrics.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or_default()
    }

    /// Ends everything and returns the exit status.
    pub(super) async fn end(mut self) -> u8 {
        self.browser.quit().await;
        let status = daemons::stop(&self.ingest.daemon).await;
        self.report.check("exit status of view-ingest", 0, status);
        if !self.report.is_good() {
            self.report.show_logs([("view-ingest".to_owned(), self.ingest.daemon.output().join("\n"))]);
        }
        self.report.verdict()
    }
}

fn origin(host: &str, port: u16) -> String {
    format!("http://{host}:{port}")
}
