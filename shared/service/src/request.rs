//! Requests that two servers may read in two ways, as one behind a proxy and the proxy itself.

use hyper::{
    Request, Version,
    header::{AUTHORIZATION, HOST},
};

/// Whether the request does not say for certain for which host it is (RFC 9112, section 3.2), or who sends it.
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

/// Whether RFC 3986 has a place for this byte in a host and its port.
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
