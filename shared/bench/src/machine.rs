//! What it was measured on: numbers of two machines cannot be compared.

use std::{fmt, process::Command, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::servers::processors;

/// A machine and its programs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) measured_at: String,
    /// The commit that was measured, as far as it is known.
    pub(crate) revision: String,
    pub(crate) processors: usize,
    pub(crate) model: String,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) versions: Vec<String>,
    /// The share of the processors that other work used before and after, at the most.
    #[serde(default)]
    pub(crate) used_by_others: f64,
}

/// More other work than this spoils a measurement.
const MOST_OTHER_WORK: f64 = 0.1;

impl Machine {
    /// Looks around.
    pub(crate) fn look() -> Self {
        let file = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory_kib: u64 = field(&file("/proc/meminfo"), "MemTotal")
            .and_then(|text| text.split_whitespace().next()?.parse().ok())
            .unwrap_or_default();
        let programs = [
            ("redis-server", "--version"),
            ("psql", "--version"),
            ("wrk", "--version"),
            ("nginx", "-v"),
            ("node", "--version"),
            ("rustc", "--version"),
        ];
        Self {
            measured_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            revision: revision().unwrap_or_else(|| "an unknown commit".to_owned()),
            processors: processors(),
            model: field(&file("/proc/cpuinfo"), "model name").unwrap_or_default(),
            memory_gib: memory_kib.div_ceil(1024 * 1024),
            kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
            versions: programs.iter().filter_map(|(program, flag)| version(program, flag)).collect(),
            used_by_others: 0.0,
        }
    }
}

impl Machine {
    /// Returns whether it had too much else to do for the numbers to mean much.
    pub(crate) fn was_busy(&self) -> bool {
        self.used_by_others > MOST_OTHER_WORK
    }
}

/// Returns the commit that is measured, `-dirty` where the files are not that commit's. What a measurement writes
/// itself does not count: a part that is run after another one would always be dirty.
fn revision() -> Option<String> {
    let commit = said("git", &["describe", "--always"]).filter(|said| !said.contains(char::is_whitespace))?;
    let changes = ["status", "--porcelain", "--untracked-files=no", "--", ":/", ":!/docs/bench", ":!/docs/performance.md"];
    Some(if said("git", &changes).is_some() { format!("{commit}-dirty") } else { commit })
}

/// Returns the name of a program and its version.
fn version(program: &str, flag: &str) -> Option<String> {
    let text = said(program, &[flag])?;
    let words = text.split(|letter: char| letter.is_whitespace() || letter == '=' || letter == '/');
    let number =
        words.map(|word| word.trim_start_matches('v')).find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    Some(format!("{program} {number}"))
}

/// Returns the first line that a program prints. Its exit status says nothing: that of `wrk --version` is 1.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { measured_at, revision, processors, model, memory_gib, kernel, versions, .. } = self;
        let versions = versions.join(", ");
        let day = measured_at.get(..10).unwrap_or(measured_at);
        write!(f, "Measured {day} at {revision}: {processors} × {model}, {memory_gib} GiB, Linux {kernel}, {versions}.")?;
        if self.was_busy() {
            write!(f, " **Other work used {:.0} % of the processors: the numbers are spoiled.**", self.used_by_others * 100.0)?;
        }
        Ok(())
    }
}
