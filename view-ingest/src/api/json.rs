//! Reading a request's JSON, and what a client is told where that is not possible.

use bytes::Bytes;
use hyper::{
    Request, StatusCode,
    header::{ACCEPT_ENCODING, HeaderValue},
};
use serde::Deserialize;
use views_service::respond::{self, Answer};

use crate::{
    api::{app::App, messages},
    http::body::{self, BodyError, Upload},
};

/// Reads the whole body of a request.
///
/// # Errors
/// The answer to give where it cannot be read.
pub(super) async fn read(app: &App, request: Request<&mut Upload<'_>>) -> Result<Bytes, Answer> {
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
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Answer> {
    let bad = || respond::error(StatusCode::BAD_REQUEST, messages::BAD_JSON);
    // The library would read an array's elements as a struct's fields.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(bad());
    }
    serde_json::from_slice(body).map_err(|_| bad())
}
