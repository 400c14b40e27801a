//! Viewers who come one after the other, without a pause, until they are told to stop.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::eventually;
use crate::http::Client;
use crate::tokens;

/// Between two views of one client. Enough views for every moment, and a busy machine still does something else.
const PAUSE: Duration = Duration::from_millis(10);
/// Each client's viewers have numbers of their own.
const VIEWERS_PER_CLIENT: usize = 1_000_000;
/// Views are taken again long before, after whatever the test does.
const PATIENCE: Duration = Duration::from_secs(60);

/// A post and its viewer.
pub type View = (String, String);

/// Clients that view posts, each view by another viewer. Dropping it stops them.
pub struct Load {
    acknowledged: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    clients: JoinSet<Report>,
}

/// What became of the views.
#[derive(Debug, Default)]
pub struct Report {
    /// The views that were answered with 200.
    pub acknowledged: HashSet<View>,
    /// The others, with the refusal. Nobody knows whether they were recorded.
    pub failed: Vec<(View, String)>,
}

impl Load {
    /// Starts clients, every other one of which opens a new connection for each view. Each has one view under way at a time.
    pub fn start(address: SocketAddr, secret: &str, posts: &[&str], clients: usize) -> Self {
        let load = Self { acknowledged: Arc::default(), stopping: Arc::default(), clients: JoinSet::new() };
        let posts: Vec<String> = posts.iter().map(|post| (*post).to_owned()).collect();
        (0..clients).fold(load, |mut load, number| {
            let http = if number % 2 == 0 { Client::new(address) } else { Client::without_keep_alive(address) };
            let (acknowledged, stopping) = (Arc::clone(&load.acknowledged), Arc::clone(&load.stopping));
            load.clients.spawn(view(http, number, secret.to_owned(), posts.clone(), acknowledged, stopping));
            load
        })
    }

    /// Waits until so many more views have been acknowledged.
    pub async fn goes_on(&self, views: usize) {
        let enough = self.acknowledged.load(Relaxed) + views;
        eventually("views are acknowledged", PATIENCE, || async { self.acknowledged.load(Relaxed) >= enough }).await;
    }

    /// Lets all clients end the view that they are at.
    pub async fn stop(mut self) -> Report {
        self.stopping.store(true, Relaxed);
        let mut all = Report::default();
        while let Some(report) = self.clients.join_next().await {
            let report = report.expect("a client does not panic");
            all.acknowledged.extend(report.acknowledged);
            all.failed.extend(report.failed);
        }
        all
    }
}

async fn view(
    http: Client,
    number: usize,
    secret: String,
    posts: Vec<String>,
    acknowledged: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
) -> Report {
    let mut report = Report::default();
    for post in posts.iter().cycle() {
        if stopping.load(Relaxed) {
            break;
        }
        let viewer = (number * VIEWERS_PER_CLIENT + report.acknowledged.len() + report.failed.len() + 1).to_string();
        let token = tokens::hs256(&secret, &viewer);
        let answer = http.try_post_json("/posts/view", Some(&token), &json!({ "postId": post })).await;
        let view = (post.clone(), viewer);
        match answer {
            Ok(answer) if answer.status == 200 => {
                report.acknowledged.insert(view);
                acknowledged.fetch_add(1, Relaxed);
            }
            Ok(answer) => report.failed.push((view, format!("{} {}", answer.status, answer.body))),
            Err(error) => report.failed.push((view, error)),
        }
        sleep(PAUSE).await;
    }
    report
}
