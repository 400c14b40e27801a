//! The load: `wrk` with one thread, and what it and the server did meanwhile.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use testkit::scratch::Scratch;
use tokio::process::Command;
use views_core::ticks;

use crate::{
    cpu,
    population::Population,
    workload::{Ask, Workload},
};

const SCRIPT: &str = include_str!("wrk.lua");
/// More requests than any server here answers in a second that stores something; with fewer, new views would come round
/// again.
const MAX_REQUESTS_PER_SECOND: usize = 100_000;
/// A batch is a hundred times the work.
const MAX_BATCHES_PER_SECOND: usize = 10_000;
/// How often the thread of the load is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A thread that is busier than this may be what limits the requests per second.
pub(crate) const BUSY: f64 = 0.95;

/// How a server wants to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `POST` with a token and JSON, as view-ingest's documentation has it.
    Json,
    /// The Redis command in the path, as webdis has it.
    Path,
}

/// A load that is ready to be sent.
pub(crate) struct Load {
    pub(crate) workload: Workload,
    folder: Scratch,
}

/// How much load, for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pressure {
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
}

/// What `wrk` has to say.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Answers {
    pub(crate) requests: u64,
    pub(crate) microseconds: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// Answers that were errors.
    refused: u64,
    /// Connections that broke.
    broken: u64,
    /// Answers that took longer than two seconds.
    late: u64,
    /// The share of the time in which the load's thread was at work.
    #[serde(skip)]
    pub(crate) busy: f64,
}

impl Load {
    /// Writes down who asks for what.
    pub(crate) fn new(population: &Population, workload: Workload, seconds: u64) -> anyhow::Result<Self> {
        let rate = if workload.views_per_request() == 1 { MAX_REQUESTS_PER_SECOND } else { MAX_BATCHES_PER_SECOND };
        let asks = workload.requests(population, rate * usize::try_from(seconds)?);
        let folder = Scratch::new();
        folder.write("plan", plan(&asks));
        for (dialect, name) in [(Dialect::Json, "json"), (Dialect::Path, "path")] {
            folder.write(&format!("{name}.viewers"), viewers(population, workload, dialect));
            folder.write(&format!("{name}.bodies"), bodies(population, workload, dialect));
        }
        folder.write("wrk.lua", SCRIPT);
        Ok(Self { workload, folder })
    }

    /// Sends it.
    pub(crate) async fn send(&self, address: SocketAddr, dialect: Dialect, pressure: Pressure) -> anyhow::Result<Answers> {
        let path = |name: &str| -> PathBuf { self.folder.path().join(name) };
        let prefix = if dialect == Dialect::Json { "json" } else { "path" };
        let child = Command::new("wrk")
            .args(["-t1", "-c", &pressure.connections.to_string(), "-d", &format!("{}s", pressure.seconds), "-s"])
            .arg(path("wrk.lua"))
            .arg(format!("http://{address}/"))
            .env("LOAD_PLAN", path("plan"))
            .env("LOAD_VIEWERS", path(&format!("{prefix}.viewers")))
            .env("LOAD_BODIES", path(&format!("{prefix}.bodies")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start wrk")?;
        let pid = child.id().context("wrk has ended")?;
        let work = child.wait_with_output();
        tokio::pin!(work);
        let mut looks = Looks::default();
        let mut clock = ticks::every(LOOK_INTERVAL);
        let output = loop {
            tokio::select! {
                output = &mut work => break output?,
                _ = clock.tick() => looks.look(pid),
            }
        };
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "wrk failed ({}): {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
        let mut answers = read(&text)?;
        answers.busy = looks.busy();
        Ok(answers)
    }
}

impl Answers {
    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 * 1e6 / self.microseconds as f64
    }
}

/// Finds the result among what `wrk` prints, and takes nothing but good answers.
fn read(output: &str) -> anyhow::Result<Answers> {
    let line =
        output.lines().find_map(|line| line.strip_prefix("RESULT ")).with_context(|| format!("wrk has no result: {output}"))?;
    let answers: Answers = serde_json::from_str(line).context("wrk's result cannot be read")?;
    let Answers { requests, refused, broken, late, .. } = answers;
    if refused + broken + late > 0 || requests == 0 {
        bail!("of {requests} requests {refused} were refused, {broken} broke off, and {late} took longer than two seconds");
    }
    Ok(answers)
}

/// What the thread of the load had used at which time.
#[derive(Default)]
struct Looks(Vec<(Instant, Duration)>);

impl Looks {
    fn look(&mut self, pid: u32) {
        // The first thread only waits. The other one comes after the preparations, and goes before the process.
        if let Some((_, used)) =
            cpu::used_by_helpers(pid).ok().and_then(|threads| threads.into_iter().max_by_key(|(_, used)| *used))
        {
            self.0.push((Instant::now(), used));
        }
    }

    /// Returns the share of time at work, between the first look and the last.
    fn busy(&self) -> f64 {
        match (self.0.first(), self.0.last()) {
            (Some((began, before)), Some((ended, after))) if ended > began => {
                after.saturating_sub(*before).as_secs_f64() / (*ended - *began).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

fn plan(asks: &[Ask]) -> String {
    asks.iter().fold(String::with_capacity(asks.len() * 11), |mut text, Ask { viewer, body }| {
        // A string takes whatever is written to it.
        let _ = writeln!(text, "{viewer} {body}");
        text
    })
}

/// What is around the body, for each viewer.
fn viewers(population: &Population, workload: Workload, dialect: Dialect) -> String {
    let (path, length) = match workload.views_per_request() {
        1 => ("/posts/view", json(&population.posts[..1]).len()),
        posts => ("/posts/views-batch", json(&population.posts[..posts]).len()),
    };
    let line = |viewer: &crate::population::Viewer| match dialect {
        Dialect::Json => format!("{}\t\n", head(path, &viewer.token, length).replace("\r\n", "\\r\\n")),
        Dialect::Path => format!("GET /SADD/post:\t{} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n\n", viewer.id),
    };
    population.viewers.iter().map(line).collect()
}

fn bodies(population: &Population, workload: Workload, dialect: Dialect) -> String {
    let line = |posts: &[String]| match dialect {
        Dialect::Json => format!("{}\n", json(posts)),
        Dialect::Path => format!("{}:views/\n", posts[0]),
    };
    workload.bodies(population).map(line).collect()
}

/// Returns the head of a request.
pub(crate) fn head(path: &str, token: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// Returns the body of a request: one post, or several.
pub(crate) fn json(posts: &[String]) -> String {
    match posts {
        [post] => format!(r#"{{"postId":"{post}"}}"#),
        posts => format!(r#"{{"postIds":["{}"]}}"#, posts.join(r#"",""#)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 16 connections\n\
        RESULT {\"requests\":30000,\"microseconds\":2000000,\"p50\":400,\"p99\":900,\"max\":3100,\"refused\":0,\"broken\":0,\"late\":0}\n";

    #[test]
    fn the_result_is_found_in_the_output() {
        let answers = read(GOOD).unwrap();
        assert_eq!([answers.rate(), answers.p50, answers.p99, answers.max], [15_000.0, 400.0, 900.0, 3_100.0]);
    }

    #[test]
    fn anything_but_good_answers_is_no_result() {
        for (what, instead) in
            [("refused\":0", "refused\":1"), ("broken\":0", "broken\":2"), ("late\":0", "late\":3"), ("30000", "0")]
        {
            assert!(read(&GOOD.replace(what, instead)).is_err(), "{instead}");
        }
        assert!(read("unable to connect to 127.0.0.1:1 Connection refused\n").is_err());
    }

    #[test]
    fn bodies_are_what_the_servers_document() {
        let posts = ["a".to_owned(), "b".to_owned()];
        assert_eq!(json(&posts[..1]), r#"{"postId":"a"}"#);
        assert_eq!(json(&posts), r#"{"postIds":["a","b"]}"#);
    }
}
