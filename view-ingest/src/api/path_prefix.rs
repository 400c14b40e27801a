//! What stands before the path of every route, where view-ingest shares a host with the application.

/// The longest prefix, in bytes.
const MAX_LENGTH: usize = 256;

/// A path that others are below, such as `/api`; empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PathPrefix(String);

impl PathPrefix {
    /// Parses a prefix, and brings it into the form `/a/b`: whether slashes stand around it makes no difference.
    ///
    /// # Errors
    /// When it is no path, or one that two programs may read in two ways.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix('/').unwrap_or(text);
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            return if text.len() < 2 { Ok(Self::default()) } else { Err(Self::complaint(text)) };
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain);
        if path.len() < MAX_LENGTH && path.split('/').all(is_segment) {
            Ok(Self(format!("/{path}")))
        } else {
            Err(Self::complaint(text))
        }
    }

    fn complaint(text: &str) -> String {
        format!("{text:?} is not a path such as /api or /api/v1, of letters, digits and -._~ between the slashes")
    }

    /// Returns what stands behind the prefix, or nothing where a path does not begin with it.
    pub(super) fn strip<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_around_a_prefix_make_no_difference() {
        for text in ["api", "/api", "api/", "/api/"] {
            assert_eq!(PathPrefix::parse(text).unwrap().0, "/api", "{text}");
        }
        assert_eq!(PathPrefix::parse("/api/v1.0/~x_y-z").unwrap().0, "/api/v1.0/~x_y-z");
        for text in ["", "/"] {
            assert_eq!(PathPrefix::parse(text), Ok(PathPrefix::default()), "{text:?}");
        }
        assert!(PathPrefix::parse(&"a".repeat(255)).is_ok());
    }

    #[test]
    fn what_is_no_plain_path_is_refused() {
        let long = "a".repeat(256);
        for text in [
            "//",
            "//api",
            "/api//",
            "/a//b",
            ".",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a b",
            "/a?b",
            "/a#b",
            "/a%2fb",
            "/а",
            "/a\\b",
            "/*",
            "https://site.example/api",
            &long,
        ] {
            assert!(PathPrefix::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_is_below_a_prefix_as_a_whole() {
        let prefix = PathPrefix::parse("/api").unwrap();
        assert_eq!(prefix.strip("/api/posts/view"), Some("/posts/view"));
        assert_eq!(prefix.strip("/apis/posts/view"), Some("s/posts/view"), "which is no route");
        assert_eq!(prefix.strip("/posts/view"), None);
        assert_eq!(PathPrefix::default().strip("/posts/view"), Some("/posts/view"));
    }
}
