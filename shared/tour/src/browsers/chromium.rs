//! Chromium without a screen, by the few commands of the WebDriver protocol (W3C) that the checks need. They are JSON
//! over HTTP, for which the test kit has a client: a library for it would bring more crates than there are commands.

use std::path::Path;

use serde_json::{Value, json};
use testkit::http::Client;
use testkit::process::Daemon;
use testkit::scratch::Scratch;

const DRIVER: &str = "chromedriver";
const STARTED: &str = "started successfully on port ";
/// The whole name of what a session can be told to be.
const OPTIONS: &str = "goog:chromeOptions";

/// A browser with one window. It ends with its driver.
pub(super) struct Chromium {
    driver: Daemon,
    http: Client,
    session: String,
    _folder: Scratch,
}

impl Chromium {
    /// Starts it. All names below `test` are this machine's.
    ///
    /// # Panics
    /// When it does not start.
    pub(super) async fn start() -> Self {
        let folder = Scratch::new();
        let home = folder.path().display().to_string();
        let driver = Daemon::builder(Path::new(DRIVER)).arg("--port=0").env("HOME", &home).env("TMPDIR", &home).start();
        let line = driver.wait_for_line(STARTED).await;
        let port = line.split_once(STARTED).and_then(|(_, port)| port.trim_end_matches('.').parse::<u16>().ok());
        let http = Client::new(([127, 0, 0, 1], port.expect("the driver tells its port")).into());
        // The pages are our own, and root, who runs the checks in a container, has no sandbox.
        let arguments = [
            "--headless=new",
            // It ends when its driver does, however that ends.
            "--remote-debugging-pipe",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
            "--window-size=500,800",
            "--host-resolver-rules=MAP *.test 127.0.0.1",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": { OPTIONS: { "args": arguments } } } });
        let answer = http.post_json("/session", None, &wanted).await.json();
        let session = answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("Chromium does not start: {answer}"));
        Self { session: format!("/session/{session}"), driver, http, _folder: folder }
    }

    /// Opens a page and waits until it is loaded.
    pub(super) async fn open(&self, url: &str) {
        self.command("/url", json!({ "url": url })).await;
    }

    /// Runs a script in the page, which may await, and returns what it returns.
    pub(super) async fn run(&self, script: &str) -> Value {
        let script = format!("return (async () => {{ {script} }})()");
        self.command("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Opens a page in a window of its own, runs a script in it, and closes the window.
    pub(super) async fn run_and_close(&self, url: &str, script: &str) {
        let first = self.http.get(&format!("{}/window", self.session)).await.json()["value"].clone();
        let second = self.command("/window/new", json!({ "type": "tab" })).await["handle"].clone();
        self.command("/window", json!({ "handle": second })).await;
        self.open(url).await;
        self.run(script).await;
        self.http.request("DELETE", &format!("{}/window", self.session), &[], "").await;
        self.command("/window", json!({ "handle": first })).await;
    }

    /// Takes the network away, or gives it back.
    pub(super) async fn set_offline(&self, is_offline: bool) {
        // No limits of speed, which have to be named.
        let conditions = json!({ "offline": is_offline, "latency": 0, "download_throughput": -1, "upload_throughput": -1 });
        self.command("/chromium/network_conditions", json!({ "network_conditions": conditions })).await;
    }

    /// Ends it.
    pub(super) async fn quit(self) {
        self.http.request("DELETE", &self.session, &[], "").await;
        self.driver.signal("TERM");
        self.driver.wait_exit().await;
    }

    async fn command(&self, path: &str, body: Value) -> Value {
        let answer = self.http.post_json(&format!("{}{path}", self.session), None, &body).await;
        let value = answer.json()["value"].clone();
        assert_eq!(answer.status, 200, "{path} {body}: {value}");
        value
    }
}
