//! Cross-origin resource sharing: pages of which other origins a browser lets read the answers, and send more than
//! simple requests (Fetch standard, section 3.3).

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
        HeaderValue, ORIGIN, VARY,
    },
};
use url::Url;

use crate::respond::Answer;

const ANY: HeaderValue = HeaderValue::from_static("*");
const TRUE: HeaderValue = HeaderValue::from_static("true");
/// What the answers depend on.
const VARIES_BY: HeaderValue = HeaderValue::from_static("origin");
/// Request headers beside those that need no permission.
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type");
/// Answer headers beside those that every page may read.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static("retry-after");
/// How long a browser need not ask again, in seconds. Chromium remembers nothing for longer than this.
const MAX_AGE_SECONDS: HeaderValue = HeaderValue::from_static("7200");

/// An origin as a setting names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// Whatever origin there is (`*`), without credentials.
    Any,
    /// An origin, spelled as browsers send it, with credentials.
    Named(HeaderValue),
}

impl AllowedOrigin {
    /// Parses `*` or an origin such as `https://site.example`, and brings it into the spelling of browsers.
    ///
    /// # Errors
    /// When it is none, or one that no browser ever sends.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        serialize(text).map(Self::Named).ok_or_else(|| {
            format!(
                "{text:?} is not an origin such as https://site.example or http://localhost:8080: a scheme, a host, perhaps a \
                 port, and nothing behind them, not even a slash"
            )
        })
    }
}

/// Returns an origin as browsers send it: lower case, and without the port that is the scheme's own.
fn serialize(text: &str) -> Option<HeaderValue> {
    let (_, authority) = text.split_once("://")?;
    // The parser below would mend these, or leave them out.
    let is_odd = |letter: char| letter.is_whitespace() || letter.is_control() || "/\\?#@*,%\"'<>|^`{}".contains(letter);
    if authority.ends_with(':') || authority.contains(is_odd) {
        return None;
    }
    let url = Url::parse(text).ok()?;
    // Pages from these have no origin of their own.
    if matches!(url.scheme(), "file" | "ftp" | "ws" | "wss") {
        return None;
    }
    let host = url.host_str().filter(|host| !host.is_empty())?.to_ascii_lowercase();
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    HeaderValue::try_from(format!("{}://{host}{port}", url.scheme())).ok()
}

/// The origins whose pages may read answers.
#[derive(Debug, Clone)]
pub struct Cors {
    named: Vec<HeaderValue>,
    allows_any: bool,
    unasked_headers: String,
}

impl Cors {
    /// Returns what is allowed; nothing where no origin is.
    #[must_use]
    pub fn new(allowed: Vec<AllowedOrigin>) -> Option<Self> {
        if allowed.is_empty() {
            return None;
        }
        let allows_any = allowed.contains(&AllowedOrigin::Any);
        let named = allowed.into_iter().filter_map(|origin| match origin {
            AllowedOrigin::Any => None,
            AllowedOrigin::Named(origin) => Some(origin),
        });
        let mut cors = Self { named: named.collect(), allows_any, unasked_headers: String::new() };
        let mut headers = HeaderMap::new();
        cors.unasked_grant().add_headers(&mut headers);
        for (name, value) in &headers {
            // Origins were parsed from text.
            cors.unasked_headers += &format!("{name}: {}\r\n", value.to_str().unwrap_or_default());
        }
        Some(cors)
    }

    /// Returns what an origin is granted by whose page a request was made.
    #[must_use]
    pub fn grant(&self, headers: &HeaderMap) -> Grant<'_> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let named = match (origins.next(), origins.next()) {
            (Some(origin), None) => self.named.iter().find(|named| *named == origin),
            _ => None,
        };
        match named {
            Some(origin) => Grant::WithCredentials(origin),
            None if self.allows_any => Grant::WithoutCredentials,
            None => Grant::Nothing,
        }
    }

    /// Returns whether pages of an origin may use credentials. `null`, which many pages share, is never one of them.
    #[must_use]
    pub fn allows_credentials(&self, origin: &HeaderValue) -> bool {
        self.named.contains(origin)
    }

    /// Returns the answer to a [preflight](is_preflight) for a path that takes the methods. The headers of the grant are
    /// yet to be added.
    #[must_use]
    pub fn preflight(&self, headers: &HeaderMap, methods: &'static str) -> Answer {
        let mut answer = Response::new(http_body_util::Full::default());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        if !matches!(self.grant(headers), Grant::Nothing) {
            let headers = answer.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
            headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
        }
        answer
    }

    /// Returns the header lines of an answer that is given before the request has been read: those that hold for
    /// whatever origin it may have.
    #[must_use]
    pub fn unasked_headers(&self) -> &str {
        &self.unasked_headers
    }

    fn unasked_grant(&self) -> Grant<'_> {
        match self.named.as_slice() {
            _ if self.allows_any => Grant::WithoutCredentials,
            [origin] => Grant::WithCredentials(origin),
            _ => Grant::Nothing,
        }
    }
}

/// What the page by which a request was made may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant<'a> {
    /// Read the answer, also one to a request with cookies.
    WithCredentials(&'a HeaderValue),
    /// Read the answer to a request without cookies.
    WithoutCredentials,
    /// Nothing.
    Nothing,
}

impl Grant<'_> {
    /// Adds the headers that tell the browser.
    pub fn add_headers(self, headers: &mut HeaderMap) {
        // Also where nothing is granted: a cache must not show this answer to another origin.
        headers.append(VARY, VARIES_BY);
        let origin = match self {
            Self::WithCredentials(origin) => {
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
                origin.clone()
            }
            Self::WithoutCredentials => ANY,
            Self::Nothing => return,
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
    }
}

/// Returns whether a browser asks by this request what a page may send.
#[must_use]
pub fn is_preflight<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> AllowedOrigin {
        AllowedOrigin::Named(HeaderValue::from_str(text).unwrap())
    }

    fn cors(origins: &[&str]) -> Cors {
        Cors::new(origins.iter().map(|origin| AllowedOrigin::parse(origin).unwrap()).collect()).unwrap()
    }

    fn headers(origins: &[&'static str]) -> HeaderMap {
        origins.iter().map(|origin| (ORIGIN, HeaderValue::from_static(origin))).collect()
    }

    #[test]
    fn an_origin_is_spelled_as_browsers_send_it() {
        for (text, origin) in [
            ("https://site.example", "https://site.example"),
            ("HTTPS://Site.Example", "https://site.example"),
            ("https://site.example:443", "https://site.example"),
            ("http://site.example:80", "http://site.example"),
            ("http://site.example:443", "http://site.example:443"),
            ("https://site.example:8443", "https://site.example:8443"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("https://сайт.рф", "https://xn--80aswg.xn--p1ai"),
            // Applications in a frame of their own.
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ] {
            assert_eq!(AllowedOrigin::parse(text), Ok(named(origin)), "{text}");
        }
        assert_eq!(AllowedOrigin::parse("*"), Ok(AllowedOrigin::Any));
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        for text in [
            "null",
            "site.example",
            "//site.example",
            "https:site.example",
            "https:/site.example",
            "https://",
            "https:///",
            "https://site.example/",
            "https://site.example/path",
            "https://site.example?x",
            "https://site.example#x",
            "https://user@site.example",
            "https://user:password@site.example",
            "https://site.example:",
            "https://site.example:x",
            "https://site.example:99999",
            "https://*.site.example",
            "https://*",
            "**",
            "https://site.example\\",
            "https://site .example",
            "https://site\t.example",
            "https://a.example,https://b.example",
            "https://a%2eexample",
            "file://",
            "file://host",
            "ws://site.example",
            "://site.example",
            "1://site.example",
        ] {
            assert!(AllowedOrigin::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_origin_is_granted_what_the_settings_say() {
        let site = cors(&["https://site.example"]);
        let origin = HeaderValue::from_static("https://site.example");
        assert_eq!(site.grant(&headers(&["https://site.example"])), Grant::WithCredentials(&origin));
        for others in [
            &[][..],
            &["null"],
            &["https://other.example"],
            &["http://site.example"],
            &["https://site.example:8443"],
            &["https://site.example "],
            &["https://site.example.evil.example"],
            &["https://SITE.example"],
            &["https://site.example", "https://site.example"],
        ] {
            assert_eq!(site.grant(&headers(others)), Grant::Nothing, "{others:?}");
        }
        let any = cors(&["*", "https://site.example"]);
        assert_eq!(any.grant(&headers(&["https://site.example"])), Grant::WithCredentials(&origin));
        assert_eq!(any.grant(&headers(&["https://other.example"])), Grant::WithoutCredentials);
        assert_eq!(any.grant(&headers(&[])), Grant::WithoutCredentials);
        assert!(!any.allows_credentials(&HeaderValue::from_static("https://other.example")));
        assert!(!any.allows_credentials(&HeaderValue::from_static("null")));
    }

    #[test]
    fn an_answer_to_nobody_in_particular_says_what_holds_for_everybody() {
        assert!(Cors::new(Vec::new()).is_none());
        assert_eq!(cors(&["https://a.example", "https://b.example"]).unasked_headers(), "vary: origin\r\n");
        let one = cors(&["https://a.example"]);
        assert!(one.unasked_headers().contains("access-control-allow-origin: https://a.example\r\n"));
        assert!(one.unasked_headers().contains("access-control-allow-credentials: true\r\n"));
        let any = cors(&["*"]);
        assert!(any.unasked_headers().contains("access-control-allow-origin: *\r\n"));
        assert!(!any.unasked_headers().contains("credentials"));
    }
}
