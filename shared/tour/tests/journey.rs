//! The journey as a process: it ends by itself, or by a signal, and leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "clippy knows tests, but not the functions that they share")]

use std::path::Path;
use std::time::Duration;

use testkit::process::{Daemon, DaemonBuilder, sibling_binary};
use testkit::{SOON, eventually};

/// A journey takes a few seconds; on a busy machine that is more.
const JOURNEY: Duration = Duration::from_secs(120);

fn tour() -> DaemonBuilder {
    Daemon::builder(env!("CARGO_BIN_EXE_tour"))
}

fn journey() -> DaemonBuilder {
    let ingest = sibling_binary("view-ingest");
    sibling_binary("view-syncd");
    tour().arg("journey").arg("--binaries").arg(ingest.parent().unwrap())
}

/// The folder with the secret and the variables, which the journey names.
fn folder(tour: &Daemon) -> String {
    let line = tour.lines_with("/exports").pop().unwrap();
    let file = line.split_whitespace().last().unwrap();
    file.strip_suffix("/exports").unwrap().to_owned()
}

#[tokio::test]
async fn an_unattended_journey_checks_everything_and_leaves_nothing() {
    let tour = journey().arg("--once").start();
    assert!(tour.wait_exit_within(JOURNEY).await.success(), "{:#?}", tour.output());
    let verdict = tour.output().pop().unwrap();
    let passed: u32 = verdict.strip_prefix("try: ").unwrap().strip_suffix(" passed, 0 failed").unwrap().parse().unwrap();
    assert_eq!(passed as usize, tour.lines_with("  ok ").len());
    assert!(passed >= 50, "{verdict}");
    assert!(!Path::new(&folder(&tour)).exists());
}

#[tokio::test]
async fn an_interrupted_journey_stops_both_daemons_in_order_and_leaves_nothing() {
    let tour = journey().start();
    tokio::time::timeout(JOURNEY, tour.wait_for_line("==> Everything stays up until Ctrl-C")).await.unwrap();
    tour.wait_for_line("logs ").await;
    assert!(tour.lines_with("WRONG").is_empty(), "{:#?}", tour.output());
    let folder = folder(&tour);
    let lines = std::fs::read_to_string(format!("{folder}/exports")).unwrap();
    for name in ["PATH", "VIEWER", "FRIEND", "AUTHOR", "ADMIN", "REDISCLI_AUTH", "PGPASSWORD", "DATABASE_URL", "REDIS_URL"] {
        assert!(lines.lines().any(|line| line.starts_with(&format!("export {name}="))), "{name} is not among\n{lines}");
    }
    tour.signal("INT");
    assert_eq!(tour.wait_exit().await.code(), Some(130));
    eventually("the folder is gone", SOON, async || !Path::new(&folder).exists()).await;
}

#[tokio::test]
async fn a_daemon_that_does_not_start_is_a_failure_whose_output_is_shown() {
    let folder = testkit::scratch::Scratch::new();
    for name in ["view-ingest", "view-syncd"] {
        let program = folder.write(name, "#!/bin/sh\n[ \"$1\" = migrate ] || { echo 'it hurts here'; exit 1; }\n");
        let mut permissions = std::fs::metadata(&program).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        std::fs::set_permissions(&program, permissions).unwrap();
    }
    let tour = tour().args(["journey", "--once", "--binaries"]).arg(folder.path()).start();
    assert_eq!(tour.wait_exit_within(JOURNEY).await.code(), Some(1));
    assert_eq!(tour.lines_with("it hurts here").len(), 1, "{:#?}", tour.output());
}

#[tokio::test]
async fn wrong_usage_has_a_status_of_its_own_and_help_has_none() {
    for (arguments, status) in [(&["journey", "--twice"][..], 64), (&[], 64), (&["hostile", "x"], 64), (&["--help"], 0)] {
        let tour = tour().args(arguments).start();
        assert_eq!(tour.wait_exit().await.code(), Some(status), "{arguments:?}: {:?}", tour.output());
    }
}
