//! What clients send: the posts that they name, in a body or in a query. The error of all of these is the answer to give.

use std::{borrow::Cow, collections::HashSet, fmt};

use bytes::Bytes;
use foldhash::fast::RandomState;
use hyper::{
    Request, StatusCode,
    header::{ACCEPT_ENCODING, HeaderValue},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use smallvec::SmallVec;
use views_core::ids::{MAX_POST_ID, PostId};
use views_service::respond::{self, Answer};

use crate::{
    api::{app::App, messages},
    http::body::{self, BodyError, Upload},
};

/// What an id takes of a query at most, in bytes: every byte encoded, and a parameter of its own.
const BYTES_PER_ID: usize = 3 * MAX_POST_ID + "&ids=".len();
/// What everything else may take of it, in bytes.
const OTHER_BYTES: usize = 4 * 1024;
/// How many parameters a query may have beside one for each id.
const OTHER_PARAMETERS: usize = 16;

#[derive(Deserialize)]
struct One<'a> {
    #[serde(rename = "postId", borrow)]
    post_id: Option<Id<'a>>,
}

#[derive(Deserialize)]
struct Many<'a> {
    #[serde(rename = "postIds", borrow)]
    post_ids: Option<Vec<Id<'a>>>,
}

/// An id as it is written in a body.
enum Id<'a> {
    /// A text, which is read where it stands, unless it has escapes.
    Text(Cow<'a, str>),
    /// A whole number, which means its digits.
    Number(u64),
    /// A number that is none of these, such as `-1`, `1.0` or `1e3`.
    OtherNumber,
}

impl Id<'_> {
    fn post(&self) -> Result<PostId, Answer> {
        match self {
            Self::Text(text) => post_id(text),
            Self::Number(number) => post_id(itoa::Buffer::new().format(*number)),
            Self::OtherNumber => Err(bad_request(messages::POST_ID_BAD)),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Id<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IdVisitor)
    }
}

struct IdVisitor;

impl<'de> Visitor<'de> for IdVisitor {
    type Value = Id<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Id::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Id::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Id::Number(number))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Id::OtherNumber)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Id::OtherNumber)
    }
}

/// Returns the post that a body names.
pub(super) async fn viewed_post(app: &App, request: &mut Request<&mut Upload<'_>>) -> Result<PostId, Answer> {
    let body = read(app, request).await?;
    let One { post_id: Some(id) } = parse(&body)? else { return Err(bad_request(messages::POST_ID_MISSING)) };
    id.post()
}

/// Returns the posts that a body names.
pub(super) async fn viewed_posts(app: &App, request: &mut Request<&mut Upload<'_>>) -> Result<Vec<PostId>, Answer> {
    let body = read(app, request).await?;
    let Many { post_ids: Some(ids) } = parse(&body)? else { return Err(bad_request(messages::POST_IDS_MISSING)) };
    post_ids(ids.iter().map(Id::post), app.limits.max_batch)
}

/// Returns how many posts a query names at most.
pub(super) fn weight(query: &str, limit: usize) -> Result<usize, Answer> {
    if query.len() > limit * BYTES_PER_ID + OTHER_BYTES {
        return Err(too_many_ids(limit));
    }
    // Each id has one of these before it, however the list is written, but for the first one.
    let ids = 1 + query.bytes().filter(|byte| b",&%".contains(byte)).count();
    Ok(ids.min(limit))
}

/// Reads the posts of a query, and no more of it than so many can need.
pub(super) fn queried_posts(query: &str, limit: usize) -> Result<Vec<PostId>, Answer> {
    let mut lists: SmallVec<[Cow<'_, str>; 1]> = SmallVec::new();
    for (number, (name, list)) in form_urlencoded::parse(query.as_bytes()).enumerate() {
        if number >= limit + OTHER_PARAMETERS {
            return Err(too_many_ids(limit));
        }
        if name == "ids" {
            lists.push(list);
        }
    }
    if lists.is_empty() {
        return Err(bad_request(messages::POST_IDS_MISSING));
    }
    // A list of no ids would split into one empty id.
    let texts = lists.iter().filter(|list| !list.is_empty()).flat_map(|list| list.split(','));
    let texts: Vec<&str> = texts.take(limit + 1).collect();
    post_ids(texts.into_iter().map(post_id), limit)
}

/// Returns the post of an id.
pub(super) fn post_id(text: &str) -> Result<PostId, Answer> {
    PostId::parse(text).map_err(|_| bad_request(messages::POST_ID_BAD))
}

/// Returns the posts of a list of ids: at least one, at most `limit`, each kept once, in the order of their first
/// appearance.
fn post_ids(ids: impl ExactSizeIterator<Item = Result<PostId, Answer>>, limit: usize) -> Result<Vec<PostId>, Answer> {
    match ids.len() {
        0 => return Err(bad_request(messages::BATCH_EMPTY)),
        number if number > limit => return Err(too_many_ids(limit)),
        _ => {}
    }
    let mut seen = HashSet::with_capacity_and_hasher(ids.len(), RandomState::default());
    let mut posts = Vec::with_capacity(ids.len());
    for post in ids {
        let post = post?;
        if seen.insert(post) {
            posts.push(post);
        }
    }
    Ok(posts)
}

fn too_many_ids(limit: usize) -> Answer {
    bad_request(&format!("{}{limit}", messages::BATCH_LONG))
}

fn bad_request(message: &str) -> Answer {
    respond::error(StatusCode::BAD_REQUEST, message)
}

async fn read(app: &App, request: &mut Request<&mut Upload<'_>>) -> Result<Bytes, Answer> {
    body::read_json(request, app.limits.body_timeout).await.map_err(refusal)
}

fn refusal(error: BodyError) -> Answer {
    // What is left of the body is not read, so the connection is of no more use.
    let last = |status, message| respond::closing(respond::error(status, message));
    match error {
        BodyError::NotJson => respond::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, messages::CONTENT_TYPE),
        BodyError::Encoded => {
            let mut answer = respond::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, messages::ENCODING);
            // What would be taken instead (RFC 9110, section 12.5.3).
            answer.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            answer
        }
        BodyError::TooLarge => last(StatusCode::PAYLOAD_TOO_LARGE, messages::TOO_LARGE),
        BodyError::Lost => last(StatusCode::BAD_REQUEST, messages::BODY_BROKEN),
        BodyError::TooSlow => last(StatusCode::REQUEST_TIMEOUT, messages::TOO_SLOW),
    }
}

/// Reads a JSON object of the form `T`. A missing field is for the caller to notice: it has its own message.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Answer> {
    let bad = || bad_request(messages::BAD_JSON);
    // The library would read an array's elements as a struct's fields.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(bad());
    }
    serde_json::from_slice(body).map_err(|_| bad())
}
