//! Viewers: they view single posts and many at once, they read counts, they click twice, and they ask again when no
//! answer comes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::http;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    bounds::{self, Bounds},
    history::History,
    random::Random,
    world::{Nature, Viewer, World},
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
    times: Times,
}

/// How long clients do what.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    /// They begin nothing new after this.
    pub(crate) until: Instant,
    /// They give up asking again after this.
    pub(crate) give_up_at: Instant,
    /// Until then, in milliseconds of the history, every count has to be true.
    pub(crate) counts_until_ms: u128,
}

/// What a client wants.
enum Wish<'a> {
    View(&'a Viewer, Vec<String>),
    Read(String),
}

impl Wish<'_> {
    fn posts(&self) -> &[String] {
        match self {
            Self::View(_, posts) => posts,
            Self::Read(post) => std::slice::from_ref(post),
        }
    }
}

/// Starts the clients.
pub(crate) fn start(seed: u64, world: &Arc<World>, history: &Arc<History>, doors: &[SocketAddr], times: Times) -> JoinSet<()> {
    let client = |number| Client {
        number,
        world: Arc::clone(world),
        history: Arc::clone(history),
        doors: doors.iter().map(|door| http::Client::new(*door)).collect(),
        random: Random::stream(seed, 1_000_000 + number),
        times,
    };
    (0..CLIENTS).map(|number| client(number).run()).collect()
}

impl Client {
    async fn run(mut self) {
        let world = Arc::clone(&self.world);
        while Instant::now() < self.times.until {
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
        let post = self.post(world);
        match self.random.place(100) {
            0..58 => Wish::View(viewer, vec![post]),
            58..88 => {
                let number = self.random.between(2, MAX_BATCH);
                let mut posts: Vec<String> = (0..number).map(|_| self.post(world)).collect();
                if self.random.percent(10) {
                    posts.push(world.unknown[self.random.place(world.unknown.len())].clone());
                }
                Wish::View(viewer, posts)
            }
            88..92 => {
                let author = world.post(&post).and_then(|post| world.viewers.iter().find(|viewer| viewer.id == post.authors[0]));
                Wish::View(author.unwrap_or(viewer), vec![post])
            }
            92..95 => Wish::View(viewer, vec![world.unknown[self.random.place(world.unknown.len())].clone()]),
            _ => Wish::Read(post),
        }
    }

    /// Mostly a post that the application does not change. Of all of them, the first ones far more often.
    fn post(&mut self, world: &World) -> String {
        let posts = if self.random.percent(15) { world.changing() } else { world.kept() };
        posts[self.random.skewed_place(posts.len())].id.clone()
    }

    /// Asks until there is an answer, here or at the other view-ingest.
    async fn insist(&mut self, first: usize, wish: &Wish<'_>) {
        let mut door = first;
        while !self.ask(door, wish).await {
            if Instant::now() > self.times.give_up_at {
                self.history.answered("never answered");
                return;
            }
            sleep(Duration::from_millis(self.random.between(10, LONGEST_RETRY_PAUSE_MS))).await;
            door = self.random.place(self.doors.len());
        }
    }

    /// Asks once. Gives whether that was answered for good.
    async fn ask(&self, door: usize, wish: &Wish<'_>) -> bool {
        let posts = wish.posts();
        let viewer = if let Wish::View(viewer, _) = wish { Some(viewer.id.as_str()) } else { None };
        let bounds = Bounds::new(&self.world, &self.history, self.times.counts_until_ms, posts);
        let began_ms = self.history.now_ms();
        self.history.begins(viewer, posts);
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
        let told = match &answer {
            Ok(response) => json!({ "status": response.status, "body": response.body }),
            Err(error) => json!({ "lost": error }),
        };
        let (client, ended_ms) = (self.number, self.history.now_ms());
        let operation = json!({ "client": client, "door": door + 1, "began_ms": u64::try_from(began_ms).unwrap_or(0),
            "ended_ms": u64::try_from(ended_ms).unwrap_or(0), "viewer": viewer, "posts": posts, "answer": told });
        self.history.operation(&operation);
        let is_answered = match answer {
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
                let answer = Answer { client: self, bounds, viewer, posts, began_ms };
                if let Err(text) = answer.take(response.status, &body) {
                    self.history.violation(format!("ANSWER: {text}: {operation}"));
                }
                true
            }
        };
        self.history.ends(viewer, posts);
        is_answered
    }
}

/// An answer, with what it was asked for. The errors say what is wrong with it.
struct Answer<'a> {
    client: &'a Client,
    bounds: Bounds<'a>,
    viewer: Option<&'a str>,
    posts: &'a [String],
    began_ms: u128,
}

impl Answer<'_> {
    fn take(&self, status: u16, body: &Value) -> Result<(), String> {
        if let [post] = self.posts {
            let verdict = body["status"].as_str();
            return match status {
                200 => self.one(post, verdict, body),
                404 => self.one(post, Some("not_found"), body),
                _ => Err("an unexpected status".to_owned()),
            };
        }
        let results = body["results"].as_array().filter(|_| status == 200).ok_or("an unexpected answer to a batch")?;
        if self.posts.iter().any(|post| !results.iter().any(|result| result["postId"] == **post)) {
            return Err("a post is missing from the answer".to_owned());
        }
        results
            .iter()
            .try_for_each(|result| self.one(result["postId"].as_str().unwrap_or_default(), result["status"].as_str(), result))
    }

    /// Takes in what is said of one post.
    fn one(&self, post: &str, verdict: Option<&str>, body: &Value) -> Result<(), String> {
        let Client { world, history, .. } = self.client;
        let known = world.post(post);
        if verdict == Some("not_found") {
            // Of a post that is created anew it may not be known yet.
            let may_be_gone = known.is_none_or(|post| post.nature == Nature::Fleeting);
            return if may_be_gone { Ok(()) } else { Err("a post that exists is not found".to_owned()) };
        }
        self.bounds.check(post, body["viewsCount"].as_i64())?;
        let Some(viewer) = self.viewer else { return Ok(()) };
        match verdict {
            Some(verdict @ ("counted" | "duplicate")) => {
                let pair = (post.to_owned(), viewer.to_owned());
                if verdict == "counted" && known.is_some_and(|post| post.nature == Nature::Fleeting) {
                    history.new_view(pair.clone(), self.began_ms);
                }
                history.acknowledged(pair, bounds::is_counted(world, post, viewer));
                Ok(())
            }
            Some("own") if known.is_some_and(|post| post.may_be_by(viewer)) => Ok(()),
            Some("own") => Err("somebody else is taken for the author".to_owned()),
            _ => Err("an unexpected verdict".to_owned()),
        }
    }
}
