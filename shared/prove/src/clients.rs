//! Viewers: they view single posts and many at once, they read counts, they click twice, and they ask again when no answer comes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::http;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    history::History,
    random::Random,
    world::{Viewer, World},
};

/// Clients at work at the same time.
const CLIENTS: u64 = 24;
/// The longest pause of a client between two operations.
const LONGEST_PAUSE_MS: u64 = 50;
/// The longest pause before a client asks again.
const LONGEST_RETRY_PAUSE_MS: u64 = 300;
/// A client does not wait longer for an answer.
const PATIENCE: Duration = Duration::from_secs(4);
const MAX_BATCH: u64 = 8;

struct Client {
    number: u64,
    world: Arc<World>,
    history: Arc<History>,
    doors: Vec<http::Client>,
    random: Random,
    give_up_at: Instant,
}

/// What a client wants.
enum Wish<'a> {
    View(&'a Viewer, Vec<String>),
    Read(String),
}

/// Starts the clients. They begin nothing new after `until`, and give up asking again after `give_up_at`.
pub(crate) fn start(
    seed: u64,
    world: &Arc<World>,
    history: &Arc<History>,
    doors: &[SocketAddr],
    until: Instant,
    give_up_at: Instant,
) -> JoinSet<()> {
    let client = |number| Client {
        number,
        world: Arc::clone(world),
        history: Arc::clone(history),
        doors: doors.iter().map(|door| http::Client::new(*door)).collect(),
        random: Random::stream(seed, 1_000_000 + number),
        give_up_at,
    };
    (0..CLIENTS).map(|number| client(number).run(until)).collect()
}

impl Client {
    async fn run(mut self, until: Instant) {
        let world = Arc::clone(&self.world);
        while Instant::now() < until {
            sleep(Duration::from_millis(self.random.between(1, LONGEST_PAUSE_MS))).await;
            let wish = self.wish(&world);
            if let Wish::View(viewer, posts) = &wish {
                self.history.attempted(posts.iter().map(|post| (post.clone(), viewer.id.clone())));
            }
            let first = self.random.place(self.doors.len());
            if self.random.percent(8) {
                // Twice at once, through two view-ingests.
                let other = (first + 1) % self.doors.len();
                tokio::join!(self.ask(first, &wish), self.ask(other, &wish));
            }
            self.insist(first, &wish).await;
        }
    }

    fn wish<'a>(&mut self, world: &'a World) -> Wish<'a> {
        let viewer = &world.viewers[self.random.place(world.viewers.len())];
        let post = world.posts[self.random.skewed_place(world.posts.len())].id.clone();
        match self.random.place(100) {
            0..58 => Wish::View(viewer, vec![post]),
            58..88 => {
                let number = self.random.between(2, MAX_BATCH);
                let mut posts: Vec<String> =
                    (0..number).map(|_| world.posts[self.random.skewed_place(world.posts.len())].id.clone()).collect();
                if self.random.percent(10) {
                    posts.push(world.unknown[self.random.place(world.unknown.len())].clone());
                }
                Wish::View(viewer, posts)
            }
            88..92 => {
                let author = world.author(&post).and_then(|author| world.viewers.iter().find(|viewer| viewer.id == author));
                Wish::View(author.unwrap_or(viewer), vec![post])
            }
            92..95 => Wish::View(viewer, vec![world.unknown[self.random.place(world.unknown.len())].clone()]),
            _ => Wish::Read(post),
        }
    }

    /// Asks until there is an answer, here or at the other view-ingest.
    async fn insist(&mut self, first: usize, wish: &Wish<'_>) {
        let mut door = first;
        while !self.ask(door, wish).await {
            if Instant::now() > self.give_up_at {
                self.history.answered("never answered");
                return;
            }
            sleep(Duration::from_millis(self.random.between(10, LONGEST_RETRY_PAUSE_MS))).await;
            door = self.random.place(self.doors.len());
        }
    }

    /// Asks once. Gives whether that was answered for good.
    async fn ask(&self, door: usize, wish: &Wish<'_>) -> bool {
        let began_ms = self.history.now_ms();
        let client = &self.doors[door];
        let exchange = async {
            match wish {
                Wish::View(viewer, posts) => {
                    let (path, body) = match posts.as_slice() {
                        [post] => ("/posts/view", json!({ "postId": post })),
                        posts => ("/posts/views-batch", json!({ "postIds": posts })),
                    };
                    client.try_post_json(path, Some(&viewer.token), &body).await
                }
                Wish::Read(post) => client.try_request("GET", &format!("/posts/{post}/views"), &[], "").await,
            }
        };
        let answer = timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let (viewer, posts) = match wish {
            Wish::View(viewer, posts) => (Some(viewer.id.as_str()), posts.as_slice()),
            Wish::Read(post) => (None, std::slice::from_ref(post)),
        };
        let told = match &answer {
            Ok(response) => json!({ "status": response.status, "body": response.body }),
            Err(error) => json!({ "lost": error }),
        };
        let (client, ended_ms) = (self.number, self.history.now_ms());
        let operation = json!({ "client": client, "door": door + 1, "began_ms": u64::try_from(began_ms).unwrap_or(0),
            "ended_ms": u64::try_from(ended_ms).unwrap_or(0), "viewer": viewer, "posts": posts, "answer": told });
        self.history.operation(&operation);
        match answer {
            Err(_) => {
                self.history.answered("unknown outcome");
                false
            }
            Ok(response) if response.status >= 500 => {
                self.history.answered("refused");
                false
            }
            Ok(response) => {
                self.history.answered("answered");
                let body = serde_json::from_str(&response.body).unwrap_or(Value::Null);
                if let Err(text) = self.take(response.status, &body, viewer, posts) {
                    self.history.violation(format!("ANSWER: {text}: {operation}"));
                }
                true
            }
        }
    }

    /// Takes an answer in. The error says what is wrong with it.
    fn take(&self, status: u16, body: &Value, viewer: Option<&str>, posts: &[String]) -> Result<(), String> {
        let Some(viewer) = viewer else {
            return if status == 200 { Ok(()) } else { Err("a post that exists has no count".to_owned()) };
        };
        if let [post] = posts {
            return match status {
                200 => self.verdict(post, viewer, body["status"].as_str()),
                404 => self.verdict(post, viewer, Some("not_found")),
                _ => Err("an unexpected status".to_owned()),
            };
        }
        let results = body["results"].as_array().filter(|_| status == 200).ok_or("an unexpected answer to a batch")?;
        if posts.iter().any(|post| !results.iter().any(|result| result["postId"] == **post)) {
            return Err("a post is missing from the answer".to_owned());
        }
        results
            .iter()
            .try_for_each(|result| self.verdict(result["postId"].as_str().unwrap_or_default(), viewer, result["status"].as_str()))
    }

    fn verdict(&self, post: &str, viewer: &str, verdict: Option<&str>) -> Result<(), String> {
        let author = self.world.author(post);
        match verdict {
            Some("counted" | "duplicate") => {
                self.history.acknowledged([(post.to_owned(), viewer.to_owned())]);
                Ok(())
            }
            Some("own") if author == Some(viewer) => Ok(()),
            Some("own") => Err("somebody else is taken for the author".to_owned()),
            Some("not_found") if author.is_none() => Ok(()),
            Some("not_found") => Err("a post that exists is not found".to_owned()),
            _ => Err("an unexpected verdict".to_owned()),
        }
    }
}
