//! The HTTP surface as the settings shape it: below which path it is, and what pages of other origins may do.

use clap::Args;
use views_core::settings::{Problems, Setting};
use views_service::cors::{AllowedOrigin, Cors};

use crate::api::path_prefix::PathPrefix;

/// The flags of the HTTP surface.
#[derive(Debug, Clone, Args)]
pub(crate) struct SurfaceArgs {
    /// An origin whose pages may call view-ingest, such as `https://site.example`, or `*`; repeatable, or with commas
    /// [default: none]
    ///
    /// Preflights are answered, and all answers to such a page can be read by it, errors too. Pages of a named origin
    /// may send cookies. With `*`, pages of all origins may call, without cookies. An origin is a scheme, a host and
    /// perhaps a port, without a path and without a slash at its end. docs/web.md has more.
    #[arg(long, env = "VIEW_INGEST_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    cors_origin: Vec<Setting>,
    /// A cookie with the token, for requests without Authorization [default: none]
    ///
    /// Browsers send cookies along with requests of any page. So a view with such a token is taken only where its
    /// `Origin` is one that --cors-origin names, or has the request's own host and port; else it is answered 403. `*`
    /// names nobody.
    #[arg(long, env = "JWT_COOKIE", value_name = "NAME")]
    jwt_cookie: Option<Setting>,
    /// A path that stands before those of all routes, such as /api [default: none]
    ///
    /// With /api it is `POST /api/posts/view` and so on, and `/posts/view` is not found. /livez and /readyz answer
    /// below it and without it.
    #[arg(long, env = "VIEW_INGEST_PATH_PREFIX", value_name = "PATH")]
    path_prefix: Option<Setting>,
}

/// The HTTP surface.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surface {
    /// Which pages of other origins may call; nothing where none may.
    pub(super) cors: Option<Cors>,
    /// The name of the cookie that a token may come in.
    pub(super) cookie: Option<String>,
    /// What stands before all paths.
    pub(super) path_prefix: PathPrefix,
}

impl SurfaceArgs {
    /// Returns what they mean, and notes what is wrong with them.
    pub(crate) fn resolve(&self, problems: &mut Problems) -> Surface {
        let origins = self.cors_origin.iter();
        let origins = origins.filter_map(|origin| problems.optional(Some(origin), AllowedOrigin::parse)).collect();
        let cookie = problems.optional(self.jwt_cookie.as_ref(), cookie_name);
        let path_prefix = problems.optional(self.path_prefix.as_ref(), PathPrefix::parse).unwrap_or_default();
        Surface { cors: Cors::new(origins), cookie, path_prefix }
    }
}

/// Parses the name of a cookie (RFC 6265, section 4.1.1).
fn cookie_name(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.bytes().all(is_token) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not the name of a cookie, such as session or __Host-token"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        surface: SurfaceArgs,
    }

    fn resolve(flags: &[&str]) -> (Surface, Problems) {
        let mut problems = Problems::default();
        let surface = Cli::parse_from(std::iter::once("test").chain(flags.iter().copied())).surface.resolve(&mut problems);
        (surface, problems)
    }

    #[test]
    fn origins_are_given_one_by_one_or_with_commas() {
        for flags in [
            &["--cors-origin", "https://a.example,http://b.example:81"][..],
            &["--cors-origin", "https://a.example", "--cors-origin", "http://b.example:81"],
            &["--cors-origin", " https://a.example , http://b.example:81 ,"],
        ] {
            let (surface, problems) = resolve(flags);
            let cors = surface.cors.unwrap();
            for origin in ["https://a.example", "http://b.example:81"] {
                assert!(cors.allows_credentials(&origin.parse().unwrap()), "{flags:?} {origin}");
            }
            assert!(problems.is_empty(), "{flags:?}");
        }
        assert!(resolve(&[]).0.cors.is_none());
        assert!(resolve(&["--cors-origin", ""]).0.cors.is_none());
    }

    #[test]
    fn each_origin_that_is_none_is_one_complaint() {
        let (_, problems) = resolve(&["--cors-origin", "https://a.example/,https://b.example,null", "--jwt-cookie", "a b"]);
        let flags: Vec<&str> = problems.all().iter().map(|text| text.split(':').next().unwrap()).collect();
        assert_eq!(flags, ["--cors-origin", "--cors-origin", "--jwt-cookie"], "{:?}", problems.all());
    }

    #[test]
    fn the_name_of_a_cookie_is_a_token() {
        for name in ["session", "__Host-token", "next-auth.session-token", "a!#$%&'*+-.^_`|~9"] {
            assert_eq!(cookie_name(name), Ok(name.to_owned()));
        }
        for name in ["a=b", "a;b", "a b", "\"a\"", "a,b", "имя", "a\u{7f}", "[a]"] {
            assert!(cookie_name(name).is_err(), "{name}");
        }
    }
}
