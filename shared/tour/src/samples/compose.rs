//! The compose files, the image, and the variables that they leave to their reader.

use tokio::process::Command;

use super::subject::{Subject, holds};
use crate::repository;
use crate::shell::{output, succeeds};
use crate::stores::random_word;

/// One server of each store, and a cluster.
const COMPOSE: [&str; 2] = ["deploy/docker-compose.yml", CLUSTER];
pub(super) const CLUSTER: &str = "deploy/docker-compose.cluster.yml";
/// Prints what can be checked of the compose file, a fact a line. It is Python for the sake of a YAML parser.
const READER: &str = "deploy/lib/read-compose.py";

pub(super) async fn check(subject: &mut Subject) {
    for file in COMPOSE {
        subject.report.headline(file);
        match facts(file).await {
            Ok(facts) => check_facts(subject, &facts).await,
            Err(reason) => subject.report.holds("it is YAML as compose reads it", Err(reason)),
        }
    }
    subject.report.headline("deploy/Dockerfile, deploy/.env.example");
    let dockerfile = repository::text("deploy/Dockerfile");
    for image in first_words(&dockerfile, "FROM ") {
        subject.report.holds(&format!("{image} is an exact version"), exact(image));
    }
    // What the image copies out of the repository has to be in it.
    for path in first_words(&dockerfile, "COPY ").filter(|word| !word.starts_with('-')) {
        subject.report.holds(&format!("{path} is there"), exists(path));
    }
    let variables = repository::text("deploy/.env.example");
    let given = variables
        .lines()
        .filter(|line| !line.starts_with('#') && line.split_once('=').is_some_and(|(_, value)| !value.is_empty()));
    subject.report.check(".env.example leaves every secret to its reader", "", given.collect::<Vec<_>>().join(" "));
    // Compose itself, where it is installed, has the last word; it needs no Docker engine for this.
    if is_installed().await {
        let filled: String = variables.lines().map(|line| fill(line) + "\n").collect();
        let values = subject.folder.write("compose.env", filled);
        for file in COMPOSE {
            let mut command = Command::new("docker");
            command.args(["compose", "-f"]).arg(repository::path(file)).arg("--env-file").arg(&values);
            let outcome = succeeds(command.args(["config", "--quiet"])).await;
            subject.report.holds(&format!("docker compose config of {file}"), outcome);
        }
    }
}

async fn check_facts(subject: &mut Subject, facts: &str) {
    let variables = repository::text("deploy/.env.example");
    for fact in facts.lines() {
        let words: Vec<&str> = fact.split_whitespace().collect();
        match words[..] {
            ["needs", service] => {
                let outcome =
                    holds(facts.lines().any(|line| line == format!("service {service}")), || "it is missing".to_owned());
                subject.report.holds(&format!("the service {service} is there"), outcome);
            }
            ["image", image] => subject.report.holds(&format!("{image} is an exact version"), exact(image)),
            ["setting", program, setting] => {
                let known = subject.knows(program, setting).await;
                subject.report.holds(&format!("{program} knows {setting}"), known);
            }
            ["variable", name] => {
                let outcome =
                    holds(variables.lines().any(|line| line.starts_with(&format!("{name}="))), || "it is missing".to_owned());
                subject.report.holds(&format!(".env.example has {name}"), outcome);
            }
            ["file", path] => subject.report.holds(&format!("{path} is there"), exists(path)),
            _ => {}
        }
    }
}

/// What a compose file says, with paths from the root of the repository.
pub(super) async fn facts(file: &str) -> Result<String, String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut python = Command::new("python3");
    // Debian's own Python is asked first, because it is the one that Debian's packages are for.
    python.env("PATH", format!("/usr/bin:{path}")).current_dir(repository::path("")).args([READER, file]);
    let output = output(&mut python).await;
    let [facts, errors] = [output.stdout, output.stderr].map(|stream| String::from_utf8_lossy(&stream).into_owned());
    if output.status.success() { Ok(facts) } else { Err(errors) }
}

async fn is_installed() -> bool {
    let version = Command::new("docker").args(["compose", "version"]).stdin(std::process::Stdio::null()).output().await;
    version.is_ok_and(|output| output.status.success())
}

/// Returns the word that follows at the beginning of each line that begins so.
fn first_words<'a>(text: &'a str, beginning: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.strip_prefix(beginning)?.split(' ').next())
}

fn exists(path: &str) -> Result<(), String> {
    holds(repository::path(path).exists(), || "it is missing".to_owned())
}

fn exact(image: &str) -> Result<(), String> {
    holds(has_exact_version(image), || "it is not".to_owned())
}

/// Returns whether an image's tag begins with at least two numbers, and has at most one word after them:
/// `redis:7.4.5-bookworm`.
fn has_exact_version(image: &str) -> bool {
    let Some((_, tag)) = image.rsplit_once(':') else { return false };
    let (version, system) = tag.split_once('-').unwrap_or((tag, "word"));
    let is_number = |number: &str| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    version.contains('.')
        && version.split('.').all(is_number)
        && !system.is_empty()
        && system.bytes().all(|letter| letter.is_ascii_lowercase())
}

/// Returns a line of the variables with a secret where it has none.
fn fill(line: &str) -> String {
    if line.ends_with('=') && !line.starts_with('#') { format!("{line}{}", random_word()) } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::has_exact_version;

    #[test]
    fn an_exact_version_names_more_than_a_major_number() {
        for image in ["rust:1.90.0-bookworm", "debian:12.11-slim", "redis:7.4.5", "registry/name:1.2"] {
            assert!(has_exact_version(image), "{image}");
        }
        for image in
            ["redis", "redis:7", "redis:latest", "debian:12-slim", "debian:12.-slim", "debian:12.11-", "debian:12.11-slim-2"]
        {
            assert!(!has_exact_version(image), "{image}");
        }
    }
}
