//! Requests that failed for a reason of ours: a line in the log, by which whoever has sent one can find out why.

use hyper::{HeaderMap, Method, header::HeaderName};
use views_core::log_names;

use crate::respond::Answer;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The longest id that is taken, in bytes. A UUID has 36, a `traceparent` 55.
const MAX_ID: usize = 128;

/// Logs a request whose answer is a 5xx, with the ids that it came with, and gives the answer the request's own.
/// `route` is the path as it is documented.
pub fn note(method: &Method, route: &str, headers: &HeaderMap, answer: &mut Answer) {
    let status = answer.status();
    if !status.is_server_error() {
        return;
    }
    let request_id = id(headers, &X_REQUEST_ID);
    tracing::warn!(
        name: log_names::EXAMPLE,
        status = status.as_u16(),
        method = method.as_str(),
        route,
        request_id,
        traceparent = id(headers, &TRACEPARENT),
        "a request failed"
    );
    if let Some(id) = request_id.and_then(|id| id.parse().ok()) {
        answer.headers_mut().insert(X_REQUEST_ID, id);
    }
}

/// Returns an id that a request came with, unless it is no such thing: clients may send anything.
fn id<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:=+/~@".contains(&byte);
    let id = headers.get(name)?.to_str().ok()?;
    (1..=MAX_ID).contains(&id.len()).then_some(id).filter(|id| id.bytes().all(is_usual))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_an_id_is_one() {
        let known = |value: &[u8]| {
            let headers = HeaderMap::from_iter([(X_REQUEST_ID, value.try_into().unwrap())]);
            id(&headers, &X_REQUEST_ID).map(str::to_owned)
        };
        for good in ["7b1c", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Root=1-67891233-abcdef", "a/b+c==", "~"]
        {
            assert_eq!(known(good.as_bytes()).as_deref(), Some(good));
        }
        let long = "a".repeat(MAX_ID + 1);
        for bad in ["", " ", "a b", "\"a\"", "a\tb", "${jndi:x}", "a,b", "\u{1b}[31m", "я", &long] {
            assert_eq!(known(bad.replace('\u{1b}', "\u{80}").as_bytes()), None, "{bad:?}");
        }
        assert_eq!(id(&HeaderMap::new(), &X_REQUEST_ID), None);
    }
}
