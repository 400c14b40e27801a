//! Requests that are HTTP, whatever else they are: each gets exactly the status that the documentation promises.

use std::{cell::RefCell, collections::BTreeSet};

use futures_util::future::join_all;
use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any, prop_oneof},
    sample::select,
    test_runner::TestRunner,
};
use serde_json::{Value, json};
use testkit::properties::cases;
use views_core::ids::PostId;

use crate::{
    wire::{Answer, Ending, send},
    world::{POSTS, World},
};

#[derive(Debug, Clone)]
enum Path {
    View,
    Batch,
    Counts(Vec<String>),
    Viewed(Vec<String>),
    Count(String),
    Probe(&'static str),
    Other(String),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Authorization {
    Missing,
    Good,
    Bad,
}

#[derive(Debug, Clone)]
enum Framing {
    Length,
    Chunks(usize),
}

#[derive(Clone)]
struct Request {
    method: String,
    path: Path,
    authorization: Authorization,
    content_type: Option<String>,
    /// A header that the server does not know: its name, its value, and how long the value is made with more of the same.
    header: (String, String, usize),
    body: Vec<u8>,
    framing: Framing,
}

impl std::fmt::Debug for Request {
    /// A part of a large body says enough.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { method, authorization, content_type, header, framing, .. } = self;
        let (length, start) = (self.body.len(), String::from_utf8_lossy(&self.body[..self.body.len().min(200)]));
        let target = self.target();
        write!(
            f,
            "{method} {target}, token {authorization:?}, {content_type:?}, {header:?}, {framing:?} {length} bytes: {start:?}"
        )
    }
}

/// Ids that exist, that could, and that could not.
fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        select(POSTS.to_vec()).prop_map(str::to_owned),
        "[A-Za-z0-9_-]{1,66}",
        Just("550E8400E29B41D4A716446655440000".to_owned()),
        "[!-~]{0,5}",
        any::<String>()
    ]
}

/// Lists of ids, as queries have them.
fn lists() -> impl Strategy<Value = Vec<String>> {
    vec(vec(id(), 0..130).prop_map(|ids| ids.join(",")), 1..3)
}

fn path() -> impl Strategy<Value = Path> {
    let other = "/[!$-.0-;=A-Z\\[\\]_a-z~]{0,30}(/[a-z.%0-9]{0,10}){0,3}";
    prop_oneof![
        Just(Path::View),
        Just(Path::View),
        Just(Path::Batch),
        Just(Path::Batch),
        lists().prop_map(Path::Counts),
        lists().prop_map(Path::Viewed),
        id().prop_map(Path::Count),
        select(vec!["/livez", "/readyz"]).prop_map(Path::Probe),
        other.prop_filter("no route", |path| route_of(path).is_none()).prop_map(Path::Other),
    ]
}

/// JSON of any form, mostly almost right.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        id().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((any::<String>(), inner), 0..4).prop_map(|fields| fields.into_iter().collect())
        ]
    });
    prop_oneof![
        id().prop_map(|id| json!({ "postId": id, "unknown": [1] }).to_string().into_bytes()),
        select(vec!["7", "0", "18446744073709551615", "18446744073709551616", "-7", "-0", "7.0", "7e0"])
            .prop_map(|number| format!("{{\"postId\":{number},\"postIds\":[7,\"a\",{number}]}}").into_bytes()),
        vec(id(), 0..130).prop_map(|ids| json!({ "postIds": ids }).to_string().into_bytes()),
        (select(vec!["postId", "postIds"]), value.clone())
            .prop_map(|(name, value)| json!({ name: value }).to_string().into_bytes()),
        value.prop_map(|value| value.to_string().into_bytes()),
        // A reader that takes an object's fields by their order would take these.
        prop_oneof![id().prop_map(|id| json!([id])), vec(id(), 1..4).prop_map(|ids| json!([ids]))]
            .prop_map(|list| list.to_string().into_bytes()),
        vec(any::<u8>(), 0..100),
        ("[ \n\u{feff}]{0,3}", "[{}\\[\\]\",:a-z0-9\\\\]{0,30}").prop_map(|(space, text)| (space + &text).into_bytes()),
        // Around the limit, and far beyond it.
        prop_oneof![65_400_usize..65_700, Just(200_000)].prop_map(|length| {
            let text = json!({ "postId": "7", "filler": "" }).to_string();
            text.replace("\"\"", &format!("\"{}\"", "x".repeat(length - text.len()))).into_bytes()
        }),
        (1_usize..20_000).prop_map(|depth| format!("{{\"postId\":{}", "[".repeat(depth)).into_bytes()),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let others = select(vec!["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"]);
    let method = prop_oneof![
        6 => Just("POST".to_owned()),
        6 => others.prop_map(str::to_owned),
        1 => "[A-Z]{1,12}".prop_filter("CONNECT asks for no path", |method| method != "CONNECT"),
    ];
    let good = [
        "application/json",
        "Application/JSON ; charset=utf-8",
        "application/vnd.api+json",
        "text/plain",
        "Text/plain;charset=x",
    ];
    let kind = prop_oneof![
        8 => select(good.to_vec()).prop_map(str::to_owned),
        1 => select(vec!["text/json", "application/jsonp", "+json", ""]).prop_map(str::to_owned),
        1 => "[!-~][ -~]{0,20}[!-~]",
    ];
    let length = prop_oneof![4 => Just(0), 1 => 15_000_usize..18_000];
    let header = ("x-[a-z]{1,20}", "([!-~]([ -~]{0,40}[!-~])?)?", length);
    let authorization =
        select(vec![Authorization::Good, Authorization::Good, Authorization::Good, Authorization::Missing, Authorization::Bad]);
    let framing = prop_oneof![Just(Framing::Length), (1_usize..5_000).prop_map(Framing::Chunks)];
    (method, path(), authorization, option::weighted(0.95, kind), header, body(), framing).prop_map(
        |(method, path, authorization, content_type, header, body, framing)| Request {
            method,
            path,
            authorization,
            content_type,
            header,
            body,
            framing,
        },
    )
}

/// The route that a path belongs to, as the documentation has it.
fn route_of(path: &str) -> Option<&str> {
    match path {
        "/posts/view" | "/posts/views-batch" | "/posts/views" | "/posts/viewed" | "/livez" | "/readyz" => Some(path),
        _ => path.strip_prefix("/posts/")?.strip_suffix("/views").filter(|id| !id.contains('/')),
    }
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

impl Request {
    fn target(&self) -> String {
        match &self.path {
            Path::View => "/posts/view".to_owned(),
            Path::Batch => "/posts/views-batch".to_owned(),
            Path::Counts(lists) | Path::Viewed(lists) => {
                let lists: String = lists.iter().map(|ids| format!("&ids={}", escape(ids))).collect();
                let path = if matches!(self.path, Path::Counts(_)) { "/posts/views" } else { "/posts/viewed" };
                format!("{path}?x=1{lists}")
            }
            Path::Count(id) => format!("/posts/{}/views", escape(id)),
            Path::Probe(path) => (*path).to_owned(),
            Path::Other(path) => path.clone(),
        }
    }

    /// All headers.
    fn headers(&self, token: &str) -> Vec<(&str, String)> {
        let mut headers = vec![("host", "test".to_owned()), ("connection", "close".to_owned())];
        match self.authorization {
            Authorization::Missing => {}
            Authorization::Good => headers.push(("authorization", format!("Bearer {token}"))),
            Authorization::Bad => headers.push(("authorization", format!("Bearer {token}x"))),
        }
        headers.extend(self.content_type.clone().map(|kind| ("content-type", kind)));
        let (name, value, length) = &self.header;
        headers.push((name, format!("{value}{}", "v".repeat(length.saturating_sub(value.len())))));
        match self.framing {
            Framing::Length => headers.push(("content-length", self.body.len().to_string())),
            Framing::Chunks(_) => headers.push(("transfer-encoding", "chunked".to_owned())),
        }
        headers
    }

    fn bytes(&self, token: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target());
        for (name, value) in self.headers(token) {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        match self.framing {
            Framing::Length => [head.as_bytes(), &self.body].concat(),
            Framing::Chunks(size) => {
                let mut bytes = head.into_bytes();
                for chunk in self.body.chunks(size) {
                    bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
                bytes
            }
        }
    }

    /// What the documentation promises.
    fn expected(&self, token: &str) -> u16 {
        let headers: usize = self.headers(token).iter().map(|(name, value)| name.len() + value.len()).sum();
        let is_read = matches!(self.method.as_str(), "GET" | "HEAD");
        match &self.path {
            _ if headers > 16 * 1024 => 431,
            Path::Other(_) => 404,
            Path::View | Path::Batch if self.method != "POST" => 405,
            Path::View | Path::Batch if self.authorization != Authorization::Good => 401,
            Path::View | Path::Batch if !self.announces_json() => 415,
            Path::View | Path::Batch if self.body.len() > 64 * 1024 => 413,
            Path::View => self.object().map_or(400, |body| body.get("postId").and_then(text_of).map_or(400, |id| of_one(&id))),
            Path::Batch => self.object().map_or(400, |body| body.get("postIds").map_or(400, of_list)),
            Path::Probe(_) if self.method == "OPTIONS" => 204,
            _ if !is_read => 405,
            Path::Viewed(_) if self.authorization != Authorization::Good => 401,
            Path::Count(id) => of_one(id),
            Path::Counts(lists) | Path::Viewed(lists) => {
                of_many(&lists.iter().filter(|ids| !ids.is_empty()).flat_map(|ids| ids.split(',')).collect::<Vec<_>>())
            }
            Path::Probe(_) => 200,
        }
    }

    fn announces_json(&self) -> bool {
        let kind = self.content_type.as_deref().unwrap_or_default().split(';').next().unwrap().trim().to_ascii_lowercase();
        kind == "application/json" || kind == "text/plain" || kind.starts_with("application/") && kind.ends_with("+json")
    }

    fn object(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok().filter(Value::is_object)
    }
}

fn of_one(id: &str) -> u16 {
    PostId::parse(id).map_or(400, |post| if POSTS.contains(&post.as_str()) { 200 } else { 404 })
}

fn of_many(ids: &[&str]) -> u16 {
    if (1..=100).contains(&ids.len()) && ids.iter().all(|id| PostId::parse(id).is_ok()) { 200 } else { 400 }
}

fn of_list(ids: &Value) -> u16 {
    let texts = ids.as_array().and_then(|ids| ids.iter().map(text_of).collect::<Option<Vec<_>>>());
    texts.map_or(400, |ids| of_many(&ids.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// The id that a value is: a text, or the digits of a whole number.
fn text_of(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned).or_else(|| Some(value.as_u64()?.to_string()))
}

#[test]
fn every_request_gets_the_answer_that_the_documentation_promises() {
    let world = World::start();
    // Many at once, and all of them again until the guilty one is found when one goes wrong.
    let seen = RefCell::new(BTreeSet::new());
    let mut runner = TestRunner::new(cases(80));
    let outcome = runner.run(&vec(request(), 1..24), |requests| {
        let exchange = |request: Request| {
            let bytes = request.bytes(&world.token);
            async move { (send(world.address, &bytes, Ending::Wait).await, request) }
        };
        for (answer, request) in world.runtime.block_on(join_all(requests.into_iter().map(exchange))) {
            let answer = Answer::read(&answer, request.method != "HEAD");
            assert_eq!(answer.status, request.expected(&world.token), "{answer:?} to {request:?}");
            answer.assert_form();
            seen.borrow_mut().insert(answer.status);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    // The requests are worth nothing if they are all refused for the same reason.
    let mut seen = seen.into_inner();
    // Few of them ask a probe for its methods.
    seen.remove(&204);
    assert_eq!(seen, BTreeSet::from([200, 400, 401, 404, 405, 413, 415, 431]));
    world.assert_well();
}
