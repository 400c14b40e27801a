//! The systemd units: whether systemd accepts them, how exposed they leave the daemons, and what they bound.

use std::path::PathBuf;

use tokio::process::Command;

use super::credentials;
use super::subject::{DAEMONS, Subject, holds};
use crate::repository;
use crate::shell::succeeds;

/// The place of an installation, in whose stead the programs stand where they were built.
const INSTALLED: &str = "/usr/local/bin/";
/// The most that `systemd-analyze security` may find, in tenths.
const EXPOSURE: &str = "--threshold=15";

pub(super) async fn check(subject: &mut Subject) {
    subject.report.headline("systemd/");
    let units = copies(subject);
    let verified = succeeds(Command::new("systemd-analyze").arg("verify").args(&units)).await;
    subject.report.holds("systemd-analyze verify", verified);
    credentials::check(subject, &units).await;
    for daemon in DAEMONS {
        let name = format!("{daemon}.service");
        let unit = units.iter().find(|unit| unit.ends_with(&name)).cloned().unwrap_or_else(|| PathBuf::from(&name));
        let analysis = ["security", "--no-pager", "--offline=true", EXPOSURE];
        let outcome = succeeds(Command::new("systemd-analyze").args(analysis).arg(unit)).await;
        subject.report.holds(&format!("the exposure of {name} is at most 1.5"), outcome);
        let text = repository::text(&format!("systemd/{name}"));
        let outcome = holds(text.lines().any(is_bound_of_memory), || "it has none".to_owned());
        subject.report.holds(&format!("{name} has a bound of its memory"), outcome);
        let outcome = holds(text.lines().any(|line| line == "LimitCORE=0"), || "LimitCORE=0 is missing".to_owned());
        subject.report.holds(&format!("{name} leaves no core files"), outcome);
    }
}

/// Copies the units into a folder of this run, for the programs where they were built.
fn copies(subject: &Subject) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(repository::path("systemd")).expect("the units are in systemd/");
    let names = folder.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let units = names.filter(|name| name.ends_with(".service") || name.ends_with(".socket"));
    let programs = format!("{}/", subject.binaries.display());
    let copy = |name: String| {
        let text = repository::text(&format!("systemd/{name}")).replace(INSTALLED, &programs);
        subject.folder.write(&name, text)
    };
    units.map(copy).collect()
}

/// Returns whether a line is like `MemoryMax=512M`.
fn is_bound_of_memory(line: &str) -> bool {
    let number = line.strip_prefix("MemoryMax=").and_then(|value| value.strip_suffix(['M', 'G']));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::is_bound_of_memory;

    #[test]
    fn a_bound_of_memory_is_a_number_with_its_unit() {
        assert!(is_bound_of_memory("MemoryMax=512M"));
        assert!(is_bound_of_memory("MemoryMax=2G"));
        assert!(!is_bound_of_memory("MemoryMax=infinity"));
        assert!(!is_bound_of_memory("MemoryMax=M"));
        assert!(!is_bound_of_memory("#MemoryMax=512M"));
    }
}
