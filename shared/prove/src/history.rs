//! What happened: on the screen, in the folder that is kept when the proof fails, and as numbers for the end.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use serde_json::Value;

use self::repetitions::Repetitions;
use crate::verify::{Asked, Pair, Violation};

mod repetitions;

/// The history of one run.
pub(crate) struct History {
    started: Instant,
    folder: PathBuf,
    state: Mutex<State>,
    /// Counts in answers that were held against what was sent and acknowledged.
    checked: AtomicU64,
    had_policy: AtomicBool,
}

struct State {
    events: BufWriter<File>,
    operations: BufWriter<File>,
    asked: Asked,
    /// Distinct viewers of each post that were sent.
    sent: HashMap<String, i64>,
    /// Views that are asked for at this moment.
    repetitions: Repetitions,
    /// Acknowledged views of each post that all counts have to have.
    counted: HashMap<String, i64>,
    violations: Vec<Violation>,
    injected: BTreeMap<String, u64>,
    answers: BTreeMap<&'static str, u64>,
}

impl History {
    /// Makes the folder.
    pub(crate) fn new(seed: u64) -> Self {
        let folder = std::env::temp_dir().join(format!("view-counter-prove-{seed}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        let file = |name: &str| BufWriter::new(File::create(folder.join(name)).expect("cannot write into a folder of our own"));
        let state = State {
            events: file("schedule.log"),
            operations: file("operations.jsonl"),
            asked: Asked::default(),
            sent: HashMap::new(),
            repetitions: Repetitions::default(),
            counted: HashMap::new(),
            violations: Vec::new(),
            injected: BTreeMap::new(),
            answers: BTreeMap::new(),
        };
        let (checked, had_policy) = (AtomicU64::default(), AtomicBool::default());
        Self { started: Instant::now(), folder, state: Mutex::new(state), checked, had_policy }
    }

    /// Where it is kept.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Milliseconds since the beginning.
    pub(crate) fn now_ms(&self) -> u128 {
        self.started.elapsed().as_millis()
    }

    /// Says something with its time.
    pub(crate) fn say(&self, text: impl std::fmt::Display) {
        let seconds = self.started.elapsed().as_secs_f64();
        let line = format!("{seconds:8.3} s  {text}");
        println!("{line}");
        // A full disk must not end the proof; the screen has it all.
        let _ = writeln!(self.lock().events, "{line}");
    }

    /// Notes an operation of a client.
    pub(crate) fn operation(&self, operation: &Value) {
        let _ = writeln!(self.lock().operations, "{operation}");
    }

    /// Notes how a request ended.
    pub(crate) fn answered(&self, how: &'static str) {
        *self.lock().answers.entry(how).or_default() += 1;
    }

    /// Notes what is about to be sent.
    pub(crate) fn attempted(&self, pairs: impl IntoIterator<Item = Pair>) {
        let mut state = self.lock();
        for pair in pairs {
            if !state.asked.attempted.contains(&pair) {
                *state.sent.entry(pair.0.clone()).or_default() += 1;
                state.asked.attempted.insert(pair);
            }
        }
    }

    /// Notes that views are about to be asked for.
    pub(crate) fn begins(&self, viewer: Option<&str>, posts: &[String]) {
        let mut state = self.lock();
        for pair in posts.iter().filter_map(|post| Some((post.clone(), viewer?.to_owned()))) {
            state.repetitions.begins(pair);
        }
    }

    /// Notes that they are not under way any more.
    pub(crate) fn ends(&self, viewer: Option<&str>, posts: &[String]) {
        let mut state = self.lock();
        for pair in posts.iter().filter_map(|post| Some((post.clone(), viewer?.to_owned()))) {
            state.repetitions.ends(pair);
        }
    }

    /// Returns how many repetitions of a post's views have begun and how many are over.
    pub(crate) fn repetitions(&self, post: &str) -> (i64, i64) {
        self.lock().repetitions.of(post)
    }

    /// Returns how many distinct viewers of a post have been sent so far.
    pub(crate) fn sent(&self, post: &str) -> i64 {
        self.lock().sent.get(post).copied().unwrap_or(0)
    }

    /// Notes what a client was told to be counted, now or before. `is_counted` tells whether all later counts have to
    /// have it.
    pub(crate) fn acknowledged(&self, pair: Pair, is_counted: bool) {
        let mut state = self.lock();
        if !state.asked.acknowledged.contains(&pair) {
            if is_counted {
                *state.counted.entry(pair.0.clone()).or_default() += 1;
            }
            state.asked.acknowledged.insert(pair);
        }
    }

    /// Returns how many of a post's acknowledged views all counts have to have.
    pub(crate) fn counted(&self, post: &str) -> i64 {
        self.lock().counted.get(post).copied().unwrap_or(0)
    }

    /// Notes that a view was new, of a post that the application deletes now and then: asked for then, in milliseconds.
    pub(crate) fn new_view(&self, pair: Pair, began_ms: u128) {
        self.lock().asked.new_views.insert(pair, began_ms);
    }

    /// Notes that the application is about to delete a post.
    pub(crate) fn deleted(&self, post: &str) {
        self.lock().asked.created_ms.insert(post.to_owned(), u128::MAX);
    }

    /// Notes that the post is there again.
    pub(crate) fn created(&self, post: &str) {
        let now_ms = self.now_ms();
        self.lock().asked.created_ms.insert(post.to_owned(), now_ms);
    }

    /// Notes that a count was looked at.
    pub(crate) fn checked(&self) {
        self.checked.fetch_add(1, Relaxed);
    }

    /// Notes that row level security is about to be in effect.
    pub(crate) fn note_policy(&self) {
        self.had_policy.store(true, Relaxed);
    }

    /// Returns whether row level security has been in effect.
    pub(crate) fn had_policy(&self) -> bool {
        self.had_policy.load(Relaxed)
    }

    /// Notes that something was broken.
    pub(crate) fn injected(&self, kind: impl Into<String>) {
        *self.lock().injected.entry(kind.into()).or_default() += 1;
    }

    /// Notes that something is wrong.
    pub(crate) fn violation(&self, text: impl Into<String>) {
        let violation = Violation::Other(text.into());
        self.say(format_args!("WRONG: {violation}"));
        self.lock().violations.push(violation);
    }

    /// Notes that a view is nowhere. There may be many, so only the first is said at once.
    pub(crate) fn lost(&self, violation: Violation) {
        if !self.lock().violations.iter().any(|known| matches!(known, Violation::Unstored(..))) {
            self.say(format_args!("WRONG: {violation}"));
        }
        self.lock().violations.push(violation);
    }

    /// Returns what the clients did.
    pub(crate) fn asked(&self) -> Asked {
        self.lock().asked.clone()
    }

    /// What has been wrong so far.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }

    /// Appends to a file in the folder.
    pub(crate) fn append(&self, name: &str, text: &str) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join(name));
        let _ = file.and_then(|mut file| file.write_all(text.as_bytes()));
    }

    /// What was injected and what the clients saw, in words.
    pub(crate) fn summary(&self) -> String {
        let state = self.lock();
        let list = |pairs: Vec<(&str, u64)>| {
            let words = pairs.iter().map(|(what, number)| format!("{what} {number}")).collect::<Vec<_>>();
            words.join(", ")
        };
        let injected = list(state.injected.iter().map(|(what, number)| (what.as_str(), *number)).collect());
        let answers = list(state.answers.iter().map(|(what, number)| (*what, *number)).collect());
        format!(
            "injected:   {injected}\nrequests:   {answers}\nviews:      attempted {}, acknowledged {}; {} counts were checked on the way",
            state.asked.attempted.len(),
            state.asked.acknowledged.len(),
            self.checked.load(Relaxed)
        )
    }

    /// Writes down everything that is still in memory.
    pub(crate) fn flush(&self) {
        let mut state = self.lock();
        let _ = state.events.flush();
        let _ = state.operations.flush();
    }

    /// Removes the folder.
    pub(crate) fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
