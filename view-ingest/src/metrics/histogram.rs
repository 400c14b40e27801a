//! A histogram with one writer, which takes no lock: a worker's own, added up with those of the others by whoever looks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

/// A histogram that one thread adds to, of whole numbers in some unit.
#[derive(Debug)]
pub(crate) struct Histogram {
    /// The upper bounds of all buckets but the last, which has none.
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Adds a value.
    pub(crate) fn observe(&self, value: u64) {
        let place = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        add(&self.counts[place], 1);
        add(&self.sum, value);
    }
}

/// Adds to a number that no other thread writes, which need not be one step.
pub(super) fn add(number: &AtomicU64, value: u64) {
    number.store(number.load(Relaxed).wrapping_add(value), Relaxed);
}

/// Writes histograms with the same bounds as one, in a unit of which theirs is the `per_unit`th part.
pub(super) fn encode<'a>(
    shares: impl Iterator<Item = &'a Histogram>,
    per_unit: f64,
    mut metric: MetricEncoder<'_>,
) -> Result<(), std::fmt::Error> {
    let mut buckets: Vec<(f64, u64)> = Vec::new();
    let mut sum = 0;
    for share in shares {
        let bounds = share.bounds.iter().map(|bound| *bound as f64 / per_unit).chain([f64::INFINITY]);
        if buckets.is_empty() {
            buckets.extend(bounds.map(|bound| (bound, 0)));
        }
        for (bucket, count) in buckets.iter_mut().zip(&share.counts) {
            bucket.1 += count.load(Relaxed);
        }
        sum += share.sum.load(Relaxed);
    }
    // Not a number of its own, which could disagree with the buckets.
    let count = buckets.iter().map(|(_, count)| count).sum();
    metric.encode_histogram::<NoLabelSet>(sum as f64 / per_unit, count, &buckets, None)
}
