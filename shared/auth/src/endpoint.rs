//! The URL of an issuer's keys, and the request for them: bounded in time, in size and in the number of redirections.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, LOCATION, USER_AGENT},
};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connect, HttpConnector},
    },
    rt::TokioExecutor,
};
use url::Url;
use views_core::{
    network::is_loopback,
    tls::{self, Trust},
};

/// How long a request may take in all.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest set, in bytes. Those of large issuers have some ten thousand.
const MAX_BYTES: usize = 1024 * 1024;
/// How many redirections are followed.
const MAX_REDIRECTS: usize = 3;

/// The URL of a set of keys.
#[derive(Clone)]
pub struct Endpoint {
    url: Url,
}

/// Leaves out what stands in the query, which may be a secret.
impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Endpoint").field(&self.describe()).finish()
    }
}

/// Why there is no set.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("it did not answer in time (5 s)")]
    TooSlow,
    #[error("TLS cannot be set up: {0}")]
    Tls(std::io::Error),
    #[error("{0}")]
    Unreachable(String),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("it redirects to what is no URL, or from https to less")]
    BadRedirect,
    #[error("it redirects more than 3 times")]
    TooManyRedirects,
    #[error("it answered with more than 1 MiB, or broke off")]
    Body,
}

impl Endpoint {
    /// Parses a URL.
    ///
    /// # Errors
    /// What is wrong with it, which does not repeat it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "is not a URL such as https://issuer.example/.well-known/jwks.json")?;
        if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
            return Err("must begin with https:// (or http://, within a network that nobody else is in)");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("takes no user and no password: a set of public keys needs none");
        }
        Ok(Self { url })
    }

    /// Returns a warning where others on the way can put in keys of their own.
    pub(super) fn exposed(&self, setting: &str) -> Option<String> {
        let host = self.url.host_str().unwrap_or_default();
        (self.url.scheme() == "http" && !is_loopback(host)).then(|| {
            format!(
                "{setting}: whoever stands between here and {host} can put in keys of their own, and is any user then: use https://"
            )
        })
    }

    /// Returns the URL for logs, without its query.
    pub(super) fn describe(&self) -> String {
        let port = self.url.port().map_or_else(String::new, |port| format!(":{port}"));
        format!("{}://{}{port}{}", self.url.scheme(), self.url.host_str().unwrap_or_default(), self.url.path())
    }

    /// Returns what the issuer answers.
    pub(super) async fn fetch(&self) -> Result<Bytes, FetchError> {
        tokio::time::timeout(TIMEOUT, follow(self.url.clone())).await.unwrap_or(Err(FetchError::TooSlow))
    }
}

async fn follow(mut url: Url) -> Result<Bytes, FetchError> {
    for _ in 0..=MAX_REDIRECTS {
        let response = get(&url).await?;
        let status = response.status();
        if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return if status == StatusCode::OK { read(response).await } else { Err(FetchError::Status(status)) };
        }
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let next = location.and_then(|location| url.join(location).ok()).ok_or(FetchError::BadRedirect)?;
        if next.scheme() != "https" && next.scheme() != url.scheme() {
            return Err(FetchError::BadRedirect);
        }
        url = next;
    }
    Err(FetchError::TooManyRedirects)
}

async fn read(response: Response<Incoming>) -> Result<Bytes, FetchError> {
    let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|_| FetchError::Body)
}

/// Asks once. Nothing is kept for the next time: that is minutes away, and the roots may have changed by then.
async fn get(url: &Url) -> Result<Response<Incoming>, FetchError> {
    let mut tcp = HttpConnector::new();
    if url.scheme() == "http" {
        return request(tcp, url).await;
    }
    tcp.enforce_http(false);
    let config = tls::client_config(&Trust::Platform).map_err(FetchError::Tls)?;
    let tls = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().wrap_connector(tcp);
    request(tls, url).await
}

async fn request(connector: impl Connect + Clone + Send + Sync + 'static, url: &Url) -> Result<Response<Incoming>, FetchError> {
    let request = Request::get(url.as_str())
        .header(ACCEPT, "application/json, application/jwk-set+json")
        .header(USER_AGENT, concat!("views/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchError::BadRedirect)?;
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    client.request(request).await.map_err(|error| FetchError::Unreachable(in_words(&error)))
}

/// Returns an error with its causes, which say what happened.
fn in_words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        // Some causes repeat theirs.
        if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_query_and_refused_without_being_repeated() {
        let url = "https://issuer.example:8443/keys?apikey=hidden#x";
        let endpoint = Endpoint::parse(url).unwrap();
        assert_eq!(endpoint.describe(), "https://issuer.example:8443/keys");
        assert!(!format!("{endpoint:?}").contains("hidden"));
        let google = "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com";
        assert_eq!(Endpoint::parse(google).unwrap().describe(), google);
        for bad in [
            "hidden",
            "/hidden.json",
            "file:///hidden",
            "ftp://hidden/x",
            "https://u:hidden@h/x",
            "https://hidden@h/x",
            "https://",
        ] {
            assert!(!Endpoint::parse(bad).unwrap_err().contains("hidden"), "{bad}");
        }
    }

    #[test]
    fn only_a_distant_host_without_tls_is_warned_of() {
        let warning = |url: &str| Endpoint::parse(url).unwrap().exposed("--jwt-jwks-url");
        for safe in ["https://issuer.example/keys", "http://localhost:8080/keys", "http://127.0.0.1/keys", "http://[::1]/keys"] {
            assert_eq!(warning(safe), None, "{safe}");
        }
        let warning = warning("http://keycloak:8080/realms/x?hidden").unwrap();
        assert!(warning.contains("here and keycloak can") && !warning.contains("hidden"), "{warning}");
    }
}
