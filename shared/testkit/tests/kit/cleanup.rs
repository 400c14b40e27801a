//! Nothing stays behind, whichever way a test process ends.

use std::path::Path;
use std::process::Command;

use testkit::process::Daemon;
use testkit::redis::RedisServer;
use testkit::scratch::Scratch;
use testkit::{SOON, eventually, postgres};

/// A process that holds a Redis server in a variable and a PostgreSQL server in a static.
async fn start_holder() -> (Daemon, Vec<String>, Vec<u32>) {
    let holder = Daemon::builder(env!("CARGO_BIN_EXE_testkit-servers")).start();
    holder.wait_for_nth_line(2, "running folder=").await;
    let lines = holder.lines_with("running folder=");
    let field = |line: &String, name: &str| {
        line.split_whitespace().find_map(|word| word.strip_prefix(name).map(str::to_owned)).expect("the field is there")
    };
    let folders: Vec<_> = lines.iter().map(|line| field(line, "folder=")).collect();
    let pids: Vec<_> = lines.iter().map(|line| field(line, "pid=").parse().unwrap()).collect();
    assert!(folders.iter().all(|folder| Path::new(folder).is_dir()), "{folders:?}");
    assert!(pids.iter().all(|pid| is_process(*pid)), "{pids:?}");
    (holder, folders, pids)
}

async fn nothing_is_left(folders: &[String], pids: &[u32]) {
    for folder in folders {
        eventually(&format!("{folder} is removed"), SOON, async || !Path::new(folder).exists()).await;
    }
    for pid in pids {
        eventually(&format!("process {pid} is gone"), SOON, async || !is_process(*pid)).await;
        assert!(!has_shared_memory(*pid), "process {pid} left a shared memory segment");
    }
}

fn is_process(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether a System V segment exists that the process created (fifth column), as PostgreSQL does.
fn has_shared_memory(pid: u32) -> bool {
    let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    segments.lines().any(|line| line.split_whitespace().nth(4) == Some(pid.to_string().as_str()))
}

#[tokio::test]
async fn a_killed_test_process_leaves_no_server_folder_or_shared_memory() {
    let (holder, folders, pids) = start_holder().await;
    assert!(pids.iter().any(|pid| has_shared_memory(*pid)), "this test looks for the segment in the wrong place");
    holder.kill9().await;
    nothing_is_left(&folders, &pids).await;
}

#[tokio::test]
async fn ctrl_c_for_the_whole_process_group_leaves_nothing() {
    let (holder, folders, pids) = start_holder().await;
    let group = format!("-{}", holder.pid());
    Command::new("sh").args(["-c", r#"kill -s INT -- "$0""#, &group]).status().unwrap();
    holder.wait_exit().await;
    nothing_is_left(&folders, &pids).await;
}

#[tokio::test]
async fn frozen_and_killed_servers_are_cleaned_up_too() {
    let redis = RedisServer::start().await;
    let server = postgres::PostgresServer::start().await;
    let _busy = server.client().await;
    redis.pause();
    server.pause();
    let folders = [redis.folder(), server.folder()].map(|folder| folder.display().to_string());
    let pids = [redis.pid().unwrap(), server.pid().unwrap()];
    drop((redis, server));
    nothing_is_left(&folders, &pids).await;

    let server = postgres::PostgresServer::start().await;
    let (folder, pid) = (server.folder().display().to_string(), server.pid().unwrap());
    server.kill().await;
    drop(server);
    nothing_is_left(&[folder], &[pid]).await;
}

#[test]
fn a_dropped_scratch_folder_is_gone_at_once() {
    let scratch = Scratch::new();
    let file = scratch.write("secret", "text");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
    let folder = scratch.path().to_owned();
    drop(scratch);
    assert!(!folder.exists());
}
