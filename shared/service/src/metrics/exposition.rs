//! The answer to a scrape: the text format 0.0.4, which every tool reads, or OpenMetrics where the client asks for it.

use std::fmt;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, VARY},
};
use prometheus_client::{
    encoding::{prometheus_text, text as open_metrics},
    registry::Registry,
};

use crate::respond::{self, Answer};

/// The version of OpenMetrics that is written.
const OPEN_METRICS_VERSION: &str = "1.0.0";

/// A format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// The text format of Prometheus.
    Text,
    /// OpenMetrics.
    OpenMetrics,
}

impl Format {
    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Text => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        })
    }

    fn encode(self, registry: &Registry) -> Result<String, fmt::Error> {
        let mut text = String::new();
        match self {
            Self::Text => prometheus_text::encode(&mut text, registry)?,
            Self::OpenMetrics => open_metrics::encode(&mut text, registry)?,
        }
        Ok(text)
    }
}

/// Returns the answer to a scrape, in the format that its headers ask for.
pub(crate) fn answer(registry: &Registry, headers: &HeaderMap) -> Answer {
    let format = preferred(headers);
    match format.encode(registry) {
        Ok(text) => {
            let mut answer = Response::new(Full::new(Bytes::from(text)));
            answer.headers_mut().insert(CONTENT_TYPE, format.content_type());
            answer.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
            answer
        }
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            respond::error(StatusCode::INTERNAL_SERVER_ERROR, "The metrics cannot be written")
        }
    }
}

/// Returns the format that a client prefers (RFC 9110, section 12.5.1): OpenMetrics where it names it and likes it as
/// well as text.
fn preferred(headers: &HeaderMap) -> Format {
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let (mut open_metrics, mut text, mut any) = (0.0_f32, None::<f32>, 0.0_f32);
    for range in ranges {
        let (name, quality, version) = parse(range);
        match name.as_str() {
            "application/openmetrics-text" if matches!(version, None | Some(OPEN_METRICS_VERSION)) => {
                open_metrics = open_metrics.max(quality);
            }
            "text/plain" => text = Some(text.unwrap_or_default().max(quality)),
            "text/*" | "*/*" => any = any.max(quality),
            _ => {}
        }
    }
    if open_metrics > 0.0 && open_metrics >= text.unwrap_or(any) { Format::OpenMetrics } else { Format::Text }
}

/// Returns the name, the quality and the version of a media range.
fn parse(range: &str) -> (String, f32, Option<&str>) {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let (mut quality, mut version) = (1.0, None);
    for parameter in parts {
        match parameter.split_once('=').map(|(name, value)| (name.trim(), value.trim().trim_matches('"'))) {
            Some(("q" | "Q", value)) => quality = value.parse().unwrap_or(0.0),
            Some(("version", value)) => version = Some(value),
            _ => {}
        }
    }
    (name, quality, version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &[&str]) -> Format {
        let headers: HeaderMap = accept.iter().map(|value| (ACCEPT, HeaderValue::from_str(value).unwrap())).collect();
        preferred(&headers)
    }

    #[test]
    fn text_is_what_everybody_gets_who_does_not_ask_for_more() {
        for accept in [
            &[][..],
            &["*/*"],
            &["text/plain"],
            &["text/html, */*;q=0.8"],
            &["application/openmetrics-text;q=0"],
            &["application/openmetrics-text;version=0.0.1"],
            &["application/openmetrics-text;q=0.1, text/plain"],
            &["application/openmetrics-text;q=x"],
            &["application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"],
            &["application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
            &[";;=,=;q", ""],
        ] {
            assert_eq!(of(accept), Format::Text, "{accept:?}");
        }
    }

    #[test]
    fn who_asks_for_open_metrics_gets_it() {
        for accept in [
            &["application/openmetrics-text"][..],
            &["Application/OpenMetrics-Text; Version=1"],
            &["application/openmetrics-text; version=\"1.0.0\"; charset=utf-8"],
            &["text/plain;q=0.5", "application/openmetrics-text"],
            // A server's own words.
            &["application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
               text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
            &["text/plain;q=0.1, application/openmetrics-text;q=0.2, */*"],
        ] {
            assert_eq!(of(accept), Format::OpenMetrics, "{accept:?}");
        }
    }
}
