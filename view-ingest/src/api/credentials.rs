//! Where the token of a request is: behind `Authorization` or, if that is configured, in a cookie.
//!
//! A browser sends cookies along with the requests of whatever page it shows, and a page of any site can have it send a
//! view without a preflight. So what comes with a cookie has to be sent by a page that may send views, by the word of
//! the browser, which no page can change: the `Origin`.

use hyper::{
    HeaderMap, Method, Request, StatusCode,
    header::{AUTHORIZATION, COOKIE, HOST, HeaderName, HeaderValue, ORIGIN},
};
use views_auth::{Reason, Verifier, bearer};
use views_service::respond::{self, Answer};

use crate::api::{messages, surface::Surface};

/// Where a request comes from, by the word of browsers that know this header.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Returns the token of a request, or nothing where there is none; the error is the answer to give.
pub(super) fn token<'r, B>(surface: &Surface, verifier: &Verifier, request: &'r Request<B>) -> Result<Option<&'r [u8]>, Answer> {
    let headers = request.headers();
    if let Some(authorization) = headers.get(AUTHORIZATION) {
        return Ok(bearer(authorization.as_bytes()));
    }
    let Some(name) = &surface.cookie else { return Ok(None) };
    let found = cookie(headers, name.as_bytes());
    let found = found.map_err(|TwoValues| respond::error(StatusCode::BAD_REQUEST, messages::TWO_COOKIES))?;
    let Some(token) = found else { return Ok(None) };
    if !is_from_own_page(surface, request) {
        verifier.refuse(Reason::Origin);
        return Err(respond::error(StatusCode::FORBIDDEN, messages::ORIGIN_REFUSED));
    }
    Ok(Some(token))
}

/// A cookie that is there twice, with two values: nobody can tell which of them is meant.
#[derive(Debug, PartialEq, Eq)]
struct TwoValues;

/// Returns the value of a cookie, if it has one.
fn cookie<'h>(headers: &'h HeaderMap, name: &[u8]) -> Result<Option<&'h [u8]>, TwoValues> {
    let mut found = None;
    for pair in headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';')) {
        let Some(place) = pair.iter().position(|byte| *byte == b'=') else { continue };
        let value = unquoted(pair[place + 1..].trim_ascii());
        if pair[..place].trim_ascii() != name || value.is_empty() {
            continue;
        }
        if found.is_some_and(|found| found != value) {
            return Err(TwoValues);
        }
        found = Some(value);
    }
    Ok(found)
}

/// Returns a value without the quotes that it may stand in (RFC 6265, section 4.1.1).
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// Returns whether a page that may send views has made the request. Browsers send no `Origin` with what a page reads from
/// its own host, nor with images and scripts of any page. They show no page of another site the answer to those, but such
/// a page can see how long it took.
fn is_from_own_page<B>(surface: &Surface, request: &Request<B>) -> bool {
    let headers = request.headers();
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (Some(origin), None) => {
            surface.cors.as_ref().is_some_and(|cors| cors.allows_credentials(origin))
                || headers.get(HOST).is_some_and(|host| is_of_host(origin, host))
        }
        (None, _) => matches!(*request.method(), Method::GET | Method::HEAD) && !is_from_elsewhere(headers),
        _ => false,
    }
}

/// Returns whether a browser says that the page of another origin has made the request.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    headers.get_all(SEC_FETCH_SITE).iter().any(|site| site != "same-origin" && site != "none")
}

/// Returns whether an origin has this host and port. The schemes are not compared: whoever ends TLS before this process
/// speaks plain HTTP with it.
fn is_of_host(origin: &HeaderValue, host: &HeaderValue) -> bool {
    let (origin, host) = (origin.as_bytes(), host.as_bytes());
    let (authority, own_port) = match (origin.strip_prefix(b"https://"), origin.strip_prefix(b"http://")) {
        (Some(authority), _) => (authority, &b":443"[..]),
        (_, Some(authority)) => (authority, &b":80"[..]),
        _ => return false,
    };
    let host_alone = host.strip_suffix(own_port).unwrap_or(host);
    !authority.is_empty() && (authority.eq_ignore_ascii_case(host) || authority.eq_ignore_ascii_case(host_alone))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn cookies(values: &[&[u8]]) -> HeaderMap {
        values.iter().map(|value| (COOKIE, HeaderValue::from_bytes(value).unwrap())).collect()
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        for values in [
            &[&b"token=a.b.c"[..]][..],
            &[b"x=1; token=a.b.c; y=2"],
            &[b"x=1;token=a.b.c"],
            &[b"x=1", b"y=2; token=a.b.c"],
            &[b"token=\"a.b.c\""],
            &[b" token = a.b.c "],
            &[b"x; =; ;;=y; token=a.b.c"],
            &[b"x=\xff\xfe; token=a.b.c"],
            &[b"token=; token=a.b.c"],
            &[b"token=a.b.c; token=a.b.c", b"token=\"a.b.c\""],
            &[b"Token=x; xtoken=x; tokenx=x; token=a.b.c"],
        ] {
            assert_eq!(cookie(&cookies(values), b"token"), Ok(Some(&b"a.b.c"[..])), "{values:?}");
        }
        for values in [&[][..], &[&b""[..]], &[b"token"], &[b"token="], &[b"token=\"\""], &[b"TOKEN=a"], &[b"x=token=a"]] {
            assert_eq!(cookie(&cookies(values), b"token"), Ok(None), "{values:?}");
        }
        for values in [&[&b"token=a; token=b"[..]][..], &[b"token=a", b"token=b"], &[b"token=a; token=\"b\""]] {
            assert_eq!(cookie(&cookies(values), b"token"), Err(TwoValues), "{values:?}");
        }
        assert_eq!(cookie(&cookies(&[b"token=\"a"]), b"token"), Ok(Some(&b"\"a"[..])));
    }

    #[test]
    fn an_origin_is_of_the_host_that_it_names() {
        let is_of_host = |origin: &'static str, host: &'static str| {
            is_of_host(&HeaderValue::from_static(origin), &HeaderValue::from_static(host))
        };
        for (origin, host) in [
            ("https://site.example", "site.example"),
            ("http://site.example", "site.example"),
            ("https://site.example", "Site.Example"),
            ("https://site.example", "site.example:443"),
            ("http://site.example", "site.example:80"),
            ("http://localhost:3001", "localhost:3001"),
            ("http://[::1]:3001", "[::1]:3001"),
        ] {
            assert!(is_of_host(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("https://site.example", "other.example"),
            ("https://site.example:8443", "site.example"),
            ("https://site.example", "site.example:8443"),
            ("https://site.example", "site.example:80"),
            ("https://site.example.evil.example", "site.example"),
            ("https://evil.example", "site.example"),
            ("null", ""),
            ("null", "null"),
            ("https://", ""),
            ("https://", ":443"),
            ("", ""),
            ("site.example", "site.example"),
            ("file://site.example", "site.example"),
        ] {
            assert!(!is_of_host(origin, host), "{origin} {host}");
        }
    }

    proptest! {
        #[test]
        fn no_cookie_harms_anybody(bytes in proptest::collection::vec(any::<u8>(), 0..60), name in "[a-z]{1,3}") {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let headers: HeaderMap = std::iter::once((COOKIE, value)).collect();
                if let Ok(Some(found)) = cookie(&headers, name.as_bytes()) {
                    assert!(!found.is_empty() && !found.contains(&b';'));
                }
            }
        }
    }
}
