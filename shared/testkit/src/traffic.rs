//! Viewers who keep a server busy while a test does something to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::http::{Client, Response};
use crate::{eventually, tokens};

/// Between two views of a client: the test's machine has other things to do as well.
const PAUSE: Duration = Duration::from_millis(5);
/// Far longer than any outage that a test makes.
const DEADLINE: Duration = Duration::from_secs(60);

/// Clients that view posts one after the other. Every second one keeps its connection, the others open a new one for
/// each view. Every view is by another viewer, whose id is a number that grows with time. It belongs to the runtime
/// that it was started in.
pub struct Traffic {
    shared: Arc<Shared>,
    clients: JoinSet<Vec<View>>,
}

struct Shared {
    secret: String,
    posts: Vec<String>,
    viewers: AtomicU64,
    answered: AtomicUsize,
    over: AtomicBool,
}

/// A view that was tried once.
#[derive(Clone, Debug)]
pub struct View {
    /// The post.
    pub post: String,
    /// The viewer.
    pub viewer: u64,
    /// The answer, or why there was none.
    pub answer: Result<Response, String>,
}

impl View {
    /// Returns whether the server has said that the view is counted, or that it had been before.
    pub fn is_acknowledged(&self) -> bool {
        self.answer.as_ref().is_ok_and(|answer| answer.status == 200)
    }
}

impl Traffic {
    /// Starts a number of clients of a server, whose tokens are signed with a secret.
    pub fn start(server: SocketAddr, secret: &str, posts: impl IntoIterator<Item = String>, clients: usize) -> Self {
        let shared = Arc::new(Shared {
            secret: secret.to_owned(),
            posts: posts.into_iter().collect(),
            viewers: AtomicU64::new(0),
            answered: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let client = |number| if number % 2 == 0 { Client::new(server) } else { Client::without_keep_alive(server) };
        let clients = (0..clients).map(|number| Arc::clone(&shared).run(client(number))).collect();
        Self { shared, clients }
    }

    /// Waits until a number of further views have been acknowledged.
    pub async fn goes_on(&self, views: usize) {
        let enough = self.shared.answered.load(Relaxed) + views;
        eventually("views are acknowledged", DEADLINE, async || self.shared.answered.load(Relaxed) >= enough).await;
    }

    /// All views from now on are by viewers with this number or a greater one.
    pub fn next_viewer(&self) -> u64 {
        self.shared.viewers.load(Relaxed) + 1
    }

    /// Lets every client finish its last view, and returns all views.
    pub async fn stop(mut self) -> Vec<View> {
        self.shared.over.store(true, Relaxed);
        let mut views = Vec::new();
        while let Some(more) = self.clients.join_next().await {
            views.extend(more.expect("a client does not panic"));
        }
        views
    }
}

impl Shared {
    async fn run(self: Arc<Self>, client: Client) -> Vec<View> {
        let mut views = Vec::new();
        while !self.over.load(Relaxed) {
            let viewer = self.viewers.fetch_add(1, Relaxed) + 1;
            let post = self.posts[usize::try_from(viewer).expect("a small number") % self.posts.len()].clone();
            let view = view(&client, &self.secret, &post, viewer).await;
            self.answered.fetch_add(usize::from(view.is_acknowledged()), Relaxed);
            views.push(view);
            sleep(PAUSE).await;
        }
        views
    }
}

/// Views a post once, whatever comes of it.
pub async fn view(client: &Client, secret: &str, post: &str, viewer: u64) -> View {
    let token = tokens::hs256(secret, &viewer.to_string());
    let answer = client.try_post_json("/posts/view", Some(&token), &json!({ "postId": post })).await;
    View { post: post.to_owned(), viewer, answer }
}
