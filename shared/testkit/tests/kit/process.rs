//! Programs under test; shells stand in for them.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use testkit::process::{Daemon, DaemonBuilder, sibling_binary};
use testkit::scratch::Scratch;
use testkit::{SOON, eventually};

fn shell(script: &str) -> DaemonBuilder {
    Daemon::builder("/bin/sh").args(["-c", script])
}

#[tokio::test]
async fn the_environment_is_path_and_what_the_test_adds() {
    let process = Daemon::builder("/usr/bin/env").env("MINE", "1").start();
    assert!(process.wait_exit().await.success());
    let mut names: Vec<_> = process.output().iter().map(|line| line.split('=').next().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["MINE", "PATH"]);
}

#[tokio::test]
async fn both_streams_are_captured_completely_before_the_exit_is_known() {
    let process = shell("for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf unfinished; exit 64").start();
    assert_eq!(process.wait_exit().await.code(), Some(64));
    assert_eq!(process.lines_with("out").len(), 3);
    assert_eq!(process.lines_with("err").len(), 3);
    assert_eq!(process.lines_with("unfinished").len(), 1);
}

#[tokio::test]
async fn lines_and_listeners_are_waited_for() {
    let process = shell(
        "sleep 0.1; echo 'INFO listening listener=\"admin\" address=127.0.0.1:2'; \
         echo 'INFO listening listener=public address=127.0.0.1:1'; echo cycle 1; echo cycle 2; read -r forever </dev/zero",
    );
    let process = process.start();
    assert_eq!(process.wait_for_listening("public").await, "127.0.0.1:1".parse().unwrap());
    assert_eq!(process.wait_for_listening("admin").await, "127.0.0.1:2".parse().unwrap());
    assert_eq!(process.wait_for_nth_line(2, "cycle").await, "cycle 2");
    assert!(process.is_running());
}

#[tokio::test]
async fn a_log_has_all_lines_as_soon_as_they_are_known() {
    let scratch = Scratch::new();
    let log = scratch.path().join("log");
    for word in ["one", "two"] {
        let process = shell(&format!("echo out {word}; echo err {word} >&2")).log_to(&log).start();
        process.wait_exit().await;
        let mut lines: Vec<_> = std::fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
        let mut known = process.output();
        lines.drain(..lines.len() - known.len());
        lines.sort();
        known.sort();
        assert_eq!(lines, known);
    }
    assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 4, "a later process appends");
}

#[tokio::test]
#[should_panic(expected = "did not write")]
async fn an_early_end_is_noticed_at_once() {
    let process = shell("echo goodbye").start();
    tokio::time::timeout(SOON, process.wait_for_line("hello")).await.expect("it does not wait for the deadline");
}

#[tokio::test]
async fn signals_arrive_and_the_exit_tells_which() {
    // Not HUP: where the tests run under nohup, it is ignored, and a shell cannot trap what was ignored before it started.
    let process = shell("trap 'echo caught' USR1; echo ready; while :; do sleep 0.01; done").start();
    process.wait_for_line("ready").await;
    process.signal("USR1");
    process.wait_for_line("caught").await;
    process.signal("TERM");
    assert_eq!(process.wait_exit_within(Duration::from_secs(20)).await.signal(), Some(15));
}

#[tokio::test]
async fn a_dropped_process_is_killed() {
    let process = shell("trap '' TERM HUP INT; echo ready; while :; do sleep 0.01; done").start();
    process.wait_for_line("ready").await;
    let proc = format!("/proc/{}", process.pid());
    drop(process);
    eventually("the process is gone", SOON, async || !std::path::Path::new(&proc).exists()).await;
}

#[test]
#[should_panic(expected = "cargo build -p no-such-binary")]
fn a_missing_sibling_names_the_command_that_builds_it() {
    sibling_binary("no-such-binary");
}

#[test]
fn a_sibling_is_found() {
    assert_eq!(sibling_binary("testkit-servers"), std::path::Path::new(env!("CARGO_BIN_EXE_testkit-servers")));
}
