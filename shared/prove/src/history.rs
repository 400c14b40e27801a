//! What happened: on the screen, in the folder that is kept when the proof fails, and as numbers for the end.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde_json::Value;

use crate::verify::{Asked, Pair, Violation};

/// The history of one run.
pub(crate) struct History {
    started: Instant,
    folder: PathBuf,
    state: Mutex<State>,
}

struct State {
    events: BufWriter<File>,
    operations: BufWriter<File>,
    asked: Asked,
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
            violations: Vec::new(),
            injected: BTreeMap::new(),
            answers: BTreeMap::new(),
        };
        Self { started: Instant::now(), folder, state: Mutex::new(state) }
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
        self.lock().asked.attempted.extend(pairs);
    }

    /// Notes what a client was told to be counted.
    pub(crate) fn acknowledged(&self, pairs: impl IntoIterator<Item = Pair>) {
        self.lock().asked.acknowledged.extend(pairs);
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

    /// What the clients did.
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
            "injected:   {injected}\nrequests:   {answers}\nviews:      attempted {}, acknowledged {}",
            state.asked.attempted.len(),
            state.asked.acknowledged.len()
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
