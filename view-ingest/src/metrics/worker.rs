//! What each worker counts for itself, and what a scrape is told of all of them together.
//!
//! A worker is one thread, so its numbers have one writer: to count a request takes no lock, no look-up of a label, and
//! no number that another processor writes, too.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter},
};

use super::histogram::{self, Histogram, add};

/// The nanoseconds of a second.
const NANOS: f64 = 1e9;
/// The classes of statuses by their first digits, from 1 on.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// The statuses of answers, the most frequent first, and what all others are called.
const STATUSES: [(u16, &str); 16] = [
    (200, "200"),
    (204, "204"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (413, "413"),
    (415, "415"),
    (429, "429"),
    (431, "431"),
    (500, "500"),
    (503, "503"),
    (504, "504"),
    (0, "other"),
];
/// The statuses that are told of a route also where there was none yet: a rate needs to see the first one come.
const ALWAYS_TOLD: [u16; 2] = [200, 503];
/// The bounds of the time that a request takes, in nanoseconds: from a quarter of a millisecond to five seconds.
const DURATION_BOUNDS: [u64; 14] = {
    let microseconds =
        [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000];
    let mut bounds = [0; 14];
    let mut place = 0;
    while place < bounds.len() {
        bounds[place] = microseconds[place] * 1_000;
        place += 1;
    }
    bounds
};
/// The bounds of the items of a batch.
const SIZE_BOUNDS: [u64; 12] = doubled(1);
/// The bounds of the time that a batch takes, in nanoseconds: from a tenth of a millisecond to 1.6 seconds.
const BATCH_BOUNDS: [u64; 15] = doubled(100_000);

const fn doubled<const N: usize>(first: u64) -> [u64; N] {
    let mut bounds = [first; N];
    let mut place = 1;
    while place < N {
        bounds[place] = bounds[place - 1] * 2;
        place += 1;
    }
    bounds
}

/// A route, as metrics tell requests apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// `POST /posts/view`
    View,
    /// `POST /posts/views-batch`
    Batch,
    /// `GET /posts/<id>/views`
    Count,
    /// `GET /posts/views`
    Counts,
    /// `GET /posts/viewed`
    Viewed,
    /// `GET /livez`
    Live,
    /// `GET /readyz`
    Ready,
    /// A path that nobody serves, or a connection that was refused before it had one.
    Unmatched,
}

impl Route {
    /// In the order of the variants.
    const ALL: [(Self, &'static str); 8] = [
        (Self::View, "/posts/view"),
        (Self::Batch, "/posts/views-batch"),
        (Self::Count, "/posts/{id}/views"),
        (Self::Counts, "/posts/views"),
        (Self::Viewed, "/posts/viewed"),
        (Self::Live, "/livez"),
        (Self::Ready, "/readyz"),
        (Self::Unmatched, "unmatched"),
    ];

    /// Returns the path as it is documented.
    pub(crate) fn path(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// The numbers of one worker, which no other thread writes.
#[derive(Debug)]
pub(crate) struct WorkerMetrics {
    /// Answers, by route and status.
    answers: [[AtomicU64; STATUSES.len()]; Route::ALL.len()],
    /// Nanoseconds that requests took, by route.
    durations: [Histogram; Route::ALL.len()],
    /// Views and reads in a batch.
    pub(crate) batch_size: Histogram,
    /// Nanoseconds from the first command of a batch to its last reply.
    batch_duration: Histogram,
}

impl Default for WorkerMetrics {
    fn default() -> Self {
        Self {
            answers: Default::default(),
            durations: std::array::from_fn(|_| Histogram::new(&DURATION_BOUNDS)),
            batch_size: Histogram::new(&SIZE_BOUNDS),
            batch_duration: Histogram::new(&BATCH_BOUNDS),
        }
    }
}

impl WorkerMetrics {
    /// Counts the answer to a request.
    pub(crate) fn answered(&self, route: Route, status: u16, took: Duration) {
        self.count(route, status);
        self.durations[route as usize].observe(nanoseconds(took));
    }

    /// Counts the answer to a client of which there was no request, or not a whole one.
    pub(crate) fn refused(&self, status: u16) {
        self.count(Route::Unmatched, status);
    }

    /// Notes how long a batch took.
    pub(crate) fn batch_took(&self, took: Duration) {
        self.batch_duration.observe(nanoseconds(took));
    }

    fn count(&self, route: Route, status: u16) {
        let place = STATUSES.iter().position(|(known, _)| *known == status).unwrap_or(STATUSES.len() - 1);
        add(&self.answers[route as usize][place], 1);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The numbers of all workers.
#[derive(Debug)]
pub(super) struct Workers(pub(super) Arc<[Arc<WorkerMetrics>]>);

impl Workers {
    /// Returns the number of answers, by route and status.
    fn answers(&self, route: Route, status: usize) -> u64 {
        self.0.iter().map(|worker| worker.answers[route as usize][status].load(Relaxed)).sum()
    }

    /// Returns the number of answers of one class.
    fn of_class(&self, class: usize) -> u64 {
        let statuses = STATUSES.iter().enumerate().filter(|(_, (status, _))| usize::from(status / 100) == class + 1);
        statuses.flat_map(|(place, _)| Route::ALL.iter().map(move |(route, _)| self.answers(*route, place))).sum()
    }

    fn encode_answers(&self, mut metric: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for (route, name) in Route::ALL {
            for (place, (status, label)) in STATUSES.into_iter().enumerate() {
                let answers = self.answers(route, place);
                if answers > 0 || ALWAYS_TOLD.contains(&status) {
                    let labels = [("route", name), ("status", label)];
                    ConstCounter::new(answers).encode(metric.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

impl Collector for Workers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help =
            "HTTP requests that were answered, by route and status; unmatched: of no route, or refused before it was read.";
        self.encode_answers(encoder.encode_descriptor("http_requests", help, None, MetricType::Counter)?)?;

        let help = "HTTP responses by the class of their status.";
        let mut metric = encoder.encode_descriptor("http_responses", help, None, MetricType::Counter)?;
        for (class, label) in CLASSES.into_iter().enumerate() {
            ConstCounter::new(self.of_class(class)).encode(metric.encode_family(&[("class", label)])?)?;
        }

        let help = "Seconds from a request's head to its answer, by route; a slow client's body counts.";
        let mut metric = encoder.encode_descriptor("http_request_duration_seconds", help, None, MetricType::Histogram)?;
        for (route, label) in Route::ALL {
            let shares = self.0.iter().map(|worker| &worker.durations[route as usize]);
            histogram::encode(shares, NANOS, metric.encode_family(&[("route", label)])?)?;
        }

        let help = "Views and reads in a batch.";
        let metric = encoder.encode_descriptor("batch_size", help, None, MetricType::Histogram)?;
        histogram::encode(self.0.iter().map(|worker| &worker.batch_size), 1.0, metric)?;

        let help = "Seconds from the first command of a batch to its last reply.";
        let metric = encoder.encode_descriptor("batch_seconds", help, None, MetricType::Histogram)?;
        histogram::encode(self.0.iter().map(|worker| &worker.batch_duration), NANOS, metric)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::prometheus_text, registry::Registry};

    use super::*;

    fn text(workers: &[Arc<WorkerMetrics>]) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Workers(workers.into())));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).unwrap();
        text
    }

    #[track_caller]
    fn assert_lines(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn routes_and_statuses_are_in_the_order_of_their_places() {
        for (place, (route, _)) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, place);
        }
        assert_eq!(STATUSES.last(), Some(&(0, "other")));
    }

    #[test]
    fn the_workers_numbers_are_added_up() {
        let workers = [(); 2].map(|()| Arc::new(WorkerMetrics::default()));
        workers[0].answered(Route::View, 200, Duration::from_micros(250));
        workers[1].answered(Route::View, 200, Duration::from_micros(251));
        workers[1].answered(Route::View, 418, Duration::from_secs(6));
        workers[0].answered(Route::Count, 404, Duration::ZERO);
        workers[0].refused(503);
        let view = |rest: &str| format!("http_request_duration_seconds_{}", rest.replace('{', "{route=\"/posts/view\""));
        assert_lines(
            &text(&workers),
            &[
                "http_requests_total{route=\"/posts/view\",status=\"200\"} 2",
                "http_requests_total{route=\"/posts/view\",status=\"other\"} 1",
                "http_requests_total{route=\"/posts/{id}/views\",status=\"404\"} 1",
                "http_requests_total{route=\"/posts/{id}/views\",status=\"503\"} 0",
                "http_requests_total{route=\"unmatched\",status=\"503\"} 1",
                "http_responses_total{class=\"2xx\"} 2",
                "http_responses_total{class=\"4xx\"} 1",
                "http_responses_total{class=\"5xx\"} 1",
                &view("bucket{,le=\"0.00025\"} 1"),
                &view("bucket{,le=\"0.0005\"} 2"),
                &view("bucket{,le=\"5\"} 2"),
                &view("bucket{,le=\"+Inf\"} 3"),
                &view("sum{} 6.000501"),
                &view("count{} 3"),
            ],
        );
    }

    #[test]
    fn batches_have_the_bounds_that_they_always_had() {
        let worker = Arc::new(WorkerMetrics::default());
        worker.batch_size.observe(1);
        worker.batch_size.observe(2_049);
        worker.batch_took(Duration::from_micros(100));
        assert_lines(
            &text(&[worker]),
            &[
                "batch_size_bucket{le=\"1\"} 1",
                "batch_size_bucket{le=\"2048\"} 1",
                "batch_size_bucket{le=\"+Inf\"} 2",
                "batch_size_sum 2050.0",
                "batch_seconds_bucket{le=\"0.0001\"} 1",
                "batch_seconds_bucket{le=\"1.6384\"} 1",
                "batch_seconds_count 1",
            ],
        );
    }
}
