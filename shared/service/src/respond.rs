//! Answers over HTTP: JSON bodies, and errors in the one form that the origin document's framework gives them.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use serde_json::Value;

/// An answer with its whole body in memory.
pub type Answer = Response<Full<Bytes>>;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    status_code: u16,
    message: &'a str,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Value>,
}

/// Returns an answer with a JSON body that is written already.
#[must_use]
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

/// Returns an error: `{"statusCode":404,"message":"…","error":"Not Found"}`. The message is for the client, and never
/// an internal one.
#[must_use]
pub fn error(status: StatusCode, message: &str) -> Answer {
    json(status, error_body(status, message))
}

/// Returns the body of an [`error`].
#[must_use]
pub fn error_body(status: StatusCode, message: &str) -> Vec<u8> {
    error_body_with(status, message, None)
}

fn error_body_with(status: StatusCode, message: &str, checks: Option<Value>) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or_default();
    let body = ErrorBody { status_code: status.as_u16(), message, error: reason, checks };
    // A struct of a number, two strings and what is JSON already always has a JSON form.
    serde_json::to_vec(&body).unwrap_or_default()
}

/// 401, with the challenge that RFC 6750 asks for; `invalid` where a token was given.
#[must_use]
pub fn unauthorized(message: &str, invalid: bool) -> Answer {
    let mut answer = error(StatusCode::UNAUTHORIZED, message);
    let challenge = if invalid { "Bearer error=\"invalid_token\"" } else { "Bearer" };
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    answer
}

/// 405, with the methods that are allowed.
#[must_use]
pub fn method_not_allowed(message: &str, allowed: &'static str) -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, message);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// 204, with the methods that are allowed: the answer to OPTIONS.
#[must_use]
pub fn options(allowed: &'static str) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// 503, with the time in seconds after which it is worth another try.
#[must_use]
pub fn unavailable(message: &str) -> Answer {
    unavailable_with(message, None)
}

/// The same, with how everything is that the process depends on.
pub(crate) fn unavailable_with(message: &str, checks: Option<Value>) -> Answer {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut answer = json(status, error_body_with(status, message, checks));
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// 429, with the time after which it is worth another try, in whole seconds.
#[must_use]
pub fn too_many_requests(message: &str, wait: Duration) -> Answer {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let mut answer = error(StatusCode::TOO_MANY_REQUESTS, message);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    answer
}

/// Closes the connection behind this answer: what the client still sends is not a new request.
#[must_use]
pub fn closing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
