//! What is logged while requests fail, and how much of it.

use serde_json::json;
use testkit::{SOON, eventually};

use crate::support::{Ingest, PROGRAM, World, token};

/// Views a post with further headers.
async fn view(app: &Ingest, headers: &[(&str, &str)]) -> testkit::http::Response {
    let authorization = format!("Bearer {}", token("ann"));
    let own = [("content-type", "application/json"), ("authorization", &authorization)];
    app.http.request("POST", "/posts/view", &[&own[..], headers].concat(), json!({"postId": "p"}).to_string()).await
}

#[tokio::test]
async fn failed_requests_are_logged_with_their_ids_and_not_one_by_one() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    assert_eq!(view(&app, &[("x-request-id", "good-1")]).await.status, 200);
    world.server.kill().await;
    let answer = view(&app, &[("x-request-id", "bad-1"), ("traceparent", TRACE)]).await;
    assert_eq!((answer.status, answer.header("x-request-id")), (503, "bad-1"));
    let line = app.daemon.wait_for_line("a request failed").await;
    for part in ["status=503", "method=\"POST\"", "route=\"/posts/view\"", "request_id=\"bad-1\"", TRACE] {
        assert!(line.contains(part), "{line}");
    }
    // A load balancer asks all the time, and a client may send whatever it likes.
    assert_eq!(app.http.get("/readyz").await.status, 503);
    let long = "z".repeat(2_000);
    for hostile in ["{\"level\":\"ERROR\"}", "a b", "%s\\n", &long] {
        let answer = view(&app, &[("x-request-id", hostile)]).await;
        assert_eq!((answer.status, answer.header("x-request-id")), (503, ""), "{hostile}");
    }
    for number in 0..200 {
        assert_eq!(view(&app, &[("x-request-id", &format!("bad-{number}"))]).await.status, 503);
    }
    app.daemon.wait_for_line("a request failed: repeated").await;
    let lines = app.daemon.lines_with("a request failed");
    assert!(lines.len() <= 12, "{lines:#?}");
    assert!(lines.iter().all(|line| line.len() < 1_000), "{lines:#?}");
    let output = app.daemon.output();
    for unwanted in ["good-1", "level\\\"", "a b", "zzz", "readyz"] {
        assert!(!output.iter().any(|line| line.contains(unwanted)), "{unwanted}: {output:#?}");
    }
    // However often it was tried.
    assert!(app.daemon.lines_with("WARN").len() < 30, "{output:#?}");
    app.daemon.signal("TERM");
    app.daemon.wait_exit().await;
}

#[tokio::test]
async fn signals_change_what_is_logged_and_end_nothing() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let refused = || async {
        assert_eq!(app.http.post_json("/posts/view", Some("x.y.z"), &json!({"postId": "p"})).await.status, 401);
        app.daemon.lines_with("a token was refused").len()
    };
    assert_eq!(refused().await, 0);
    app.daemon.signal("USR1");
    app.daemon.wait_for_line("SIGUSR1: one step more is logged").await;
    eventually("refused tokens are logged", SOON, || async { refused().await > 0 }).await;
    app.daemon.signal("USR2");
    app.daemon.wait_for_line("SIGUSR2: what is configured is logged").await;
    let before = refused().await;
    assert_eq!(refused().await, before);
    for _ in 0..3 {
        app.daemon.signal("USR1");
    }
    app.daemon.wait_for_line("filter=\"trace").await;
    app.daemon.signal("USR2");
    app.daemon.wait_for_nth_line(2, "SIGUSR2").await;
    assert_eq!(view(&app, &[]).await.status, 200);

    // Also where what is logged hides nearly everything.
    let quiet = world.program().env("LOG_LEVEL", "off").start();
    eventually("it takes the signal", SOON, || async { takes_usr1(quiet.pid()) }).await;
    quiet.signal("USR1");
    eventually("it has told so, or had not begun to log", SOON, || async {
        quiet.signal("USR1");
        !quiet.lines_with("SIGUSR1: one step more is logged").is_empty()
    })
    .await;
    assert!(quiet.is_running());
}

#[tokio::test]
async fn the_journal_is_told_the_priority_of_each_line_and_nobody_else() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (stream, is_journal) in [("$(stat -L -c %d:%i /proc/$$/fd/1)", true), ("7:7", false)] {
        let ends_at_once = testkit::process::Daemon::builder("sh")
            .arg("-c")
            .arg(format!("JOURNAL_STREAM={stream} exec {PROGRAM}"))
            .env("JWT_SECRET", testkit::tokens::SECRET)
            .env("VIEW_INGEST_ADMIN_LISTEN", taken.local_addr().unwrap().to_string())
            .env("VIEW_INGEST_LISTEN", "127.0.0.1:0")
            .start();
        ends_at_once.wait_exit().await;
        let lines = [ends_at_once.lines_with("listener=\"public\""), ends_at_once.lines_with("cannot listen on")];
        assert_eq!(lines.each_ref().map(Vec::len), [1, 1], "{:?}", ends_at_once.output());
        let begin = |priority: &str| if is_journal { priority.to_owned() + "20" } else { "20".to_owned() };
        assert!(lines[0][0].starts_with(&begin("<6>")) && lines[1][0].starts_with(&begin("<3>")), "{lines:?}");
    }
}

/// Returns whether a process handles SIGUSR1, as the system says.
fn takes_usr1(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
    u64::from_str_radix(caught, 16).is_ok_and(|caught| caught & (1 << 9) != 0)
}
