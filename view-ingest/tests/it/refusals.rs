//! Requests that are refused: 400, 404, 405, 413, 415, 431.

use serde_json::{Value, json};
use testkit::http::{self, Response};

use crate::{
    support::{Ingest, World, assert_error, token},
    wire::Wire,
};

const MAX_BODY: usize = 64 * 1024;

async fn send(app: &Ingest, body: impl Into<Vec<u8>>) -> Response {
    let authorization = format!("Bearer {}", token("ann"));
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    app.http.request("POST", "/posts/view", &headers, body.into()).await
}

/// The head of a view up to the headers that a test adds.
fn head() -> String {
    let token = token("ann");
    format!("POST /posts/view HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n")
}

#[tokio::test]
async fn an_error_has_one_form_and_says_nothing_more() {
    let world = World::redis_alone().await;
    let response = world.ingest().await.http.get("/nowhere").await;
    assert_eq!(response.status, 404);
    assert_eq!(response.body, r#"{"statusCode":404,"message":"Маршрут не найден","error":"Not Found"}"#);
    let mut names: Vec<&str> = response.headers.keys().map(hyper::header::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "content-type", "date"]);
}

#[tokio::test]
async fn what_is_no_json_object_is_refused() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    for body in [
        "",
        " ",
        "{",
        "null",
        r#""p""#,
        r#"["p"]"#,
        r#"[{"postId":"p"}]"#,
        r#"{"postId":"p"} x"#,
        r#"{"postId":"p"}{"postId":"q"}"#,
        r#"{"postId":"p",}"#,
        r#"{"postId":"p","postId":"q"}"#,
        r#"{"postId":["p"]}"#,
        r#"{"postId":true}"#,
        r#"{'postId':'p'}"#,
        "postId=p",
        "\u{feff}{\"postId\":\"p\"}",
    ] {
        assert_error(&send(&app, body).await, 400, "Некорректный JSON");
    }
    assert_error(&send(&app, b"{\"postId\":\"\xff\"}".to_vec()).await, 400, "Некорректный JSON");
    assert!(world.outbox().await.is_empty());
}

#[tokio::test]
async fn deep_nesting_harms_nobody() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let deep = 30_000;
    for body in [
        format!(r#"{{"postId":{}{}}}"#, "[".repeat(deep), "]".repeat(deep)),
        format!(r#"{{"postId":{}"#, r#"{"postId":"#.repeat(6_000)),
        format!(r#"{{"x":{}"#, "[".repeat(deep)),
    ] {
        assert_error(&send(&app, body).await, 400, "Некорректный JSON");
    }
    let ignored = format!(r#"{{"x":{}{},"postId":"p"}}"#, "[".repeat(deep), "]".repeat(deep));
    assert!(matches!(send(&app, ignored).await.status, 200 | 400));
    assert_eq!(app.http.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_missing_id_and_a_bad_one_are_told_apart() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    for body in [json!({}), json!({ "postId": null }), json!({ "postid": "p" })] {
        assert_error(&send(&app, body.to_string()).await, 400, "Не указан postId");
    }
    let (longest, too_long) = ("p".repeat(64), "p".repeat(65));
    for id in ["", " ", "a{b", "a}b", "a:b", "a b", " p", "p\n", "a\0b", "пост", "é", "a/b", "a*", "a.b", "p\u{200b}", &too_long]
    {
        let body = json!({ "postId": id }).to_string();
        assert_error(&send(&app, body).await, 400, "Некорректный идентификатор поста");
    }
    assert_eq!(send(&app, json!({ "postId": longest }).to_string()).await.status, 200);
    assert_eq!(send(&app, r#"{"postId":"\u0070"}"#).await.status, 200, "an escaped p");
    assert_eq!(world.outbox().await, [(longest, "ann".to_owned()), ("p".to_owned(), "ann".to_owned())]);
}

#[tokio::test]
async fn a_path_without_a_route_is_not_found() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    for path in
        ["/", "/posts", "/posts/view/", "/posts/sync-views", "/posts/a/b/views", "/POSTS/view", "/posts/../livez", "/health"]
    {
        for method in ["GET", "POST"] {
            assert_error(&app.http.request(method, path, &[], "").await, 404, "Маршрут не найден");
        }
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_refused_with_those_that_it_takes() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    for (method, path, allowed) in [
        ("GET", "/posts/view", "POST"),
        ("HEAD", "/posts/view", "POST"),
        ("OPTIONS", "/posts/view", "POST"),
        ("PUT", "/posts/views-batch", "POST"),
        ("POST", "/posts/p/views", "GET, HEAD"),
        ("DELETE", "/posts/p/views", "GET, HEAD"),
        ("POST", "/posts/views", "GET, HEAD"),
        ("BREW", "/readyz", "GET, HEAD, OPTIONS"),
    ] {
        let response = app.http.request(method, path, &[], "").await;
        assert_eq!((response.status, response.header("allow")), (405, allowed), "{method} {path}");
        if method != "HEAD" {
            assert_error(&response, 405, "Метод не поддерживается");
        }
    }
}

#[tokio::test]
async fn a_body_of_64_kib_is_taken_and_a_larger_one_refused() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let body = |length: usize| format!("{{\"postId\":\"p\"{}}}", " ".repeat(length - 14));
    assert_eq!(body(MAX_BODY).len(), MAX_BODY);
    assert_eq!(send(&app, body(MAX_BODY)).await.status, 200);

    // Refused by its announced length, without waiting for the body.
    let answer = http::raw(app.address, format!("{}content-length: {}\r\n\r\n", head(), MAX_BODY + 1)).await;
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
    assert!(
        answer.ends_with(r#"{"statusCode":413,"message":"Слишком большое тело запроса","error":"Payload Too Large"}"#),
        "{answer}"
    );
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_chunked_body_is_taken_up_to_the_same_size() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let chunked = |body: &str| {
        let chunks: String =
            body.as_bytes().chunks(4096).map(|chunk| format!("1000\r\n{}\r\n", String::from_utf8_lossy(chunk))).collect();
        format!("{}transfer-encoding: chunked\r\nconnection: close\r\n\r\n{chunks}0\r\n\r\n", head())
    };
    let fits = format!("{{\"postId\":\"p\"{}}}", " ".repeat(MAX_BODY - 14));
    assert!(http::raw(app.address, chunked(&fits)).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let answer = http::raw(app.address, chunked(&" ".repeat(MAX_BODY + 4096))).await;
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_not_announced_as_json_is_refused() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let authorization = format!("Bearer {}", token("ann"));
    let body = r#"{"postId":"p"}"#;
    for kind in ["text/html", "application/x-www-form-urlencoded", "application/jsonp", "application", "text/xml+json", ""] {
        let headers = [("authorization", authorization.as_str()), ("content-type", kind)];
        let response = app.http.request("POST", "/posts/view", &headers, body).await;
        assert_error(&response, 415, "Ожидается Content-Type: application/json");
    }
    let without = app.http.request("POST", "/posts/views-batch", &[("authorization", &authorization)], body).await;
    assert_error(&without, 415, "Ожидается Content-Type: application/json");
}

#[tokio::test]
async fn large_headers_are_refused() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let fits = "x".repeat(15 * 1024);
    assert_eq!(app.http.request("GET", "/livez", &[("x-fill", &fits)], "").await.status, 200);
    let large = "x".repeat(17 * 1024);
    let response = app.http.request("GET", "/livez", &[("x-fill", &large)], "").await;
    assert_error(&response, 431, "Слишком большие заголовки запроса");
    // Past this size the HTTP library answers by itself.
    for headers in [format!("x-fill: {}\r\n", "x".repeat(100 * 1024)), "x: y\r\n".repeat(200)] {
        let answer = http::raw(app.address, format!("GET /livez HTTP/1.1\r\nhost: x\r\n{headers}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_the_next_client_served() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    for noise in [
        "\r\n\r\n\r\n\r\nHELLO\r\n\r\n",
        "GET /livez HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01",
        "GET / HTTP/1.1\r\nbad header\r\n\r\n",
    ] {
        let answer = http::raw(app.address, noise).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{noise:?}: {answer}");
    }
    assert_eq!(app.http.get("/livez").await.status, 200);
}

#[tokio::test]
async fn an_answer_does_not_wait_for_the_request_behind_it() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let mut wire = Wire::connect(app.address).await;
    wire.send("GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET /live").await;
    wire.read_answers(1).await;
    wire.send("z HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nbad header\r\n\r\n").await;
    let answer = wire.read_to_end().await;
    assert_eq!(answer.matches(r#"{"status":"ok"}"#).count(), 2, "{answer}");
    assert!(answer.contains("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_in_their_order() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let body = r#"{"postId":"p"}"#;
    let view = format!("{}content-length: {}\r\n\r\n{body}", head(), body.len());
    let last = "GET /posts/p/views HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = http::raw(app.address, format!("{view}{view}{last}")).await;
    let bodies: Vec<Value> =
        answer.lines().filter_map(|line| serde_json::from_str(line.split_inclusive('}').next()?).ok()).collect();
    let statuses: Vec<&Value> = bodies.iter().map(|body| &body["status"]).collect();
    assert_eq!(statuses, [&json!("counted"), &json!("duplicate"), &Value::Null], "{answer}");
    assert_eq!(bodies[2]["viewsCount"], 1);
}
