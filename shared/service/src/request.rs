//! Requests that two servers may read in two ways, as one behind a proxy and the proxy itself.

use hyper::{
    Request, Version,
    header::{AUTHORIZATION, HOST, TRANSFER_ENCODING},
};

/// Returns whether the request does not say for certain for which host it is (RFC 9112, section 3.2), or who sends it.
#[must_use]
pub fn is_ambiguous<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    let is_host_clear = match (hosts.next(), hosts.next()) {
        // HTTP/1.0 knows no hosts.
        (None, _) => request.version() < Version::HTTP_11,
        // An empty one is legal: the target of the request has no authority.
        (Some(host), None) => host.as_bytes().iter().all(|byte| may_be_in_host(*byte)),
        _ => false,
    };
    !is_host_clear || headers.get_all(AUTHORIZATION).iter().nth(1).is_some()
}

/// Returns whether the body comes in a transfer coding beside `chunked`, or it is told more than once (RFC 9112,
/// section 6.1): the library takes off the last one, and what is left is not the body that was meant.
#[must_use]
pub fn is_coded<B>(request: &Request<B>) -> bool {
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) => !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        _ => true,
    }
}

/// Returns whether RFC 3986 has a place for this byte in a host and its port.
fn may_be_in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_clear(version: Version, headers: &[(&str, &str)]) -> bool {
        let request = Request::builder().version(version).uri("/");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        !is_ambiguous(&request.body(()).unwrap())
    }

    #[test]
    fn chunked_alone_is_understood() {
        let is_coded = |codings: &[&str]| {
            let request = codings.iter().fold(Request::builder(), |request, coding| request.header("transfer-encoding", *coding));
            is_coded(&request.body(()).unwrap())
        };
        for codings in [&[][..], &["chunked"], &["Chunked"], &[" chunked "]] {
            assert!(!is_coded(codings), "{codings:?}");
        }
        for codings in [
            &["gzip, chunked"][..],
            &["identity, chunked"],
            &["chunked, chunked"],
            &["chunked,"],
            &[""],
            &["chunked", "chunked"],
            &["gzip", "chunked"],
            &["chunked;q=1"],
        ] {
            assert!(is_coded(codings), "{codings:?}");
        }
    }

    #[test]
    fn there_is_one_host_and_one_authorization_at_most() {
        for host in ["", "x", "x:80", "[::1]:80", "a_b.example"] {
            assert!(is_clear(Version::HTTP_11, &[("host", host)]), "{host}");
        }
        for host in ["a b", "a, b", "u@h", "a/b", "a?b", "a#b"] {
            assert!(!is_clear(Version::HTTP_11, &[("host", host)]), "{host}");
        }
        assert!(!is_clear(Version::HTTP_11, &[]));
        assert!(is_clear(Version::HTTP_10, &[]));
        assert!(is_clear(Version::HTTP_10, &[("host", "x")]));
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(!is_clear(version, &[("host", "x"), ("host", "x")]));
            assert!(!is_clear(version, &[("host", "x"), ("authorization", "Bearer a"), ("authorization", "Bearer a")]));
        }
        assert!(is_clear(Version::HTTP_11, &[("host", "x"), ("authorization", "Bearer a")]));
    }
}
