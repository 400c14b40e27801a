//! Pages of other origins: `--cors-origin`.

use serde_json::json;
use testkit::{
    http::{self, Response},
    process::Daemon,
};

use crate::support::{Ingest, PROGRAM, SECRET, World, assert_error, token};

const SITE: &str = "https://site.example";
const OTHER: &str = "https://other.example";

async fn site_and_localhost(world: &World, more: &[(&str, &str)]) -> Ingest {
    let origins = [("VIEW_INGEST_CORS_ORIGIN", "https://site.example, HTTP://localhost:8080")];
    world.ingest_with(&[&origins, more].concat()).await
}

async fn ask(app: &Ingest, path: &str, origin: &str, method: &str) -> Response {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    app.http.request("OPTIONS", path, &headers, "").await
}

/// The names of all headers that tell a browser something.
fn told(response: &Response) -> Vec<&str> {
    let mut names: Vec<&str> = response.headers.keys().map(hyper::header::HeaderName::as_str).collect();
    names.retain(|name| name.starts_with("access-control-") || *name == "vary");
    names.sort_unstable();
    names
}

/// Demands that a page may read an answer, with cookies or without.
#[track_caller]
fn assert_readable(response: &Response, origin: &str, credentials: &str) {
    let header = |name: &str| response.header(name);
    assert_eq!(header("access-control-allow-origin"), origin, "{response:?}");
    assert_eq!(header("access-control-allow-credentials"), credentials, "{response:?}");
    assert_eq!((header("vary"), header("access-control-expose-headers")), ("origin", "retry-after"), "{response:?}");
}

#[tokio::test]
async fn a_preflight_is_answered_for_each_route() {
    let world = World::redis_alone().await;
    let app = site_and_localhost(&world, &[]).await;
    for origin in [SITE, "http://localhost:8080"] {
        for (path, methods) in [
            ("/posts/view", "POST"),
            ("/posts/views-batch", "POST"),
            ("/posts/p/views", "GET, HEAD"),
            ("/posts/views?ids=a,b", "GET, HEAD"),
            ("/posts/viewed", "GET, HEAD"),
            ("/livez", "GET, HEAD, OPTIONS"),
        ] {
            let answer = ask(&app, path, origin, "POST").await;
            assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{path}");
            assert_readable(&answer, origin, "true");
            assert_eq!(answer.header("access-control-allow-methods"), methods, "{path}");
            assert_eq!(answer.header("access-control-allow-headers"), "authorization, content-type");
            assert_eq!(answer.header("access-control-max-age"), "7200");
        }
    }
    assert_error(&ask(&app, "/nowhere", SITE, "GET").await, 404, "Маршрут не найден");
}

#[tokio::test]
async fn pages_that_are_not_named_are_told_nothing() {
    let world = World::redis_alone().await;
    let app = site_and_localhost(&world, &[]).await;
    let authorization = format!("Bearer {}", token("ann"));
    for origin in [
        OTHER,
        "null",
        "http://site.example",
        "https://site.example:8443",
        "https://site.example.evil.example",
        "https://SITE.example",
        "",
    ] {
        let answer = ask(&app, "/posts/view", origin, "POST").await;
        assert_eq!((answer.status, told(&answer)), (204, vec!["vary"]), "{origin}");
        let headers = [("origin", origin), ("authorization", &authorization), ("content-type", "application/json")];
        let answer = app.http.request("POST", "/posts/view", &headers, r#"{"postId":"p"}"#).await;
        // The token is what lets a view in; which pages may read is the browser's business.
        assert_eq!((answer.status, told(&answer)), (200, vec!["vary"]), "{origin}");
    }
    let twice = [("origin", SITE), ("origin", SITE), ("access-control-request-method", "POST")];
    assert_eq!(told(&app.http.request("OPTIONS", "/posts/view", &twice, "").await), ["vary"]);
    let nobody = app.http.get("/posts/p/views").await;
    assert_eq!((nobody.status, told(&nobody)), (200, vec!["vary"]), "a cache may keep it for others");
}

#[tokio::test]
async fn a_page_can_read_every_answer() {
    let world = World::new().await;
    world.post("p").await;
    let app = site_and_localhost(
        &world,
        &[("VIEW_INGEST_VIEWER_RATE", "1/1h"), ("VIEW_INGEST_BODY_TIMEOUT", "1s"), ("VIEW_INGEST_HEADER_TIMEOUT", "1s")],
    )
    .await;
    let authorization = format!("Bearer {}", token("ann"));
    let post = |kind: &'static str, body: String| {
        let (app, authorization) = (&app, &authorization);
        async move {
            let headers = [("origin", SITE), ("authorization", authorization.as_str()), ("content-type", kind)];
            app.http.request("POST", "/posts/view", &headers, body).await
        }
    };
    let get = |method: &'static str, path: &'static str| {
        let app = &app;
        async move { app.http.request(method, path, &[("origin", SITE)], "").await }
    };
    let view = |post: &str| json!({ "postId": post }).to_string();
    for (status, answer) in [
        (200, post("application/json", view("p")).await),
        (429, post("application/json", view("p")).await),
        (400, post("application/json", view("a b")).await),
        (413, post("application/json", " ".repeat(65 * 1024)).await),
        (415, post("text/html", view("p")).await),
        (401, get("POST", "/posts/view").await),
        (404, get("GET", "/nowhere").await),
        (404, get("GET", "/posts/unknown/views").await),
        (405, get("GET", "/posts/view").await),
        (405, get("OPTIONS", "/posts/view").await),
        (204, get("OPTIONS", "/livez").await),
        (200, get("GET", "/posts/views?ids=p").await),
        (200, get("HEAD", "/posts/p/views").await),
        (200, get("GET", "/readyz").await),
    ] {
        assert_eq!(answer.status, status, "{answer:?}");
        assert_readable(&answer, SITE, "true");
    }
    let large = app.http.request("GET", "/livez", &[("origin", SITE), ("x-fill", &"x".repeat(17 * 1024))], "").await;
    assert_eq!(large.status, 431);
    assert_readable(&large, SITE, "true");
    let head = format!(
        "POST /posts/view HTTP/1.1\r\nhost: x\r\norigin: {SITE}\r\nauthorization: {authorization}\r\n\
         content-type: text/plain\r\ncontent-length: 14\r\n\r\n"
    );
    let late = http::raw(app.address, format!("{head}{{")).await;
    assert!(
        late.starts_with("HTTP/1.1 408 ") && late.contains("access-control-allow-origin: https://site.example\r\n"),
        "{late}"
    );
    world.server.kill().await;
    world.sql().batch_execute("alter table posts rename to away").await.unwrap();
    let away = get("GET", "/posts/views?ids=new").await;
    assert_eq!((away.status, away.header("retry-after")), (503, "1"));
    assert_readable(&away, SITE, "true");
}

#[tokio::test]
async fn an_answer_before_the_request_has_come_is_for_the_only_page_that_there_is() {
    let world = World::redis_alone().await;
    for (origins, expected) in [
        (SITE, Some("access-control-allow-origin: https://site.example\r\n")),
        ("*", Some("access-control-allow-origin: *\r\n")),
        ("https://site.example,https://other.example", None),
    ] {
        let app = world.ingest_with(&[("VIEW_INGEST_CORS_ORIGIN", origins), ("VIEW_INGEST_HEADER_TIMEOUT", "1s")]).await;
        let answer = http::raw(app.address, "POST /posts/view HTTP/1.1\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\r\nvary: origin\r\n"), "{answer}");
        match expected {
            Some(line) => assert!(answer.contains(line), "{answer}"),
            None => assert!(!answer.contains("access-control-"), "{answer}"),
        }
    }
}

#[tokio::test]
async fn any_page_may_be_let_in_without_its_cookies() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_CORS_ORIGIN", "*")]).await;
    for origin in [SITE, OTHER, "null"] {
        let answer = ask(&app, "/posts/view", origin, "POST").await;
        assert_eq!(answer.header("access-control-allow-methods"), "POST");
        assert_readable(&answer, "*", "");
        assert_readable(&app.http.request("GET", "/posts/p/views", &[("origin", origin)], "").await, "*", "");
    }
    let app = world.ingest_with(&[("VIEW_INGEST_CORS_ORIGIN", "*,https://site.example")]).await;
    assert_readable(&ask(&app, "/posts/view", SITE, "POST").await, SITE, "true");
    assert_readable(&ask(&app, "/posts/view", OTHER, "POST").await, "*", "");
}

#[tokio::test]
async fn a_preflight_needs_no_token_and_no_body_and_the_view_behind_it_is_read() {
    let world = World::redis_alone().await;
    let app = site_and_localhost(&world, &[]).await;
    let body = r#"{"postId":"p"}"#;
    let preflight = format!(
        "OPTIONS /posts/view HTTP/1.1\r\nhost: x\r\norigin: {SITE}\r\naccess-control-request-method: POST\r\n\
         authorization: Bearer rubbish\r\n"
    );
    let view = format!(
        "POST /posts/view HTTP/1.1\r\nhost: x\r\norigin: {SITE}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        token("ann"),
        body.len()
    );
    let answers = http::raw(app.address, format!("{preflight}\r\n{view}")).await;
    assert!(answers.starts_with("HTTP/1.1 204 ") && answers.contains("HTTP/1.1 200 "), "{answers}");
    assert_eq!(app.metric("view_ingest_tokens_refused_total{reason=\"malformed\"}").await, 0.0);
    // A body that is announced and does not come is not waited for.
    let answer = http::raw(app.address, format!("{preflight}content-length: 10\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 204 ") && answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn without_the_setting_nothing_is_said_to_pages() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let refused = ask(&app, "/posts/view", SITE, "POST").await;
    assert_eq!((refused.status, refused.header("allow"), told(&refused).len()), (405, "POST", 0));
    let probe = ask(&app, "/livez", SITE, "GET").await;
    assert_eq!((probe.status, probe.header("allow"), told(&probe).len()), (204, "GET, HEAD, OPTIONS", 0));
    assert_eq!(told(&app.http.request("GET", "/posts/p/views", &[("origin", SITE)], "").await).len(), 0);
}

#[tokio::test]
async fn what_no_page_can_send_is_refused_at_the_start() {
    for (flag, value) in [
        ("--cors-origin", "https://site.example/"),
        ("--cors-origin", "https://site.example/path"),
        ("--cors-origin", "site.example"),
        ("--cors-origin", "null"),
        ("--cors-origin", "https://*.site.example"),
        ("--cors-origin", "https://user:hidden@site.example"),
        ("--jwt-cookie", "a=b"),
        ("--path-prefix", "/a/../b"),
        ("--path-prefix", "/a?b"),
    ] {
        let program = Daemon::builder(PROGRAM).env("JWT_SECRET", SECRET).args([flag, value]).start();
        assert_eq!(program.wait_exit().await.code(), Some(64), "{flag} {value}");
        let output = program.output().join("\n");
        assert!(output.contains(&format!("  {flag}: ")) && !output.contains("hidden"), "{output}");
    }
}
