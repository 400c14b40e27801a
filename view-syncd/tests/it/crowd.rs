//! Clients that view and read posts all the time, each new view by another viewer, and that hold every answer against
//! what has been sent and what has been acknowledged by then.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::{
    http::{Client, Response},
    process::Daemon,
    tokens,
};
use tokio::task::JoinSet;

use crate::support::SECRET;

/// How long a crowd is busy.
pub(crate) const LOAD: Duration = Duration::from_secs(5);
/// Those who only read.
const READERS: usize = 4;
/// Above the ids that tests give to authors.
const FIRST_VIEWER: i64 = 1_000_000;
/// How long view-syncd waits for a view-ingest that has written to the outbox and not to `recorded` yet.
const GRACE: Duration = Duration::from_secs(2);
/// Wrong answers that are kept for the report.
const MOST_REPORTED: usize = 10;

/// How viewers view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Once, at one process.
    Once,
    /// At two processes at the same moment.
    Twice,
    /// All posts in one request.
    Batch,
}

/// A crowd at work. It belongs to the runtime that it was started in.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

struct Shared {
    posts: Vec<Post>,
    processes: Vec<SocketAddr>,
    viewers: AtomicI64,
    answers: AtomicI64,
    failures: AtomicI64,
    /// How long the slowest answer took, in milliseconds.
    slowest_ms: AtomicU64,
    over: AtomicBool,
    above_sent: Mutex<Vec<String>>,
    below_acknowledged: Mutex<Vec<String>>,
    /// How far an answer may be above what was sent, or below what was acknowledged.
    off: i64,
}

/// What has become of the views of a post.
struct Post {
    id: String,
    /// Viewers whose view has been sent.
    sent: AtomicI64,
    /// Viewers whose view has been acknowledged.
    acknowledged: AtomicI64,
}

/// What a crowd has seen.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Of each post: the viewers whose view was sent, and those whose view was acknowledged.
    pub(crate) posts: Vec<(String, i64, i64)>,
    pub(crate) answers: i64,
    pub(crate) failures: i64,
    /// How long the slowest answer took.
    pub(crate) slowest: Duration,
    /// Answers above what was sent.
    pub(crate) above_sent: Vec<String>,
    /// Answers below what was acknowledged.
    pub(crate) below_acknowledged: Vec<String>,
}

impl Seen {
    /// Demands that no answer was wrong. `ingests` are the processes that were asked. Where the machine was so slow
    /// that one of them has found Redis away, it has told what PostgreSQL has, which may be less than what was
    /// acknowledged; and what it had sent to Redis by then may have been carried out beside what it stored past it,
    /// which is once too often until the drain has seen both.
    #[track_caller]
    pub(crate) fn is_true<'a>(&self, ingests: impl IntoIterator<Item = &'a Daemon>) {
        println!("{} answers, {} failures, {:?} at most, {:?}", self.answers, self.failures, self.slowest, self.posts);
        let past_redis = ingests.into_iter().any(|ingest| !ingest.lines_with("Redis does not take views").is_empty());
        assert!(
            past_redis || self.has_outlasted_the_grace() || self.above_sent.is_empty(),
            "of {} answers: {:#?}",
            self.answers,
            self.above_sent
        );
        assert!(past_redis || self.below_acknowledged.is_empty(), "of {} answers: {:#?}", self.answers, self.below_acknowledged);
        assert!(self.answers > 100, "{self:?}");
    }
}

impl Seen {
    /// Returns whether a process may have been held up while it recorded, for longer than it is waited for. What it
    /// adds to `recorded` then counts once too often until the leader's next scan; nothing is too low.
    pub(crate) fn has_outlasted_the_grace(&self) -> bool {
        self.slowest >= GRACE
    }
}

impl Crowd {
    /// Starts clients of some processes, that view posts which nobody has viewed yet.
    pub(crate) fn start(processes: &[SocketAddr], posts: &[&str], clients: usize, habit: Habit) -> Self {
        // A viewer whom two processes record at the same moment is counted twice until the slower one has taken that
        // back, in its next step; and not at all, where the drain is faster than the slower one: as many as are under
        // way, twice each. At rest, counts are exact.
        let off = if habit == Habit::Twice { 2 * clients as i64 } else { 0 };
        let post = |id: &&str| Post { id: (*id).to_owned(), sent: AtomicI64::new(0), acknowledged: AtomicI64::new(0) };
        let shared = Arc::new(Shared {
            posts: posts.iter().map(post).collect(),
            processes: processes.to_vec(),
            viewers: AtomicI64::new(FIRST_VIEWER),
            answers: AtomicI64::new(0),
            failures: AtomicI64::new(0),
            slowest_ms: AtomicU64::new(0),
            over: AtomicBool::new(false),
            above_sent: Mutex::default(),
            below_acknowledged: Mutex::default(),
            off,
        });
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            tasks.spawn(Arc::clone(&shared).view_on(number, habit));
        }
        for number in 0..READERS {
            tasks.spawn(Arc::clone(&shared).read_on(number));
        }
        Self { shared, clients: tasks }
    }

    /// Lets every client finish, and returns what they have seen.
    pub(crate) async fn stop(mut self) -> Seen {
        self.shared.over.store(true, SeqCst);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client does not panic");
        }
        let Shared { posts, answers, failures, slowest_ms, above_sent, below_acknowledged, .. } = &*self.shared;
        let posts = posts.iter().map(|post| (post.id.clone(), post.sent.load(SeqCst), post.acknowledged.load(SeqCst)));
        Seen {
            posts: posts.collect(),
            answers: answers.load(SeqCst),
            failures: failures.load(SeqCst),
            slowest: Duration::from_millis(slowest_ms.load(SeqCst)),
            above_sent: above_sent.lock().unwrap().clone(),
            below_acknowledged: below_acknowledged.lock().unwrap().clone(),
        }
    }
}

impl Shared {
    async fn view_on(self: Arc<Self>, number: usize, habit: Habit) {
        let clients: Vec<Client> = self.processes.iter().map(|address| Client::new(*address)).collect();
        let mut turn = number;
        while !self.over.load(SeqCst) {
            turn += 1;
            let viewer = self.viewers.fetch_add(1, SeqCst).to_string();
            let token = tokens::hs256(SECRET, &viewer);
            let client = &clients[turn % clients.len()];
            let post = &self.posts[turn / clients.len() % self.posts.len()];
            match habit {
                Habit::Once => self.view(&[client], &token, &[post]).await,
                Habit::Twice => self.view(&[client, &clients[(turn + 1) % clients.len()]], &token, &[post]).await,
                Habit::Batch => self.view(&[client], &token, &self.posts.iter().collect::<Vec<_>>()).await,
            }
        }
    }

    /// One viewer views posts, at one process or at several at once.
    async fn view(&self, clients: &[&Client], token: &str, posts: &[&Post]) {
        let before: Vec<i64> = posts.iter().map(|post| post.acknowledged.load(SeqCst)).collect();
        for post in posts {
            post.sent.fetch_add(1, SeqCst);
        }
        let ask = async |client: &Client| {
            let asked = Instant::now();
            let answer = match posts {
                [post] => client.try_post_json("/posts/view", Some(token), &json!({ "postId": post.id })).await,
                _ => {
                    let ids: Vec<&str> = posts.iter().map(|post| post.id.as_str()).collect();
                    client.try_post_json("/posts/views-batch", Some(token), &json!({ "postIds": ids })).await
                }
            };
            self.check(answer, asked, posts, &before)
        };
        let answers = futures_util::future::join_all(clients.iter().map(|client| ask(client))).await;
        if answers.contains(&true) {
            for post in posts {
                post.acknowledged.fetch_add(1, SeqCst);
            }
        }
    }

    async fn read_on(self: Arc<Self>, number: usize) {
        let clients: Vec<Client> = self.processes.iter().map(|address| Client::new(*address)).collect();
        let all: Vec<&Post> = self.posts.iter().collect();
        let ids: Vec<&str> = all.iter().map(|post| post.id.as_str()).collect();
        let ids = ids.join(",");
        let mut turn = number;
        while !self.over.load(SeqCst) {
            turn += 1;
            let client = &clients[turn % clients.len()];
            let post = all[turn / clients.len() % all.len()];
            let path =
                if turn.is_multiple_of(3) { format!("/posts/views?ids={ids}") } else { format!("/posts/{}/views", post.id) };
            let asked = if turn.is_multiple_of(3) { all.clone() } else { vec![post] };
            let before: Vec<i64> = asked.iter().map(|post| post.acknowledged.load(SeqCst)).collect();
            let since = Instant::now();
            let answer = client.try_request("GET", &path, &[], "").await;
            self.check(answer, since, &asked, &before);
        }
    }

    /// Holds an answer about posts against what has been sent of each by now, and what had been acknowledged before.
    /// Returns whether it is an answer.
    fn check(&self, answer: Result<Response, String>, asked: Instant, posts: &[&Post], before: &[i64]) -> bool {
        self.answers.fetch_add(1, SeqCst);
        self.slowest_ms.fetch_max(asked.elapsed().as_millis() as u64, SeqCst);
        let Some(answer) = answer.ok().filter(|answer| answer.status == 200) else {
            self.failures.fetch_add(1, SeqCst);
            return false;
        };
        let body = answer.json();
        for (post, acknowledged) in posts.iter().zip(before) {
            let sent = post.sent.load(SeqCst);
            let least = acknowledged + i64::from(is_counted(&body, &post.id));
            let count = count(&body, &post.id);
            let wrong = match count {
                Some(count) if count > sent + self.off => &self.above_sent,
                Some(count) if count >= least - self.off => continue,
                _ => &self.below_acknowledged,
            };
            let mut wrong = wrong.lock().unwrap();
            if wrong.len() < MOST_REPORTED {
                wrong.push(format!("{count:?} views of {}, not {least}..={sent}: {body}", post.id));
            }
        }
        true
    }
}

/// What an answer says of a post, whatever was asked.
fn result_of<'a>(body: &'a Value, post: &str) -> &'a Value {
    let results = body["results"].as_array();
    results.map_or(body, |results| results.iter().find(|result| result["postId"] == post).unwrap_or(&Value::Null))
}

fn count(body: &Value, post: &str) -> Option<i64> {
    result_of(body, post)["viewsCount"].as_i64().or_else(|| body["views"][post].as_i64())
}

fn is_counted(body: &Value, post: &str) -> bool {
    result_of(body, post)["status"] == "counted"
}
