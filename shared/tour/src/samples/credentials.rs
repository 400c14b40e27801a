//! The lines of the units with which systemd hands secrets over; they are comments until an operator wants them.

use std::path::PathBuf;

use tokio::process::Command;

use super::subject::{DAEMONS, Subject, holds};
use crate::shell::succeeds;

/// The secrets, by the names of their credentials.
const SECRETS: [&str; 3] = ["database-url", "jwt-secret", "redis-url"];

/// Checks copies of the units, with these lines.
pub(super) async fn check(subject: &mut Subject, units: &[PathBuf]) {
    let folder = subject.folder.path().join("with-credentials");
    std::fs::create_dir(&folder).expect("a folder of our own can have another one");
    let mut copies = Vec::new();
    for unit in units {
        let text = std::fs::read_to_string(unit).expect("a copy of our own can be read");
        let copy = folder.join(unit.file_name().unwrap_or_default());
        std::fs::write(&copy, with_credentials(&text)).expect("a folder of our own can be written to");
        copies.push(copy);
    }
    let verified = succeeds(Command::new("systemd-analyze").arg("verify").args(&copies)).await;
    subject.report.holds("systemd-analyze verify, with credentials", verified);
    for daemon in DAEMONS {
        let text = std::fs::read_to_string(folder.join(format!("{daemon}.service"))).unwrap_or_default();
        let mut loaded: Vec<&str> = text.lines().filter_map(loaded).collect();
        loaded.sort_unstable();
        subject.report.check(&format!("the credentials of {daemon}.service"), SECRETS.join(" "), loaded.join(" "));
        let variables: Vec<(&str, &str)> = text.lines().filter_map(variable).collect();
        for secret in SECRETS {
            let value = format!("%d/{secret}");
            let is_handed_over = variables.iter().any(|(name, file)| name.ends_with("_FILE") && *file == value);
            let outcome = holds(is_handed_over, || format!("no variable names {value}"));
            subject.report.holds(&format!("{daemon}.service hands {secret} over"), outcome);
        }
        for (name, _) in variables {
            let known = subject.knows(daemon, name).await;
            subject.report.holds(&format!("{daemon} knows {name}"), known);
        }
    }
}

/// Returns a unit with the lines that are comments in it.
fn with_credentials(unit: &str) -> String {
    ["LoadCredential=", "Environment="]
        .iter()
        .fold(unit.to_owned(), |text, setting| text.replace(&format!("\n#{setting}"), &format!("\n{setting}")))
}

/// Returns the name of a credential that comes from the file of the same name.
fn loaded(line: &str) -> Option<&str> {
    let (name, file) = line.strip_prefix("LoadCredential=")?.split_once(':')?;
    (file.strip_prefix("/etc/view-counter/") == Some(name)).then_some(name)
}

/// Returns a variable's name and value.
fn variable(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("Environment=")?.split_once('=')
}

#[cfg(test)]
mod tests {
    use super::{loaded, variable, with_credentials};

    #[test]
    fn the_lines_of_credentials_are_read_once_they_are_no_comments() {
        let unit = with_credentials(
            "[Service]\n# A sentence.\n#LoadCredential=a:/etc/view-counter/a\n#Environment=A_FILE=%d/a\n#Other=1\n",
        );
        assert_eq!(unit.lines().filter_map(loaded).collect::<Vec<_>>(), ["a"]);
        assert_eq!(unit.lines().filter_map(variable).collect::<Vec<_>>(), [("A_FILE", "%d/a")]);
        assert!(unit.contains("\n#Other=1\n"), "{unit}");
        assert_eq!(loaded("LoadCredential=a:/etc/view-counter/b"), None);
    }
}
