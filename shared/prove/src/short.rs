//! The proof for continuous integration: a fixed seed and a short time, and every mistake must be found.

use std::{
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use views_core::failpoints::{ACK_BEFORE_COMMIT, COUNT_BEFORE_ACK, FORGET_THE_DEAD, SET_BEFORE_OUTBOX, WAIT_FOR_LOCKS};

use crate::schedule::Layout;

const SEED: &str = "14";
/// How long things break around the programs as they are.
const MINUTES: &str = "0.33";
/// The same in a cluster, where a primary takes its time to be replaced.
const CLUSTER_MINUTES: &str = "0.45";
/// How long a mistake may take to be found.
const MISTAKE_MINUTES: &str = "1";
/// How much is shown of what has found a mistake.
const SHOWN: usize = 160;
/// The exit status of a proof that has refuted the programs.
const REFUTED: i32 = 1;

/// Each mistake, and the words of the violations that it may be found by.
const FOUND_BY: [(&str, &[&str]); 5] = [
    (ACK_BEFORE_COMMIT, &["LOST"]),
    (SET_BEFORE_OUTBOX, &["LOST"]),
    (COUNT_BEFORE_ACK, &["ANSWER: TOO HIGH"]),
    (WAIT_FOR_LOCKS, &["DEADLOCK", "APPLICATION"]),
    (FORGET_THE_DEAD, &["LOST"]),
];

/// Proves the programs as they are, and then that each mistake is found. Each proof is a process of its own.
pub(crate) fn run(binaries: Option<&Path>, layout: Layout) -> ExitCode {
    println!("\n==> The programs as they are");
    let mut as_they_are = match layout {
        Layout::Alone => proof(binaries, MINUTES),
        Layout::Cluster => proof(binaries, CLUSTER_MINUTES),
    };
    if layout == Layout::Cluster {
        as_they_are.arg("--cluster");
    }
    let status = as_they_are.status().expect("a program can start itself");
    if !status.success() {
        return status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from);
    }
    if layout == Layout::Cluster {
        // The mistakes are found without a cluster, and sooner.
        return ExitCode::SUCCESS;
    }
    for (mistake, words) in FOUND_BY {
        println!("\n==> Programs that make a mistake on purpose: {mistake}");
        if let Err(message) = must_find(binaries, mistake, words) {
            eprintln!("prove: {message}");
            return ExitCode::FAILURE;
        }
    }
    println!("\nprove: it holds, and all mistakes were found");
    ExitCode::SUCCESS
}

/// Runs programs with a mistake until they are found out.
///
/// # Errors
/// When they are not, or by something else.
fn must_find(binaries: Option<&Path>, mistake: &str, words: &[&str]) -> Result<(), String> {
    let mut proof = proof(binaries, MISTAKE_MINUTES);
    let output = proof.args(["--broken", mistake]).stderr(Stdio::inherit()).output().expect("a program can start itself");
    let text = String::from_utf8_lossy(&output.stdout);
    let found = violation(&text, words).filter(|_| output.status.code() == Some(REFUTED));
    let Some(violation) = found else {
        println!("{text}");
        return Err(format!("the mistake {mistake} was not found ({})", output.status));
    };
    println!("found: {}", violation.chars().take(SHOWN).collect::<String>());
    if let Some(folder) = history_folder(&text) {
        // The history of a failure that was wanted is of no use.
        let _ = std::fs::remove_dir_all(folder);
    }
    Ok(())
}

fn proof(binaries: Option<&Path>, minutes: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a program knows its path"));
    command.args(["--seed", SEED, "--minutes", minutes]).stdin(Stdio::null());
    if let Some(binaries) = binaries {
        command.arg("--binaries").arg(binaries);
    }
    command
}

/// Returns the first line that begins with one of the words.
fn violation<'a>(output: &'a str, words: &[&str]) -> Option<&'a str> {
    output.lines().find(|line| words.iter().any(|word| line.starts_with(word)))
}

/// Returns the folder that a verdict names.
fn history_folder(output: &str) -> Option<&str> {
    output.lines().find_map(|line| Some(line.strip_prefix("verdict:")?.split_once(" The history is in ")?.1))
}

#[cfg(test)]
mod tests {
    use views_core::failpoints::MISTAKES;

    use super::{FOUND_BY, history_folder, violation};

    #[test]
    fn every_mistake_has_to_be_found() {
        assert_eq!(FOUND_BY.map(|(mistake, _)| mistake), MISTAKES);
    }

    #[test]
    fn a_violation_begins_its_line_and_the_verdict_names_the_history() {
        let output = "seed: 14\nnothing LOST here\nLOST a view\nLOST another\nverdict:    REFUTED. The history is in a/folder\n";
        assert_eq!(violation(output, &["DEADLOCK", "LOST"]), Some("LOST a view"));
        assert_eq!(violation(output, &["DEADLOCK"]), None);
        assert_eq!(history_folder(output), Some("a/folder"));
        assert_eq!(history_folder("seed: 14"), None);
    }
}
