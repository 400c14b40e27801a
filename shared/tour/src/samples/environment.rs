//! The environment files of the units: whether their daemons know every setting, and complain of nothing but what is
//! left to the reader.

use tokio::process::Command;

use super::subject::{DAEMONS, Subject, holds};
use crate::repository;
use crate::shell::output;
use crate::stores::random_word;

/// Reads an environment file as a shell does, and becomes the daemon with it. A secret stands in for the reader's own.
const WITH_FILE: &str = r#"set -a; . "$1"; [ -z "$2" ] || JWT_SECRET=$2; shift 2; exec "$0" "$@""#;

pub(super) async fn check(subject: &mut Subject) {
    subject.report.headline("systemd/*.env");
    for daemon in DAEMONS {
        for name in settings(&repository::text(&format!("systemd/{daemon}.env"))) {
            let known = subject.knows(daemon, &name).await;
            subject.report.holds(&format!("{daemon} knows {name}"), known);
        }
        let complaint = complaint(subject, daemon, "", &[]).await;
        let is_secret = complaint.contains(": 1 setting is wrong:") && complaint.contains("--jwt-secret: ");
        let what = format!("{daemon}.env as it comes starts nothing, for want of a secret");
        subject.report.holds(&what, holds(is_secret, || complaint.clone()));
        // All that is wrong is reported together, so beside one deliberate mistake nothing else may be complained of.
        let complaint = self::complaint(subject, daemon, &random_word(), &["--view-ttl", "nonsense"]).await;
        let is_deliberate =
            complaint.lines().take(2).collect::<Vec<_>>().join(" ").contains(": 1 setting is wrong:   --view-ttl: ");
        subject.report.holds(&format!("the settings of {daemon}.env"), holds(is_deliberate, || complaint.clone()));
    }
}

/// Returns the names of all settings in a file. Those that are named with their defaults, in comments, have to exist as
/// well.
fn settings(file: &str) -> Vec<String> {
    let name = |line: &str| {
        let line = line.strip_prefix('#').unwrap_or(line);
        let (name, _) = line.split_once('=')?;
        name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_').then(|| name.to_owned())
    };
    file.lines().filter_map(name).collect()
}

/// What a daemon says on its standard error when it is started with its file.
async fn complaint(subject: &Subject, daemon: &str, secret: &str, arguments: &[&str]) -> String {
    let mut shell = Command::new("sh");
    shell.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    shell.arg("-c").arg(WITH_FILE).arg(subject.binaries.join(daemon)).arg(repository::path(&format!("systemd/{daemon}.env")));
    let output = output(shell.arg(secret).args(arguments)).await;
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[cfg(test)]
mod tests {
    use super::settings;

    #[test]
    fn settings_are_found_in_comments_too_and_sentences_are_not() {
        assert_eq!(settings("# A sentence = none.\nLOG_LEVEL=info\n#VIEW_TTL=24h\n\nlower=1"), ["LOG_LEVEL", "VIEW_TTL"]);
    }
}
