//! Medians and percentiles.

/// Returns the middle of the numbers; of an even number of them, the mean of the middle two. Zero where there are none.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let half = numbers.len() / 2;
    match numbers.len() {
        0 => 0.0,
        length if length % 2 == 1 => numbers[half],
        _ => f64::midpoint(numbers[half - 1], numbers[half]),
    }
}

/// Times of answers, from which percentiles are read.
#[derive(Debug, Default, Clone)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// Takes times in any order, in any unit.
    pub(crate) fn new(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// Returns the smallest time that so many percent of all do not exceed (the nearest rank). Zero where there are none.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let rank = (percent / 100.0 * self.0.len() as f64).ceil().max(1.0) as usize;
        self.0.get(rank - 1).or(self.0.last()).copied().unwrap_or(0.0)
    }

    /// Returns the longest.
    pub(crate) fn max(&self) -> f64 {
        self.percentile(100.0)
    }

    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_of_any_order() {
        assert_eq!(median([]), 0.0);
        assert_eq!(median([9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn a_percentile_is_a_time_that_was_measured() {
        let times = Times::new((1..=200).rev().map(f64::from).collect());
        assert_eq!([times.percentile(50.0), times.percentile(99.0), times.max()], [100.0, 198.0, 200.0]);
        assert_eq!(times.percentile(0.0), 1.0);
        assert_eq!(Times::default().percentile(99.0), 0.0);
    }
}
